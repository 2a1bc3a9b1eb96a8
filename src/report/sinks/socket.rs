// SPDX-License-Identifier: GPL-2.0-only
//! The socket of a log daemon. It survives restarts of the daemon, and waits for it only so long.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::SndBuf};

use super::queue::Destination;
use crate::raw;

/// How long a line waits for room in the queue of the log daemon, which may hold no more than 10
/// (net.unix.max_dgram_qlen), or for one that is being restarted. Once one has waited in vain, none
/// waits until one is taken.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a try takes.
const TRY: Duration = Duration::from_millis(100);

/// The most bytes that can be sent and not read yet. The kernel takes the memory of a record,
/// which is more than its length, from a budget of twice what is asked for (socket(7)).
const MOST_UNREAD: usize = 64 << 10;

/// A sender to the log daemon at a path; it need not be there yet.
///
/// What a log daemon has not read when it ends is gone, and nobody is told. So what may be unread
/// is kept, and sent to the next one: a line may then come twice, but none is lost uncounted.
pub(super) struct Socket {
    path: PathBuf,
    patience: Duration,
    socket: Option<UnixDatagram>,
    /// The last line was not taken in time.
    down: bool,
    /// What was sent, and maybe not read, oldest first.
    unread: VecDeque<Vec<u8>>,
    unread_bytes: usize,
    /// What was maybe not read by a log daemon that is gone.
    again: VecDeque<Vec<u8>>,
}

impl Socket {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            patience: PATIENCE,
            socket: None,
            down: false,
            unread: VecDeque::new(),
            unread_bytes: 0,
            again: VecDeque::new(),
        }
    }

    fn try_write(&mut self, record: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(self.connect()?);
        }
        while let Some(first) = self.again.front().cloned() {
            self.send(&first)?;
            self.again.pop_front();
        }
        self.send(record)
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        setsockopt(&socket, SndBuf, &(MOST_UNREAD / 2))?;
        socket.set_write_timeout(Some(TRY))?;
        socket.set_nonblocking(self.down)?;
        socket.connect(&self.path)?;
        Ok(socket)
    }

    /// A socket of which the other end is closed refuses what is sent. So if it takes this record,
    /// and was empty before, all before it was read.
    fn send(&mut self, record: &[u8]) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(ErrorKind::NotConnected)?;
        let unread = raw::unread(socket.as_fd())?;
        socket.send(record)?;
        if unread == 0 {
            self.unread.clear();
            self.unread_bytes = 0;
        }
        while self.unread_bytes > MOST_UNREAD
            && let Some(read) = self.unread.pop_front()
        {
            self.unread_bytes -= read.len();
        }
        self.unread_bytes += record.len();
        self.unread.push_back(record.to_vec());
        Ok(())
    }

    fn disconnect(&mut self) {
        self.socket = None;
        self.unread.append(&mut self.again);
        self.again = mem::take(&mut self.unread);
        self.unread_bytes = 0;
    }

    fn set_down(&mut self, down: bool) {
        if down != self.down {
            self.down = down;
            // Of an open socket that cannot fail.
            let _ = self
                .socket
                .as_ref()
                .map(|socket| socket.set_nonblocking(down));
        }
    }
}

impl Destination for Socket {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        let mut anew = self.socket.is_none();
        loop {
            let error = match self.try_write(record) {
                Ok(()) => {
                    self.set_down(false);
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
                return Err(error);
            }
            let full = error.kind() == ErrorKind::WouldBlock;
            if !full {
                self.disconnect();
            }
            if !full && !mem::replace(&mut anew, true) {
                // There may be a new log daemon already.
                continue;
            }
            if self.down || began.elapsed() >= self.patience {
                self.set_down(true);
                return Err(error);
            }
            if !full {
                sleep(TRY);
            }
        }
    }

    fn returned(&self) -> u64 {
        self.again.len() as u64
    }
}

#[cfg(test)]
mod tests;
