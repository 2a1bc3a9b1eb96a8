// SPDX-License-Identifier: GPL-2.0-only
//! The system log.
//!
//! The `syslog` crate makes the records; the socket is ours, because the crate's own never
//! reconnects once the log daemon was restarted, and waits for ever while its queue is full.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use syslog::{Facility, Formatter3164, LogFormat, Severity};

/// Where `syslog(3)` sends to.
const DEV_LOG: &str = "/dev/log";

/// How long a line waits for room in the queue of the log daemon, which by default holds no
/// more than 10 (net.unix.max_dgram_qlen).
const WAIT: Duration = Duration::from_secs(1);

/// A sender to the log daemon that survives its restarts and waits for it only briefly.
pub struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    formatter: Formatter3164,
    /// The last line found no room in time: until one does, none waits.
    stalled: bool,
    lost: u64,
}

impl Default for Syslog {
    fn default() -> Self {
        Self::new(Path::new(DEV_LOG))
    }
}

impl Syslog {
    /// A sender to the log daemon that listens at `path`; it need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            socket: None,
            formatter: Formatter3164 {
                facility: Facility::LOG_DAEMON,
                hostname: None,
                process: env!("CARGO_PKG_NAME").into(),
                pid: std::process::id(),
            },
            stalled: false,
            lost: 0,
        }
    }

    /// Logs one line, or counts it as lost.
    pub fn send(&mut self, severity: Severity, line: &str) {
        let mut record = Vec::new();
        let sent = match self.formatter.format(&mut record, severity, line) {
            Ok(()) => self.send_record(&record),
            Err(error) => Err(io::Error::other(error)),
        };
        if sent.is_err() {
            self.lost += 1;
        }
    }

    /// The lines that no log daemon took.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn send_record(&mut self, record: &[u8]) -> io::Result<()> {
        let mut sent = self.try_send(record);
        if sent
            .as_ref()
            .is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
        {
            self.connect()?;
            sent = self.try_send(record);
        }
        let stalled = sent
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if stalled != self.stalled {
            self.stalled = stalled;
            if let Some(socket) = &self.socket {
                socket.set_nonblocking(stalled)?;
            }
        }
        sent
    }

    fn try_send(&self, record: &[u8]) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(ErrorKind::NotConnected)?;
        socket.send(record).map(drop)
    }

    fn connect(&mut self) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT))?;
        socket.connect(&self.path)?;
        self.socket = Some(socket);
        self.stalled = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
