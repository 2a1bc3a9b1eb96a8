// SPDX-License-Identifier: GPL-2.0-only
//! Writing to the user: coloured on a terminal unless `NO_COLOR` is set, and
//! without a fuss when nobody reads any more.

use std::io::{self, ErrorKind, Write};

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;
use serde::Serialize;

/// Writes `text` and a newline to stdout. A reader that has gone, as in
/// `coregate check FILE | head -0`, is no failure.
pub(super) fn stdout(text: &str) -> anyhow::Result<()> {
    is_read(text).map(drop)
}

/// The same; whether there is still a reader.
pub(super) fn is_read(text: &str) -> anyhow::Result<bool> {
    written(writeln!(anstream::stdout().lock(), "{text}"))
}

/// Writes `value` as JSON and a newline to stdout.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    stdout(&serde_json::to_string_pretty(value)?)
}

/// Writes `text` and a newline to stderr. If that fails there is nobody left
/// to tell.
pub(super) fn stderr(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Whether stdout shows colours.
pub(super) fn stdout_is_styled() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Whether stderr shows colours.
pub(super) fn stderr_is_styled() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether that which was written to stdout has a reader.
pub(super) fn written(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot write to stdout"),
    }
}
