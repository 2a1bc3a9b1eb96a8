// SPDX-License-Identifier: GPL-2.0-only
//! `coregate metrics`: the state of the gate for Prometheus.

use super::{Exit, Result, output};
use crate::daemon::{Question, ask};
use crate::report::{Status, metrics};

/// Show the metrics in the text format of Prometheus
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs `coregate metrics`.
pub(super) fn run(Args {}: &Args) -> Result {
    let status: Status = ask(&Question::Status)?;
    output::stdout(metrics::text(&status).trim_end())?;
    Ok(Exit::Ok)
}
