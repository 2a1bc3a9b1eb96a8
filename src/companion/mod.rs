// SPDX-License-Identifier: GPL-2.0-only
//! The companion scheduler: loads it, sleeps while it runs, says why it left.

mod claims;
mod exit;
mod preflight;
mod scheduler;
mod skel;

use std::time::Duration;
use std::{fmt, io};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::kernel::Lack;
use crate::libbpf_log::Listening;
use crate::policy::Reserve;
use crate::topology;
use scheduler::{Scheduler, Woken};

pub use exit::{ScxExit, Words};

/// What it is called among schedulers.
pub const NAME: &str = "coregate";

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a task may run while others wait.
    pub slice: Duration,
    /// How much of each node stays unheld.
    pub reserve: Reserve,
}

/// What happens while the companion is in charge.
#[derive(Debug)]
pub enum Event {
    /// The kernel schedules by it from now on.
    Active {
        /// There is a gate, whose claims it reads.
        gate: bool,
    },
    /// It left for this reason and is loaded anew.
    Again(Why),
}

/// Why the companion is loaded anew.
#[derive(Debug)]
pub enum Why {
    /// The kernel asked for it.
    Kernel(ScxExit),
    /// The gate's claims are kept elsewhere from now on, or no more.
    Claims,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(exit) => exit.fmt(f),
            Self::Claims => f.write_str("a gate has come or gone"),
        }
    }
}

/// Why the companion could not be put in charge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// sysfs is not there.
    #[error("cannot look at this kernel: sysfs is not mounted; run: mount -t sysfs sysfs /sys")]
    NoSysfs,
    /// The kernel lacks what the companion needs.
    #[error(transparent)]
    Unsuited(#[from] Lack),
    /// Not enough capabilities.
    #[error(
        "not permitted to load a scheduler: that needs root, or the capabilities CAP_BPF and \
         CAP_PERFMON; run it as root"
    )]
    NotPermitted,
    /// Another scheduler is loaded.
    #[error(
        "another scheduler is loaded: {ops:?}; the kernel runs one at a time. Stop that one \
         first (its name stands in /sys/kernel/sched_ext/root/ops)"
    )]
    Loaded {
        /// Its name.
        ops: String,
    },
    /// A file of sysfs could not be read.
    #[error("cannot read {path}: {cause}")]
    Sysfs {
        /// The file.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// The CPUs of this machine could not be found out.
    #[error(transparent)]
    Topology(#[from] topology::Error),
    /// More hardware threads in one core than the scheduler has room for.
    #[error("the core of CPU {leader} has {threads} threads; the companion knows at most {most}")]
    Threads {
        /// The core's first CPU.
        leader: u32,
        /// How many it has.
        threads: usize,
        /// How many it may have.
        most: usize,
    },
    /// The gate's claims could not be read.
    #[error("cannot read the gate's claims: {0}")]
    Claims(String),
    /// The kernel did not take the scheduler.
    #[error("cannot {step} the companion scheduler: {cause}{said}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        cause: libbpf_rs::Error,
        /// What libbpf said meanwhile; empty, or begins a new line.
        said: String,
    },
    /// A call to the system failed.
    #[error("cannot {step}: {cause}")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        cause: nix::Error,
    },
}

impl Error {
    /// Whether another kernel is the remedy.
    pub fn is_kernel(&self) -> bool {
        matches!(self, Self::Unsuited(_))
    }

    fn kernel(heard: &Listening, step: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |cause| Self::Kernel {
            step,
            cause,
            said: heard.said(),
        }
    }

    fn system(step: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |cause| Self::System { step, cause }
    }
}

/// Puts the companion in charge until SIGTERM or SIGINT arrives or the kernel
/// ends it, and returns which. When the kernel asks for a new start, it gets
/// one. `on_event` learns of each start.
///
/// # Errors
///
/// The companion could not be put in charge; then the kernel's own scheduler is.
pub fn run(config: &Config, on_event: &mut dyn FnMut(Event)) -> Result<ScxExit, Error> {
    let signals = block_signals()?;
    loop {
        let (woken, exit) = run_once(config, &signals, on_event)?;
        let why = match (woken, exit) {
            (_, exit @ ScxExit::Restart(_)) => Why::Kernel(exit),
            (Woken::Claims, ScxExit::Unregistered) => Why::Claims,
            (_, exit) => return Ok(exit),
        };
        on_event(Event::Again(why));
    }
}

/// Whether this kernel has all that the companion needs. It may refuse it still.
///
/// # Errors
///
/// What it lacks, and the remedy.
pub fn suits_kernel() -> Result<(), Lack> {
    preflight::suits()
}

fn run_once(
    config: &Config,
    signals: &SignalFd,
    on_event: &mut dyn FnMut(Event),
) -> Result<(Woken, ScxExit), Error> {
    preflight::check()?;
    let mut room = scheduler::Room::uninit();
    let mut scheduler = Scheduler::load(config, &mut room)?;
    scheduler.attach()?;
    on_event(Event::Active {
        gate: scheduler.has_gate(),
    });
    let woken = scheduler.wait(signals)?;
    Ok((woken, scheduler.detach()))
}

/// The signals that end the companion, from now on only to be read.
fn block_signals() -> Result<SignalFd, Error> {
    let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    ends.thread_block()
        .and_then(|()| SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC))
        .map_err(Error::system("wait for signals"))
}
