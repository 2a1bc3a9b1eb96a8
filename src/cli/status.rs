// SPDX-License-Identifier: GPL-2.0-only
//! `coregate status`: how the gate stands.

use super::{Exit, Result, output};
use crate::daemon::{Question, ask};
use crate::report::Status;

/// Say how the gate stands: mode, idle source, free cores, counts of each rule
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say it in JSON
    #[arg(long)]
    json: bool,
}

/// Runs `coregate status`.
pub(super) fn run(args: &Args) -> Result {
    let status: Status = ask(&Question::Status)?;
    if args.json {
        output::json(&status)?;
    } else {
        output::stdout(status.to_string().trim_end())?;
    }
    Ok(Exit::Ok)
}
