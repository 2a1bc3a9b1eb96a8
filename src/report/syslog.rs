// SPDX-License-Identifier: GPL-2.0-only
//! The system log.
//!
//! The `syslog` crate makes the records; the socket is ours, because the crate's own never
//! reconnects once the log daemon was restarted, and waits while its queue is full.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use syslog::{Facility, Formatter3164, LogFormat, Severity};

/// Where `syslog(3)` sends to.
const DEV_LOG: &str = "/dev/log";

/// A sender to the log daemon that survives its restarts and never waits for it.
pub struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    formatter: Formatter3164,
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
            lost: 0,
        }
    }

    /// Logs one line, or counts it as lost.
    pub fn send(&mut self, severity: Severity, line: &str) {
        let mut record = Vec::new();
        let sent = match self.formatter.format(&mut record, severity, line) {
            Ok(()) => self
                .try_send(&record)
                .or_else(|_| self.reconnect_and_send(&record)),
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

    fn try_send(&self, record: &[u8]) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.send(record).map(drop)
    }

    fn reconnect_and_send(&mut self, record: &[u8]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        self.socket = Some(socket);
        self.try_send(record)
    }
}

#[cfg(test)]
mod tests;
