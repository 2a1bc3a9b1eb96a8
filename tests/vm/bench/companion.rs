// SPDX-License-Identifier: GPL-2.0-only
//! What runs beside programs that hold cores, under the companion and under what does not know
//! of them: the kernel's own scheduler, and the least that a sched_ext scheduler can be.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::companion::process::Companion;
use crate::companion::replay::{Account, Beside};
use crate::companion::switches::Switches;
use crate::companion::whole::{bursts, hogs, holders, on_each_cpu, policy};
use crate::companion::work::Job;
use crate::gate::Gate;
use crate::persist::TakenDown;
use crate::schedulers::{Scheduler, Tracking, state, wait_until_none};

/// How long holders are watched at a time, at least.
const TIME: Duration = Duration::from_secs(2);
/// How often they are started for that anew: it is by chance which tasks share a CPU, and then stays so.
const ROUNDS: usize = 5;

/// The word before each line of the table.
const LINE: &str = "table ";

#[derive(Clone, Copy)]
enum Ruler {
    Kernel,
    Fifo,
    /// The companion, with this time for which cores are kept.
    Companion(&'static str),
}

const RULERS: [(&str, Ruler); 4] = [
    ("kernel", Ruler::Kernel),
    ("FIFO", Ruler::Fifo),
    ("keep 4ms", Ruler::Companion("4ms")),
    ("keep 0", Ruler::Companion("0")),
];

/// Who rules the machine until it is dropped.
enum Ruling {
    Kernel,
    Fifo(Scheduler),
    Companion(Companion),
}

impl Ruling {
    fn begin(ruler: Ruler) -> Result<Self> {
        Ok(match ruler {
            Ruler::Kernel => Self::Kernel,
            Ruler::Fifo => Self::Fifo(Scheduler::load(Tracking::PerNode)?),
            Ruler::Companion(_) => Self::Companion(Companion::start(&[])?),
        })
    }

