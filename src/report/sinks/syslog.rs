// SPDX-License-Identifier: GPL-2.0-only
//! Records for a log daemon at `/dev/log`, made by the `syslog` crate. The socket is ours: the
//! crate's own never reconnects once the log daemon was restarted, and waits for ever while its
//! queue is full.

use std::collections::BTreeMap;

use syslog::{Facility, Formatter3164, Formatter5424, LogFormat};

use super::Line;

/// Where `syslog(3)` sends to.
pub(super) const DEV_LOG: &str = "/dev/log";

/// The structured data of a verdict. The number is the one for those that have none of their own
/// (RFC 5612).
const SD_ID: &str = "coregate@32473";

/// The ids of messages: what the daemon says, verdicts, and ends of claims.
const MESSAGE: u32 = 0;
const VERDICT: u32 = 1;
const ENDED: u32 = 2;

/// As `syslog(3)` writes it.
pub(super) fn rfc3164(line: &Line<'_>) -> Vec<u8> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: env!("CARGO_PKG_NAME").into(),
        pid: std::process::id(),
    };
    let mut record = Vec::new();
    // Writing to memory does not fail.
    let _ = formatter.format(&mut record, line.severity(), line.text());
    record
}

/// With all values of a verdict as structured data.
pub(super) fn rfc5424(line: &Line<'_>) -> Vec<u8> {
    let formatter = Formatter5424 {
        facility: Facility::LOG_DAEMON,
        process: env!("CARGO_PKG_NAME").into(),
        pid: std::process::id(),
        ..Formatter5424::default()
    };
    let fields = line.fields().into_iter();
    let fields: BTreeMap<_, _> = fields
        .map(|(name, value)| (name, printable(&value)))
        .collect();
    let (id, data) = match line {
        Line::Message(..) => (MESSAGE, BTreeMap::new()),
        Line::Event(_) => (VERDICT, BTreeMap::from([(SD_ID.into(), fields)])),
        Line::Ended(_) => (ENDED, BTreeMap::from([(SD_ID.into(), fields)])),
    };
    let mut record = Vec::new();
    // Likewise.
    let _ = formatter.format(&mut record, line.severity(), (id, data, line.text()));
    record
}

/// What a user can choose must not begin a new line; the rest the formatter escapes.
fn printable(value: &str) -> String {
    let mut printable = String::new();
    for c in value.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

#[cfg(test)]
mod tests;
