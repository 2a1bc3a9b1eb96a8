// SPDX-License-Identifier: GPL-2.0-only
//! `coregate companion`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sd_notify::{NotifyState, notify};

use super::output::stderr;
use super::{Error, Exit, Result};
use crate::companion::{self, Config, Event};
use crate::policy::Policy;
use crate::policy_file::{FOLDERS, LoadError, ThisHost, load};
use crate::privileges;

/// Run the companion scheduler until SIGTERM or SIGINT
///
/// The companion is a sched_ext scheduler. It keeps whole cores for the
/// programs that hold them, fills whole idle cores before it lets two others
/// share one, shares the CPUs of each node by nice value and by cpu.weight of
/// cgroups, and keeps the kernel's count of idle cores per node, which the gate
/// then reads instead of looking at every run queue. When it stops, for whatever
/// reason, all tasks go back to the kernel's own scheduler.
///
/// It is set by the policy, which it reads when it starts. In `[companion]`:
///
/// slice = "20ms": the longest turn of a task while others wait for the CPU.
/// Shorter: a task that wakes on a full machine waits less for its turn.
/// Longer: fewer switches, so caches stay warm and batch work gets more done.
/// Turns end at a timer tick: with 250 ticks a second, anything below "4ms"
/// means about that.
///
/// reserve = "1 core": how much of each node stays unheld for everybody else, a
/// number of cores or a part, "25%"; one core at least. While the companion
/// runs, the gate admits to no more than the rest. More: who holds nothing has
/// more room when all else is held. Less: more holders have whole cores.
///
/// In a `[[rule]]`, for the cores that its launches hold:
///
/// isolation = "strict": while a thread of the holder runs on a core, the
/// core's other hardware threads run nothing but the holder's. It costs the
/// others all that the holder leaves unused. "prefer": others go there as a last
/// resort. It costs them less when the machine is full, and then the holder
/// shares. "none": the companion does nothing for it.
///
/// keep = "4ms": how long a core stays the holder's after its last thread there
/// went to sleep. Longer than the time from one wake-up to the next: a whole
/// core is taken from the others, and each wake-up finds it without overlap and
/// without a wait. "0": the core is given back at once, which costs the others
/// less, and leaves one short overlap per wake-up.
///
/// Exit code 0: stopped by a signal. 1: the kernel ended it (why is printed),
/// or it could not be started. 2: the policy is invalid. 3: this kernel cannot
/// run it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy: a file, or a folder with policy.toml and drop-ins policy.d/*.toml
    ///
    /// By default /etc/coregate, and the defaults of all keys where that has no
    /// policy.toml.
    #[arg(long, value_name = "FILE|DIR")]
    policy: Option<PathBuf>,
}

/// Runs the companion and says why it ended.
pub(super) fn run(args: &Args) -> Result {
    let policy = policy(args.policy.as_deref())?.companion;
    let config = Config {
        slice: policy.slice,
        reserve: policy.reserve,
    };
    privileges::keep(privileges::COMPANION).map_err(anyhow::Error::from)?;
    let exit = companion::run(&config, &mut say).map_err(|error| {
        if error.is_kernel() {
            Error::kernel(error)
        } else {
            Error::from(anyhow::Error::from(error))
        }
    })?;
    stderr(&format!("coregate: companion left; {exit}"));
    Ok(if exit.is_orderly() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// The policy at this place, or that of this machine, which need not have one.
fn policy(path: Option<&Path>) -> std::result::Result<Policy, Error> {
    let place = path.unwrap_or(Path::new(FOLDERS.etc));
    match load(place, &ThisHost::new()) {
        Err(LoadError::Read { cause, .. })
            if path.is_none() && cause.kind() == ErrorKind::NotFound =>
        {
            Ok(Policy::default())
        }
        policy => policy.map_err(Error::usage),
    }
}

fn say(event: Event) {
    match event {
        Event::Active { gate } => {
            let claims = if gate {
                "keeps the cores of the gate's claims"
            } else {
                "no gate is pinned, so nobody holds cores"
            };
            stderr(&format!("coregate: companion active; {claims}"));
            if let Err(error) = notify(&[NotifyState::Ready]) {
                stderr(&format!(
                    "coregate: cannot tell the service manager ($NOTIFY_SOCKET): {error}"
                ));
            }
        }
        Event::Again(exit) => stderr(&format!("coregate: companion starts anew; {exit}")),
    }
}
