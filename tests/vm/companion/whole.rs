// SPDX-License-Identifier: GPL-2.0-only
//! Whether programs that hold cores have them whole, by the log of every switch.

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::process::{Companion, state};
use super::replay::{Account, Beside};
use super::switches::Switches;
use super::work::{Crew, Job};
use super::{no_complaints, test};
use crate::Test;
use crate::claims::{Running, wait_until_held};
use crate::gate::Gate;
use crate::launch::{PERIOD, PERIODIC, WORKER, program};
use crate::persist::TakenDown;

pub(crate) const TESTS: &[Test] = &[test(
    "companion_keeps_cores_whole",
    crate::ICOUNT,
    keeps_cores_whole,
)];

const BUSY: &str = "/opt/busy";
const WAKING: &str = "/opt/waking";

/// How long is watched, if nothing else is asked for.
const TIME: u64 = 10;

/// The part of a holder's time that the kernel's threads may have beside it: a worker of its CPU's runs a
/// few times in ten seconds, which is much beside a holder that sleeps most of them.
const KERNEL: f64 = 0.001;

fn time() -> Duration {
    Duration::from_secs(crate::soak().unwrap_or(TIME))
}

/// A rule for each program: a core, with this in addition.
pub(crate) fn policy(mode: &str, more: &str) -> Result<String> {
    let mut text = format!("[gate]\nmode = \"{mode}\"\nevent_rate = 0\n");
    for (name, exe) in [("busy", BUSY), ("periodic", WAKING)] {
        program(exe)?;
        text += &format!(
            "[[rule]]\nname = \"{name}\"\nexe = \"{exe}\"\ncores = 1\nscope = \"any\"\n{more}\n"
        );
    }
    Ok(text)
}

/// One holder that never sleeps, and one that wakes again and again; each is admitted.
pub(crate) fn holders(gate: &Gate, log: &mut Switches<'_>) -> Result<[Running; 2]> {
    let holders = [
        Running::start(BUSY, WORKER)?,
        Running::start(WAKING, PERIODIC)?,
    ];
    wait_until_held(gate, 2)?;
    holders.iter().for_each(|holder| log.hold(holder.pid()));
    Ok(holders)
}

/// What everybody else does: tasks that never sleep, and such that do.
pub(crate) fn hogs() -> Result<Crew> {
    Crew::start((0..8).map(|_| Job::hog()))
}

pub(crate) fn bursts() -> Result<Crew> {
    Crew::start((0..4).map(|_| Job::bursty()))
}

fn keeps_cores_whole() -> Result<()> {
    let _taken_down = TakenDown;
    let gate = Gate::start_with(&policy("enforce", "")?, &[])?;
    let companion = Companion::start(&[])?;
    let mut storage = MaybeUninit::uninit();
    let mut log = Switches::start(&mut storage)?;
    let holders = holders(&gate, &mut log)?;
    let load = (hogs()?, bursts()?);
    std::thread::sleep(Duration::from_secs(1));
    let accounts = log.watch(time())?;
    ensure!(state()? == "enabled");
    for (name, account) in ["busy", "periodic"].into_iter().zip(&accounts) {
        println!("{name}: {account}");
    }
    accounts.iter().try_for_each(is_whole)?;
    let [busy, periodic] = &accounts[..] else {
        anyhow::bail!("{accounts:?}")
    };
    // Each of them did what it came for, or nothing was shown.
    let time = time();
    ensure!(busy.ran() as f64 > 0.95 * time.as_nanos() as f64);
    ensure!(periodic.wakeups() as f64 > 0.8 * time.div_duration_f64(PERIOD));
    drop((load, holders));
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    gate.stop()?;
    no_complaints()
}

/// Nobody else ran beside it, but for what the kernel itself had to do.
fn is_whole(account: &Account) -> Result<()> {
    for never in [Beside::Foreign, Beside::Holder, Beside::Unknown] {
        ensure!(account.beside(never).count == 0, "{never:?}: {account}");
    }
    ensure!(account.share(Beside::Kernel) <= KERNEL, "{account}");
    // It is kept while the holder sleeps, so it need not be taken again.
    let takings = account.beside(Beside::Taking).count as usize;
    ensure!(takings * 100 <= account.wakeups(), "{account}");
    Ok(())
}
