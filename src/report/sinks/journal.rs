// SPDX-License-Identifier: GPL-2.0-only
//! Records for systemd's journal, in its native protocol: a datagram of fields, each a line
//! `NAME=value`, or, if there are newlines in the value, the name, a newline, the length of the
//! value in 8 bytes, little-endian, the value, and a newline
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! A record that is too long for a datagram could be handed over in a file. None of ours is: with
//! the longest paths and arguments that an event has it is below 30 KB. One that is nevertheless is
//! counted as lost.

use std::env;
use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;

use super::Line;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// `LOG_DAEMON` as a number of its own.
const FACILITY: u8 = 3;

/// Whether what this process says on standard error goes to the journal: systemd names the socket
/// that it gave to it by device and inode (systemd.exec(5)). The variable alone says nothing, as
/// children inherit it.
pub(super) fn is_stderr() -> bool {
    let stderr = fstat(io::stderr().as_fd());
    stderr.is_ok_and(|stat| {
        env::var("JOURNAL_STREAM").is_ok_and(|at| at == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// A line, and each value of a verdict as `COREGATE_` and its name.
pub(super) fn record(line: &Line<'_>) -> Vec<u8> {
    let mut record = Vec::new();
    let priority = (line.severity() as u8).to_string();
    put(&mut record, "MESSAGE", &line.text());
    put(&mut record, "PRIORITY", &priority);
    put(&mut record, "SYSLOG_FACILITY", &FACILITY.to_string());
    put(&mut record, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    for (name, value) in line.fields() {
        let name = format!("COREGATE_{}", name.to_uppercase());
        put(&mut record, &name, &value);
    }
    record
}

fn put(record: &mut Vec<u8>, name: &str, value: &str) {
    record.extend(name.as_bytes());
    if value.contains('\n') {
        record.push(b'\n');
        record.extend((value.len() as u64).to_le_bytes());
    } else {
        record.push(b'=');
    }
    record.extend(value.as_bytes());
    record.push(b'\n');
}

#[cfg(test)]
mod tests;
