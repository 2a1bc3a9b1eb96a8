// SPDX-License-Identifier: GPL-2.0-only
//! `coregate daemon`: load a policy, attach the gate, log its verdicts.

use std::mem::MaybeUninit;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf, absolute};
use std::thread;

use anyhow::{Context, anyhow};

use super::{Error, Exit, Result, doctor, output};
use crate::daemon::{Daemon, Lock, hold_signals};
use crate::gate::Gate;
use crate::gate::order::{self, Order, Step};
use crate::kernel::{Facts, Parameter, required};
use crate::policy::{Mode, Policy};
use crate::policy_file::{FOLDERS, ThisHost, load, warnings};
use crate::topology::{SYSFS, Topology};

/// Stand at the gate: judge launches by a policy until stopped
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy: a file, or a folder with policy.toml and drop-ins policy.d/*.toml
    #[arg(long, value_name = "FILE|DIR", default_value = FOLDERS.etc)]
    policy: PathBuf,

    /// Take the gate down when the daemon ends, however it ends
    #[arg(long)]
    no_persist: bool,
}

/// Runs `coregate daemon`.
pub(super) fn run(args: &Args) -> Result {
    crate::raw::keep_little_memory();
    // A reload reads it again, wherever the daemon then is.
    let path = absolute(&args.policy).context("cannot name the policy's place")?;
    let policy = read_apart(&path)?;
    can_stand_here()?;
    let parameter = Parameter::read(Path::new("/"));
    if parameter == Some(Parameter::Off) {
        output::stderr("coregate.mode=off is on the kernel command line: no gate stands");
        return Ok(Exit::Ok);
    }
    let topology =
        Topology::read(Path::new(SYSFS)).context("cannot read this machine's topology")?;
    let _lock = Lock::take()?;
    hold_signals()?;
    let mut storage = MaybeUninit::uninit();
    let gate = Gate::load(&mut storage, &policy, &topology).map_err(anyhow::Error::from)?;
    if let Some(parameter) = parameter {
        obey(&parameter, &gate)?;
    }
    Daemon::new(gate, (path, policy), topology, !args.no_persist)?.run()?;
    Ok(Exit::Ok)
}

/// Reads the policy in a thread of its own, whose memory is apart from what the gate takes for the life
/// of the daemon: it can be given back as a whole.
fn read_apart(path: &Path) -> std::result::Result<Policy, Error> {
    let read = || {
        let host = ThisHost::new();
        let policy = load(path, &host).map_err(Error::usage)?;
        for warning in warnings(&policy, &host) {
            output::stderr(&format!("warning: {warning}"));
        }
        Ok(policy)
    };
    let read = thread::scope(|scope| scope.spawn(read).join());
    read.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Denies nothing, at each start, if whoever booted the machine wants that.
fn obey(parameter: &Parameter, gate: &Gate<'_>) -> anyhow::Result<()> {
    let word = match parameter {
        Parameter::Unknown(word) => {
            output::stderr(&format!(
                "warning: coregate.mode={word} on the kernel command line is neither observe nor \
                 off; nothing is denied"
            ));
            word
        }
        _ => "observe",
    };
    let order = Order {
        mode: Mode::Observe,
        left_ms: None,
        after: None,
        by: "the kernel command line".into(),
        reason: format!("coregate.mode={word}"),
        since: order::now(),
    };
    order::take(gate.kept(), &Step::Give(order))?.context("no order")
}

/// Refuses to start where `coregate doctor` would say that the gate cannot work.
pub(super) fn can_stand_here() -> std::result::Result<(), Error> {
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
