// SPDX-License-Identifier: GPL-2.0-only
//! The control socket: a client connects and is told the status, one JSON object in a line.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::stat::{Mode, umask};

use crate::gate::pins;
use crate::report::Status;

/// Where the daemon listens. Only root may connect.
pub const SOCKET: &str = "/run/coregate/control.sock";

/// An answer that a client does not take in this time is given up, so that no client can
/// hold the daemon.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// A client gives up on a daemon that says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening end; the socket's file goes when it is dropped.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens at `path`. The caller is the only daemon, so a file that stands there is left
    /// over from one that died.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.with_context(|| format!("cannot listen at {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers one client that waits, if there is one. A client that went away or does not
    /// read harms nobody but itself.
    pub(super) fn answer(&self, status: impl FnOnce() -> Result<Status>) {
        let Ok((client, _)) = self.listener.accept() else {
            return;
        };
        let _ = send(client, status);
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn send(mut client: UnixStream, status: impl FnOnce() -> Result<Status>) -> Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(ANSWER_TIME))?;
    let mut line = serde_json::to_vec(&status()?)?;
    line.push(b'\n');
    Ok(client.write_all(&line)?)
}

/// Asks the daemon that listens at `path` for its status.
///
/// # Errors
///
/// No daemon listens there, this user may not ask, or the answer is not one.
pub fn ask(path: &Path) -> Result<Status> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => bail!(
                "no daemon is running (nothing listens at {}){}; start one with \
                 'coregate daemon --policy FILE'",
                path.display(),
                if pins::stands() {
                    ", but a gate stands without one"
                } else {
                    ""
                }
            ),
            io::ErrorKind::PermissionDenied => bail!(
                "only root may ask the daemon ({}: permission denied); try with sudo",
                path.display()
            ),
            _ => {
                return Err(error).with_context(|| format!("cannot connect to {}", path.display()));
            }
        },
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("the daemon at {} did not answer", path.display()))?;
    serde_json::from_slice(&answer)
        .with_context(|| format!("the daemon at {} gave no status", path.display()))
}
