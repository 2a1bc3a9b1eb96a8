// SPDX-License-Identifier: GPL-2.0-only
//! `coregate daemon`: load a policy, attach the gate, log its verdicts.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::{Error, Exit, Result, doctor, output};
use crate::daemon::{Daemon, Lock};
use crate::gate::Gate;
use crate::kernel::{Facts, required};
use crate::policy_file::{ThisHost, load, warnings};
use crate::topology::{SYSFS, Topology};

/// Stand at the gate: judge launches by a policy until stopped
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy
    #[arg(long, value_name = "FILE", default_value = "/etc/coregate/policy.toml")]
    policy: PathBuf,

    /// Take the gate down when the daemon ends, however it ends
    #[arg(long)]
    no_persist: bool,
}

/// Runs `coregate daemon`.
pub(super) fn run(args: &Args) -> Result {
    let host = ThisHost::new();
    let policy = load(&args.policy, &host).map_err(Error::usage)?;
    for warning in warnings(&policy, &host) {
        output::stderr(&format!("warning: {warning}"));
    }
    can_stand_here()?;
    let topology =
        Topology::read(Path::new(SYSFS)).context("cannot read this machine's topology")?;
    let _lock = Lock::take()?;
    let mut storage = MaybeUninit::uninit();
    let gate = Gate::load(&mut storage, &policy, &topology).map_err(anyhow::Error::from)?;
    Daemon::new(gate, policy, topology, !args.no_persist).run()?;
    Ok(Exit::Ok)
}

/// Refuses to start where `coregate doctor` would say that the gate cannot work.
fn can_stand_here() -> std::result::Result<(), Error> {
    let needs = required(&Facts::gather(Path::new("/")));
    let exit = doctor::exit(&needs);
    if exit == Exit::Ok {
        return Ok(());
    }
    let lacking: Vec<_> = needs
        .iter()
        .filter(|need| need.is_lacking())
        .map(ToString::to_string)
        .collect();
    Err(Error {
        exit,
        source: anyhow!("the gate cannot stand here.\n{}", lacking.join("\n")),
    })
}
