// SPDX-License-Identifier: GPL-2.0-only
//! Whether programs that hold cores have them whole, by the log of every switch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::mem::MaybeUninit;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::process::Companion;
use super::replay::{Account, Beside};
use super::switches::Switches;
use super::work::{Crew, Job};
use super::{no_complaints, on_newest, test};
use crate::claims::{Running, wait_until_held};
use crate::gate::Gate;
use crate::launch::{CROWD, CROWDED, PERIOD, PERIODIC, WORKER, program};
use crate::machine::{Core, cores, cpus, node_cpus, repeat_during};
use crate::persist::TakenDown;
use crate::{ICOUNT, Test};

pub(crate) const TESTS: &[Test] = &[
    test("companion_keeps_cores_whole", ICOUNT, keeps_cores_whole),
    test(
        "companion_reserves_for_one_that_never_sleeps",
        ICOUNT,
        reserves_for_one_that_never_sleeps,
    ),
    on_newest(
        "companion_holds_kernel_threads_back",
        ICOUNT,
        holds_kernel_threads_back,
    ),
    test(
        "companion_keeps_threads_on_their_core",
        ICOUNT,
        keeps_threads_on_their_core,
    ),
    test(
        "companion_lets_pinned_tasks_progress",
        ICOUNT,
        lets_pinned_tasks_progress,
    ),
    test(
        "companion_counts_what_runs_beside",
        ICOUNT,
        counts_what_runs_beside,
    ),
    test(
        "companion_lets_confined_cgroups_progress",
        ICOUNT,
        lets_confined_cgroups_progress,
    ),
    test(
        "companion_leaves_each_node_a_core",
        ICOUNT,
        leaves_each_node_a_core,
    ),
];

pub(crate) const BUSY: &str = "/opt/busy";
pub(crate) const WAKING: &str = "/opt/waking";

/// How long is watched, if nothing else is asked for.
const TIME: u64 = 10;

/// The part of a holder's time that the kernel's threads may have beside it.
const KERNEL: f64 = 0.0001;
/// The same in a short time: a worker of its CPU's runs a few times in ten seconds, which is much beside a
/// holder that sleeps most of them.
const KERNEL_SHORT: f64 = 0.001;

/// The part of a CPU that tasks have at least that could run nowhere else: a turn of 1 ms in 100 ms, and
/// what it takes to get there.
const GUEST: f64 = 0.005;

/// How far apart figures may be that are of times that differ by what it takes to ask for them.
const NEARLY: f64 = 0.05;

fn time() -> Duration {
    Duration::from_secs(crate::soak().unwrap_or(TIME))
}

