// SPDX-License-Identifier: GPL-2.0-only
//! `coregate detach`: take the gate down when no daemon runs.

use anyhow::{Context, bail};

use super::{Exit, Result, output};
use crate::daemon::Lock;
use crate::gate::pins;

/// Take down the gate that a daemon left standing
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs `coregate detach`.
pub(super) fn run(_: &Args) -> Result {
    detach().map_err(Into::into)
}

fn detach() -> anyhow::Result<Exit> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("only root may take the gate down; try with sudo");
    }
    let _lock = Lock::take()?;
    let hooks = pins::detach().context("the gate may still stand")?;
    if hooks.is_empty() {
        output::stdout("no gate stands: nothing to take down")?;
    } else {
        output::stdout(&format!(
            "the gate is down, launches are not judged; detached: {}",
            hooks.join(", ")
        ))?;
    }
    Ok(Exit::Ok)
}
