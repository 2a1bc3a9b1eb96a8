// SPDX-License-Identifier: GPL-2.0-only
//! Where clients come in, and who they are.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Gid;

use crate::raw::peer_groups;

/// Who asks, by what the kernel said when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Peer {
    /// Root, who may change what it likes.
    Root,
    /// A user who may read, by being in the group for that.
    Reader(u32),
    /// Another user.
    Stranger(u32),
    /// Whoever can reach the port.
    Anybody,
}

impl Peer {
    /// How many clients there can be of this one alone, and of all of its kind together.
    pub(super) const fn most(self) -> (usize, usize) {
        match self {
            Self::Root => (32, 32),
            Self::Reader(_) | Self::Stranger(_) => (8, 32),
            Self::Anybody => (16, 16),
        }
    }

    /// Whether they share a room: so that nobody else's clients take root's.
    pub(super) fn is_kind_of(self, other: Self) -> bool {
        let is_user = |peer| matches!(peer, Self::Reader(_) | Self::Stranger(_));
        self == other || (is_user(self) && is_user(other))
    }
}

/// A socket that listens; its file goes when it is dropped.
pub(super) enum Listener {
    Unix(UnixListener, PathBuf, Option<Gid>),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at `path`; also whether the group `readers` could be given the socket.
    pub(super) fn at_path(path: &Path, readers: Option<Gid>) -> Result<(Self, io::Result<()>)> {
        let cannot = || format!("cannot listen at {}", path.display());
        remove_socket(path).with_context(cannot)?;
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.with_context(cannot)?;
        listener.set_nonblocking(true)?;
        let given = readers.map_or(Ok(()), |readers| give(path, readers));
        let listener = Self::Unix(listener, path.into(), readers);
        Ok((listener, given))
    }

    /// Listens at a port.
    pub(super) fn at_port(address: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(listener))
    }

    /// The next one at the door, and who it is.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match self {
            Self::Unix(listener, _, readers) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let peer = peer(&stream, *readers)?;
                Ok((stream.into(), peer))
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((stream.into(), Peer::Anybody))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, ..) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path, _) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// Who connected: the user and the groups it had then, as unix(7) says of `SO_PEERCRED`. Root of
/// another user namespace is the user there that it is here.
pub(super) fn peer(stream: &UnixStream, readers: Option<Gid>) -> io::Result<Peer> {
    let who = getsockopt(stream, PeerCredentials)?;
    if who.uid() == 0 {
        return Ok(Peer::Root);
    }
    let Some(readers) = readers.map(Gid::as_raw) else {
        return Ok(Peer::Stranger(who.uid()));
    };
    Ok(
        if who.gid() == readers || peer_groups(stream)?.contains(&readers) {
            Peer::Reader(who.uid())
        } else {
            Peer::Stranger(who.uid())
        },
    )
}

/// Lets this group connect to the socket, which was root's alone.
fn give(path: &Path, readers: Gid) -> io::Result<()> {
    chown(path, None, Some(readers.as_raw()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
}

/// Removes the socket at `path`; what is none stays, and is told of.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something that is no socket stands there",
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
