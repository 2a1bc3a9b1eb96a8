// SPDX-License-Identifier: GPL-2.0-only
//! `coregate reload`: let the daemon read its policy again.

use super::{Exit, Result, output};
use crate::daemon::{Question, Turned, ask};

/// Let the daemon read its policy again; an invalid one changes nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs `coregate reload`.
pub(super) fn run(args: &Args) -> Result {
    let turned: Turned = ask(&Question::Reload)?;
    if args.json {
        output::json(&turned)?;
    } else {
        output::stdout(&format!("reloaded: {turned}"))?;
    }
    Ok(Exit::Ok)
}
