// SPDX-License-Identifier: GPL-2.0-only
//! What stays in the kernel when the daemon ends: links, by which the hooks stay attached, and
//! the maps of claims. It is pinned in a BPF file system (kernel/bpf/inode.c), for root alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, MapCore, MapHandle, MapMut, OpenMapMut};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where the gate is pinned.
pub const ROOT: &str = "/sys/fs/bpf/coregate";

/// The links of the attached hooks, by their programs' names.
const LINKS: &str = "links";
/// A name there has no dots (bpf_lookup(), kernel/bpf/inode.c).
const NEW_LINKS: &str = "new-links";

/// The maps of claims. The number changes with the form of what they hold: a gate that knows
/// another form begins without claims.
const CLAIMS: &str = "claims-1";

/// Why the gate could not be pinned or taken down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no BPF file system.
    #[error(
        "no BPF file system is mounted at {PARENT}, where the gate is to stay when the daemon \
         ends; mount it with 'mount -t bpf bpf {PARENT}', or start the daemon with --no-persist"
    )]
    NoFileSystem,
    /// A file or folder there could not be made, moved or removed.
    #[error("cannot {what} {}: {cause}", path.display())]
    Path {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The kernel refused to pin a map or a link, or to open one.
    #[error("cannot pin the gate in {ROOT}: {0}")]
    Kernel(#[from] libbpf_rs::Error),
}

/// Where systemd mounts a BPF file system.
const PARENT: &str = "/sys/fs/bpf";

fn at(folder: &str) -> PathBuf {
    Path::new(ROOT).join(folder)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Path {
        what,
        path: path.to_owned(),
        cause,
    }
}

/// Whether a gate is pinned, with or without a daemon.
pub fn stands() -> bool {
    at(LINKS).exists()
}

/// Lets maps that are not loaded yet be those of the gate that stands, if it has all of them in
/// the same size.
pub(super) fn reuse(maps: &mut [(&str, &mut OpenMapMut<'_>)]) -> Result<(), Error> {
    let same = |(name, map): &(&str, &mut OpenMapMut<'_>)| {
        MapHandle::from_pinned_path(at(CLAIMS).join(name)).is_ok_and(|pinned| {
            pinned.max_entries() == map.max_entries() && pinned.value_size() == map.value_size()
        })
    };
    if !maps.iter().all(same) {
        return Ok(());
    }
    for (name, map) in maps {
        map.reuse_pinned_map(at(CLAIMS).join(name))?;
    }
    Ok(())
}

/// Whether a gate can stay: there is a file system for it.
pub(super) fn can_stay() -> Result<(), Error> {
    let magic = statfs(PARENT).map(|fs| fs.filesystem_type());
    if magic == Ok(BPF_FS_MAGIC) {
        Ok(())
    } else {
        Err(Error::NoFileSystem)
    }
}

/// Pins the gate in place of what stands there: it has just been attached, so there is no moment
/// without one.
pub(super) fn pin(
    links: &mut [(String, Link)],
    maps: &mut [(&str, &mut MapMut<'_>)],
) -> Result<(), Error> {
    remove(&at(NEW_LINKS))?;
    remove(&at(CLAIMS))?;
    for folder in [LINKS, NEW_LINKS, CLAIMS].map(at) {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(failed("make", &folder))?;
    }
    for (name, map) in maps {
        map.pin(at(CLAIMS).join(name))?;
    }
    for (name, link) in &mut *links {
        link.pin(at(NEW_LINKS).join(name))?;
    }
    let old = names(&at(LINKS))?;
    for (name, _) in links.iter() {
        let (from, to) = (at(NEW_LINKS).join(name), at(LINKS).join(name));
        fs::rename(&from, &to).map_err(failed("move", &from))?;
    }
    for name in old {
        if !links.iter().any(|(new, _)| *new == name) {
            remove(&at(LINKS).join(name))?;
        }
    }
    remove(&at(NEW_LINKS))
}

/// Takes down the gate that is pinned: the names of the hooks that it was attached to. Its claims
/// are gone then, too.
///
/// # Errors
///
/// A file could not be removed; what was before it is.
pub fn detach() -> Result<Vec<String>, Error> {
    let names = names(&at(LINKS))?;
    remove(Path::new(ROOT))?;
    Ok(names)
}

/// The names in a folder, in order; none if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
    let names: io::Result<Vec<String>> = entries.and_then(|entries| entries.map(name).collect());
    let mut names = names.map_err(failed("read", folder))?;
    names.sort();
    Ok(names)
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
