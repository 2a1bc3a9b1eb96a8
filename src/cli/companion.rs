// SPDX-License-Identifier: GPL-2.0-only
//! `coregate companion`.

use std::time::Duration;

use clap::value_parser;
use sd_notify::{NotifyState, notify};

use super::output::stderr;
use super::{Error, Exit, Result};
use crate::companion::{self, Config, Event};
use crate::privileges;

/// Run the companion scheduler until SIGTERM or SIGINT
///
/// The companion is a sched_ext scheduler. It fills whole idle cores before it
/// lets two tasks share one, shares the CPUs of each node by nice value, and
/// keeps the kernel's count of idle cores per node, which the gate then reads
/// instead of looking at every run queue. When it stops, for whatever reason,
/// all tasks go back to the kernel's own scheduler.
///
/// Exit code 0: stopped by a signal. 1: the kernel ended it (why is printed),
/// or it could not be started. 3: this kernel cannot run it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Longest turn of a task while others wait for the CPU, in microseconds
    ///
    /// Shorter: a task that wakes on a full machine waits less for its turn.
    /// Longer: fewer switches, so caches stay warm and batch work gets more
    /// done. Turns end at a timer tick: with 250 ticks a second, anything below
    /// 4000 means about 4000.
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 20_000,
        value_parser = value_parser!(u32).range(1_000..=1_000_000)
    )]
    slice_us: u32,
}

/// Runs the companion and says why it ended.
pub(super) fn run(args: &Args) -> Result {
    let config = Config {
        slice: Duration::from_micros(args.slice_us.into()),
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

fn say(event: Event) {
    match event {
        Event::Active => {
            stderr("coregate: companion active");
            if let Err(error) = notify(&[NotifyState::Ready]) {
                stderr(&format!(
                    "coregate: cannot tell the service manager ($NOTIFY_SOCKET): {error}"
                ));
            }
        }
        Event::Again(exit) => stderr(&format!("coregate: companion starts anew; {exit}")),
    }
}
