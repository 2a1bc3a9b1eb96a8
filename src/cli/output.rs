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
    written(writeln!(anstream::stdout().lock(), "{text}")).context("cannot write to stdout")
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

/// Whether stderr shows colours.
pub(super) fn stderr_is_styled() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
