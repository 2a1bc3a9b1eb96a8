// SPDX-License-Identifier: GPL-2.0-only
//! The folder outside the repository that keeps what was fetched.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

/// The cache, held by this process alone until dropped.
pub(crate) struct Cache {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Opens `$XDG_CACHE_HOME/coregate`, or `~/.cache/coregate`, and waits
    /// until no other run is filling it.
    ///
    /// # Errors
    /// When neither variable is set, or the folder cannot be made or locked.
    pub(crate) fn open() -> Result<Self> {
        let root = root()?;
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let path = root.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { root, _lock: lock })
    }

    /// The folder `name` of the cache, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
        make_dir(&self.root.join(name))
    }
}

/// Makes `path` with its parents and returns it.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_dir(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path.to_path_buf())
}

/// Writes `text` to `path` so that a reader sees the old or the new file,
/// never a part of it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn root() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(base) = set("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(base).join("coregate"));
    }
    set("HOME")
        .map(|home| PathBuf::from(home).join(".cache/coregate"))
        .ok_or_else(|| anyhow!("no cache folder: set XDG_CACHE_HOME or HOME"))
}