    /// It must have ruled until now.
    fn end(self) -> Result<()> {
        let loaded = !matches!(self, Self::Kernel);
        ensure!((state() == "enabled") == loaded, "{}", state());
        match self {
            Self::Kernel => return Ok(()),
            Self::Fifo(scheduler) => drop(scheduler),
            Self::Companion(companion) => {
                let end = companion.stop(Signal::SIGTERM)?;
                ensure!(end.code == Some(0), "{end:?}");
            }
        }
        wait_until_none()
    }
}

/// The cells of a column, each with the name of its row.
type Column = Vec<(&'static str, String)>;

/// Measures under each, and prints the table.
pub(super) fn all() -> Result<()> {
    let mut columns = Vec::new();
    let mut most = None;
    for (name, ruler) in RULERS {
        println!("under {name}");
        columns.push(column(ruler, &mut most)?);
    }
    let head = RULERS.map(|(name, _)| name.to_owned());
    println!("{}", line("", &head));
    for (number, (what, _)) in columns[0].iter().enumerate() {
        let cells = columns.iter().map(|column| column[number].1.clone());
        println!("{}", line(what, &cells.collect::<Vec<_>>()));
    }
    Ok(())
}

fn line(what: &str, cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| format!("  {cell:>18}"));
    format!("{LINE}{what:44}{}", cells.collect::<String>())
}

/// `most`: the work of the hogs alone under the first of them.
fn column(ruler: Ruler, most: &mut Option<f64>) -> Result<Column> {
    let keep = if let Ruler::Companion(keep) = ruler {
        format!("keep = \"{keep}\"")
    } else {
        String::new()
    };
    let _taken_down = TakenDown;
    let gate = Gate::start_with(&policy(&keep)?, &[])?;
    let ruling = Ruling::begin(ruler)?;
    let alone = work_alone()?;
    let most = *most.get_or_insert(alone);

    let (mut plain, mut had) = scene(&gate, None)?;
    for _ in 1..ROUNDS {
        let (again, more) = scene(&gate, None)?;
        plain
            .iter_mut()
            .zip(&again)
            .for_each(|(all, one)| all.merge(one));
        had += more;
    }
    let (pinned, _) = scene(&gate, Some(&Job::hog()))?;
    let (real_time, _) = scene(&gate, Some(&Job::napping().real_time()))?;

    ruling.end()?;
    gate.stop()?;
    for (what, accounts) in [
        ("plain", &plain),
        ("pinned", &pinned),
        ("real-time", &real_time),
    ] {
        for (name, account) in ["busy", "periodic"].into_iter().zip(accounts) {
            println!("{what}, {name}: {account}");
        }
    }
    let mut cells = beside(&plain, &pinned, &real_time)?;
    let had = format!("{:.2}", had / ROUNDS as f64);
    cells.push(("others: CPUs that 8 hogs have", had));
    let work = format!("{:.1} %", alone / most * 100.0);
    cells.push(("others: work of 16 hogs, no holders", work));
    Ok(cells)
}

/// What becomes of the two holders, and how many CPUs the hogs have, with such a task on each CPU.
fn scene(gate: &Gate, on_each: Option<&Job>) -> Result<(Vec<Account>, f64)> {
    let mut storage = MaybeUninit::uninit();
    let mut log = Switches::start(&mut storage)?;
    let _running = holders(gate, &mut log)?;
    let (hogs, _bursts) = (hogs()?, bursts()?);
    let _on_each = on_each.map(on_each_cpu).transpose()?;
    std::thread::sleep(Duration::from_secs(1));
    let had = || Ok::<f64, anyhow::Error>(hogs.cpu_times()?.iter().sum());
    let (start, before) = (Instant::now(), had()?);
    log.watch_until(TIME, || {
        Ok((had()? - before) / start.elapsed().as_secs_f64())
    })
}

/// What twice as many hogs as CPUs get done in a second while nobody holds a core.
fn work_alone() -> Result<f64> {
    let hogs = (hogs()?, hogs()?);
    let work = || hogs.0.work() + hogs.1.work();
    std::thread::sleep(Duration::from_secs(1));
    let (start, before) = (Instant::now(), work());
    std::thread::sleep(TIME);
    Ok((work() - before) as f64 / start.elapsed().as_secs_f64())
}

fn beside(plain: &[Account], pinned: &[Account], real_time: &[Account]) -> Result<Column> {
    let ([busy, periodic], [pinned, _], [real_time, _]) = (plain, pinned, real_time) else {
        bail!("not two holders: {plain:?}");
    };
    let share = |account: &Account, what| {
        let windows = account.beside(what);
        format!("{:.3} % ({})", account.share(what) * 100.0, windows.count)
    };
    let longest = |account: &Account, what| micros(account.beside(what).longest);
    let wait = |part| micros(periodic.wait(part).as_nanos() as u64);
    Ok(vec![
        ("busy: foreign task", share(busy, Beside::Foreign)),
        ("busy: the other holder", share(busy, Beside::Holder)),
        ("busy: kernel thread", share(busy, Beside::Kernel)),
        ("periodic: foreign task", share(periodic, Beside::Foreign)),
        (
            "periodic: the other holder",
            share(periodic, Beside::Holder),
        ),
        (
            "periodic: taking of the core",
            share(periodic, Beside::Taking),
        ),
        (
            "periodic: longest taking",
            longest(periodic, Beside::Taking),
        ),
        ("periodic: kernel thread", share(periodic, Beside::Kernel)),
        ("periodic: wake-ups", periodic.wakeups().to_string()),
        ("periodic: wake to run, median", wait(0.5)),
        ("periodic: wake to run, p99", wait(0.99)),
        ("periodic: wake to run, most", wait(1.0)),
        (
            "a hog pinned to each CPU; busy: foreign task",
            share(pinned, Beside::Foreign),
        ),
        ("  busy: pinned task", share(pinned, Beside::Confined)),
        (
            "a real-time task on each CPU; busy: foreign task",
            share(real_time, Beside::Foreign),
        ),
        ("  busy: real-time task", share(real_time, Beside::RealTime)),
    ])
}

fn micros(nanoseconds: u64) -> String {
    format!("{:.1} us", nanoseconds as f64 / 1e3)
}
