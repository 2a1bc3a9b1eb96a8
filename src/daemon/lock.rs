// SPDX-License-Identifier: GPL-2.0-only
//! One daemon at a time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Where the daemon keeps what lives as long as it does.
const DIR: &str = "/run/coregate";

/// Another daemon runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "another coregate daemon is running (it holds {DIR}/lock); \
     stop it first, or ask it with 'coregate status'"
)]
pub struct Busy;

/// Held by the daemon for as long as it runs; the kernel gives it back when it dies.
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of this machine's daemon.
    ///
    /// # Errors
    ///
    /// [`Busy`] if another daemon holds it, else what failed with the file.
    pub fn take() -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(DIR)
            .with_context(|| format!("cannot make {DIR}"))?;
        let path = Path::new(DIR).join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Busy.into()),
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}