/// A rule for each program, which needs a core, with this in addition.
pub(crate) fn policy(more: &str) -> Result<String> {
    let mut text = "[gate]\nmode = \"enforce\"\nevent_rate = 0\n".to_owned();
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

/// One such task for each CPU, which may run there only.
pub(crate) fn on_each_cpu(job: &Job) -> Result<Crew> {
    let cpus = cpus()?.into_iter();
    Crew::start(cpus.map(|cpu| job.clone().on(&[cpu])))
}

/// What a test does while the companion rules, with the gate and the log.
type Scene = fn(&Gate, &mut Switches<'_>) -> Result<()>;

/// Plays it under a gate with this policy and a companion, which must outlive it.
fn under_companion(more: &str, play: Scene) -> Result<()> {
    let _taken_down = TakenDown;
    let gate = Gate::start_with(&policy(more)?, &[])?;
    let companion = Companion::start(&[])?;
    let mut storage = MaybeUninit::uninit();
    let played = play(&gate, &mut Switches::start(&mut storage)?);
    let end = companion.stop(Signal::SIGTERM)?;
    ensure!(end.code == Some(0), "{end:?}, and {played:?}");
    gate.stop()?;
    played?;
    no_complaints()
}

/// What became of the holders, once all has settled.
fn watch(log: &mut Switches<'_>) -> Result<Vec<Account>> {
    thread::sleep(Duration::from_secs(1));
    let accounts = log.watch(time())?;
    for account in &accounts {
        println!("{account}");
    }
    Ok(accounts)
}

/// The same, while each of these got on. `ran`: what each of them has had so far.
fn watch_progress<T: PartialOrd + Debug>(
    log: &mut Switches<'_>,
    ran: impl Fn() -> Result<Vec<T>>,
) -> Result<Vec<Account>> {
    let before = ran()?;
    let accounts = watch(log)?;
    let after = ran()?;
    println!("{before:.2?}, then {after:.2?}");
    let progressed = before.iter().zip(&after).all(|(then, now)| now > then);
    ensure!(progressed, "{before:?}, then {after:?}");
    Ok(accounts)
}

fn keeps_cores_whole() -> Result<()> {
    under_companion("", |gate, log| {
        let _holders = holders(gate, log)?;
        let _load = (hogs()?, bursts()?);
        let accounts = watch(log)?;
        accounts.iter().try_for_each(is_whole)?;
        // Each of them did what it came for, or nothing was shown.
        let [busy, periodic] = &accounts[..] else {
            bail!("{accounts:?}")
        };
        never_waited(busy)?;
        let periods = time().div_duration_f64(PERIOD);
        ensure!(periodic.wakeups() as f64 > 0.8 * periods, "{periodic}");
        Ok(())
    })
}

/// It runs alone when it becomes a holder, and nobody waits for its CPU, so it has no other turn.
fn reserves_for_one_that_never_sleeps() -> Result<()> {
    under_companion("", |gate, log| {
        let holder = Running::start(BUSY, WORKER)?;
        wait_until_held(gate, 1)?;
        log.hold(holder.pid());
        let _load = Crew::start((1..cpus()?.len()).map(|_| Job::hog()))?;
        let accounts = log.watch(Duration::from_secs(2))?;
        accounts.iter().try_for_each(is_whole)
    })
}

/// Each reading of this file makes a worker of every CPU run.
const STAT_REFRESH: &str = "/proc/sys/vm/stat_refresh";

/// Workers of all CPUs wake at random times. Beside a holder that soon sleeps they wait.
fn holds_kernel_threads_back() -> Result<()> {
    under_companion("", |gate, log| {
        let holders = [
            Running::start(WAKING, PERIODIC)?,
            Running::start(BUSY, WORKER)?,
        ];
        wait_until_held(gate, 2)?;
        holders.iter().for_each(|holder| log.hold(holder.pid()));
        let refresh = || {
            fs::read(STAT_REFRESH)?;
            thread::sleep(PERIOD.mul_f64(10.0 * fastrand::f64()));
            Ok(())
        };
        let (times, accounts) = repeat_during(refresh, || watch(log))?;
        println!("{times} times all workers");
        let [sleeping, busy] = &accounts[..] else {
            bail!("{accounts:?}")
        };
        // Not beside the one that never sleeps, or nothing would become of them.
        ensure!(busy.beside(Beside::Kernel).count * 4 > times, "{busy}");
        // If they came at any time, every sixth would be beside the other.
        ensure!(
            sleeping.beside(Beside::Kernel).count * 8 < times,
            "{sleeping}"
        );
        Ok(())
    })
}

fn keeps_threads_on_their_core() -> Result<()> {
    under_companion("", |gate, log| {
        let holder = Running::start(BUSY, CROWD)?;
        wait_until_held(gate, 1)?;
        log.hold(holder.pid());
        let _load = (hogs()?, bursts()?);
        let before = threads_ran(holder.pid())?;
        let [account] = &watch(log)?[..] else {
            bail!("not one holder")
        };
        is_whole(account)?;
        core_of(account)?;
        let part = Duration::from_nanos(account.ran()).div_duration_f64(time());
        ensure!(part > 1.9, "{account}");
        let after = threads_ran(holder.pid())?;
        ensure!(after.len() == CROWDED, "{after:?}");
        let progressed = before.iter().all(|(tid, ran)| after[tid] > *ran);
        ensure!(progressed, "{before:?}, then {after:?}");
        Ok(())
    })
}

fn lets_pinned_tasks_progress() -> Result<()> {
    under_companion("", |gate, log| {
        let _holders = holders(gate, log)?;
        let _load = (hogs()?, bursts()?);
        let pinned = on_each_cpu(&Job::hog())?;
        let before = pinned.cpu_times()?;
        let accounts = watch_progress(log, || pinned.cpu_times())?;
        let had = pinned.cpu_times()?.into_iter().zip(before);
        let least = had.map(|(now, then)| now - then).fold(f64::MAX, f64::min);
        ensure!(least > GUEST * time().as_secs_f64(), "one had {least} s");
        // Where they were, and only there, a core was not whole.
        accounts.iter().try_for_each(is_kept_from_others)?;
        let confined = accounts[0].beside(Beside::Confined);
        ensure!(confined.count > 0, "{}", accounts[0]);
        Ok(())
    })
}

/// What is told of the claims of each rule: how long they ran, and how long others did beside them.
fn told(gate: &Gate) -> Result<Vec<[f64; 2]>> {
    let status = gate.status()?;
    let rules = status["rules"].as_array().context("no rules")?;
    let number = |value: &Value| value.as_f64().context("no number");
    let told = |rule: &Value| Ok([number(&rule["ran_ns"])?, number(&rule["shared_ns"])?]);
    rules.iter().map(told).collect()
}

/// What is told of the claims is what the log of every switch says, whoever it is that runs there.
fn counts_what_runs_beside() -> Result<()> {
    under_companion("", |gate, log| {
        let _holders = holders(gate, log)?;
        let pinned = on_each_cpu(&Job::hog())?;
        let _load = (hogs()?, pinned, on_each_cpu(&Job::napping().real_time())?);
        thread::sleep(Duration::from_secs(1));
        let (start, before) = (Instant::now(), told(gate)?);
        let (accounts, (span, after)) =
            log.watch_until(time(), || Ok((start.elapsed(), told(gate)?)))?;
        for ((account, before), after) in accounts.iter().zip(before).zip(after) {
            let [ran, shared] = [after[0] - before[0], after[1] - before[1]];
            let told = [ran / span.as_nanos() as f64, shared / ran];
            let others = Beside::ALL.into_iter();
            let others = others.filter(|who| ![Beside::Idle, Beside::Own].contains(who));
            let part = Duration::from_nanos(account.ran()).div_duration_f64(span);
            let seen = [part, others.map(|who| account.share(who)).sum()];
            println!("{account}\ntold {told:.5?}, seen {seen:.5?}");
            let alike = |told: f64, seen: f64| (told - seen).abs() < NEARLY * seen;
            ensure!(alike(told[0], seen[0]) && alike(told[1], seen[1]));
            for who in [Beside::Confined, Beside::RealTime] {
                ensure!(account.beside(who).count > 0, "no {who:?}");
            }
        }
        Ok(())
    })
}

fn lets_confined_cgroups_progress() -> Result<()> {
    under_companion("", |gate, log| {
        let _holders = holders(gate, log)?;
        let accounts = watch(log)?;
        let core = core_of(&accounts[0])?;
        let _load = (hogs()?, bursts()?);
        let confined = Confined::to(&core)?;
        let accounts = watch_progress(log, || confined.ran())?;
        accounts.iter().try_for_each(is_kept_from_others)
    })
}

/// More programs hold cores than there are to be had: all but one core of each node are somebody's, and
/// everybody gets on.
fn leaves_each_node_a_core() -> Result<()> {
    under_companion("action = \"log\"", |gate, log| {
        let programs = (0..cores()?.len()).map(|_| Running::start(BUSY, WORKER));
        let programs = programs.collect::<Result<Vec<_>>>()?;
        programs.iter().for_each(|one| log.hold(one.pid()));
        let nodes = [node_cpus(0)?, node_cpus(1)?];
        let places = cores()?.len() - nodes.len();
        let rule = &gate.status()?["rules"][0];
        ensure!(
            rule["admitted"] == places && rule["claims"] == places,
            "{rule}"
        );
        let hogs = |cpus| Crew::start((0..2).map(|_| Job::hog().on(cpus)));
        let hogs = nodes.each_ref().map(|cpus| hogs(cpus));
        let accounts = watch_progress(log, || programs.iter().map(|one| ran(one.pid())).collect())?;
        for crew in hogs {
            crew?.all_progress(Duration::from_secs(5))?;
        }
        let whole = accounts.iter().filter(|one| is_whole(one).is_ok()).count();
        ensure!(whole == places, "{whole} have a core, of {places}");
        Ok(())
    })
}

/// Programs in a cgroup that may use these CPUs only.
struct Confined(Vec<Running>);

impl Confined {
    const CGROUP: &str = "/sys/fs/cgroup/confined";

    fn to(cpus: &[usize]) -> Result<Self> {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset")?;
        fs::create_dir_all(Self::CGROUP)?;
        let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>();
        fs::write(format!("{}/cpuset.cpus", Self::CGROUP), list.join(","))?;
        let mut programs = Vec::new();
        for _ in 0..3 {
            let program = Running::start("/bin/coregate-vm", WORKER)?;
            let procs = format!("{}/cgroup.procs", Self::CGROUP);
            fs::write(procs, program.pid().to_string())?;
            programs.push(program);
        }
        Ok(Self(programs))
    }

    /// How long each of them ran, in nanoseconds.
    fn ran(&self) -> Result<Vec<u64>> {
        self.0.iter().map(|program| ran(program.pid())).collect()
    }
}

/// How long the first thread of a process ran, in nanoseconds.
fn ran(pid: u32) -> Result<u64> {
    Ok(threads_ran(pid)?[&pid])
}

/// How long each thread of a process ran, in nanoseconds.
fn threads_ran(pid: u32) -> Result<BTreeMap<u32, u64>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let stat = fs::read_to_string(task.path().join("schedstat"))?;
        let time = stat.split_whitespace().next().context("empty schedstat")?;
        let tid = task.file_name().into_string();
        let tid = tid.ok().and_then(|tid| tid.parse().ok());
        threads.insert(tid.context("no thread id")?, time.parse()?);
    }
    Ok(threads)
}

/// The CPUs of the one core that a holder ran on.
fn core_of(account: &Account) -> Result<Vec<usize>> {
    let ran = |core: &Core| core.cpus.iter().any(|cpu| account.on[*cpu as usize] > 0);
    let used: Vec<Core> = cores()?.into_iter().filter(ran).collect();
    ensure!(used.len() == 1, "it ran on {used:?}: {:?}", account.on);
    Ok(used[0].cpus.iter().map(|cpu| *cpu as usize).collect())
}

/// A busy program had a CPU all the time.
fn never_waited(account: &Account) -> Result<()> {
    let part = Duration::from_nanos(account.ran()).div_duration_f64(time());
    ensure!(part > 0.95, "{account}");
    Ok(())
}

/// None of those ran beside it whom the companion can keep away.
fn is_kept_from_others(account: &Account) -> Result<()> {
    for never in [Beside::Foreign, Beside::Holder, Beside::Unknown] {
        ensure!(account.beside(never).count == 0, "{never:?}: {account}");
    }
    Ok(())
}

/// Nobody else ran beside it at all, but for what the kernel itself had to do.
fn is_whole(account: &Account) -> Result<()> {
    is_kept_from_others(account)?;
    let kernel = if time().as_secs() < 60 {
        KERNEL_SHORT
    } else {
        KERNEL
    };
    ensure!(account.share(Beside::Kernel) <= kernel, "{account}");
    // It is kept while the holder sleeps, so it need not be taken again.
    let takings = account.beside(Beside::Taking).count as usize;
    ensure!(takings * 100 <= account.wakeups(), "{account}");
    Ok(())
}
