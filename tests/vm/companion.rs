// SPDX-License-Identifier: GPL-2.0-only
//! The companion scheduler: comes, refuses, shares, leaves, and says why.

pub(crate) mod groups;
pub(crate) mod process;
pub(crate) mod replay;
pub(crate) mod stress;
pub(crate) mod switches;
pub(crate) mod whole;
pub(crate) mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::gate::POLICY;
use crate::machine::{cores, cpus, let_programs_go, node_cpus, wait_for};
use crate::{COUNTED, NUMA, Needs, REFUSING, Test};
use process::{Companion, state};
use work::{Crew, Job};

pub(crate) const TESTS: &[Test] = &[
    test(
        "companion_attaches_and_leaves",
        COUNTED,
        attaches_and_leaves,
    ),
    Test {
        needs: Needs::SchedExt,
        ..test(
            "companion_loads_where_doctor_says_so",
            NUMA,
            loads_where_doctor_says_so,
        )
    },
    test(
        "companion_refuses_second_scheduler",
        NUMA,
        refuses_second_scheduler,
    ),
    test(
        "companion_reports_why_it_exited",
        NUMA,
        reports_why_it_exited,
    ),
    Test {
        name: "companion_starts_anew_after_hotplug",
        needs: Needs::SchedExtHotplug,
        on: NUMA,
        run: starts_anew_after_hotplug,
    },
    test("companion_obeys_its_policy", NUMA, obeys_its_policy),
    on_newest("companion_sleeps_at_rest", NUMA, sleeps_at_rest),
    test(
        "companion_prefers_whole_cores",
        COUNTED,
        prefers_whole_cores,
    ),
    on_newest("companion_shares_by_weight", NUMA, shares_by_weight),
    on_newest(
        "companion_shares_by_weight_beside_others",
        NUMA,
        shares_by_weight_beside_others,
    ),
    on_newest(
        "companion_serves_newcomers_soon",
        NUMA,
        serves_newcomers_soon,
    ),
    on_newest("companion_helps_the_other_node", NUMA, helps_the_other_node),
    on_newest(
        "companion_no_starvation_under_load",
        NUMA,
        no_starvation_under_load,
    ),
];

const fn test(name: &'static str, on: &'static [&'static str], run: fn() -> Result<()>) -> Test {
    Test {
        name,
        needs: Needs::WholeSchedExt,
        on,
        run,
    }
}

/// A test of what is the companion's own, whatever the kernel.
const fn on_newest(
    name: &'static str,
    on: &'static [&'static str],
    run: fn() -> Result<()>,
) -> Test {
    Test {
        needs: Needs::AnySchedExt,
        ..test(name, on, run)
    }
}

/// How long a change of scheduler or load may take to show.
const SOON: Duration = Duration::from_secs(20);

fn attaches_and_leaves() -> Result<()> {
    ensure!(
        state()? == "disabled",
        "a scheduler is loaded before the test"
    );
    let companion = Companion::start(&[])?;
    ensure!(state()? == "enabled");
    let ops = fs::read_to_string("/sys/kernel/sched_ext/root/ops")?;
    // Some kernels add a suffix of their own.
    ensure!(
        ops.starts_with("coregate"),
        "the scheduler is called {ops:?}"
    );
    let end = companion.stop(Signal::SIGTERM)?;
    ensure!(end.code == Some(0), "{end:?}");
    ensure!(end.said.contains("kind: unregistered"), "{end:?}");
    ensure!(state()? == "disabled");

    let end = Companion::start(&[])?.stop(Signal::SIGINT)?;
    ensure!(end.code == Some(0), "{end:?}");
    ensure!(state()? == "disabled");
    Ok(())
}

/// Some builds of the kernel refuse calls of their own functions; then both say so.
fn loads_where_doctor_says_so() -> Result<()> {
    let output = Command::new(process::COREGATE)
        .args(["doctor", "--json"])
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let needs = said["needs"].as_array().context("no needs")?;
    let need = needs.iter().find(|need| need["name"] == "companion");
    let need = need.context("doctor says nothing of the companion")?;
    let release = said["kernel"].as_str().context("no release")?;
    let refuses = release.starts_with(&format!("{}.{}.", REFUSING.0, REFUSING.1));
    ensure!((need["status"] == "ok") != refuses, "{release}: {need}");
    if !refuses {
        let end = Companion::start(&[])?.stop(Signal::SIGTERM)?;
        ensure!(end.code == Some(0), "{end:?}");
        return Ok(());
    }
    ensure!(need["status"] == "limited", "{need}");
    let companion = Command::new(process::COREGATE).arg("companion").output()?;
    let why = String::from_utf8_lossy(&companion.stderr);
    ensure!(companion.status.code() == Some(3), "{companion:?}");
    ensure!(
        why.contains("refuses calls of scx_bpf_") && why.contains("; boot "),
        "{why}"
    );
    ensure!(why.lines().count() == 1, "{why}");
    ensure!(state()? == "disabled");
    Ok(())
}

fn refuses_second_scheduler() -> Result<()> {
    let first = Companion::start(&[])?;
    let second = Command::new(process::COREGATE).arg("companion").output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(1), "{second:?}");
    ensure!(
        said.contains("another scheduler is loaded: \"coregate"),
        "{said}"
    );
    ensure!(said.lines().count() == 1, "{said}");
    ensure!(state()? == "enabled", "the first one was harmed");
    ensure!(first.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

fn reports_why_it_exited() -> Result<()> {
    let companion = Companion::start(&[])?;
    fs::write("/proc/sys/kernel/sysrq", "1")?;
    fs::write("/proc/sysrq-trigger", "S")?;
    let end = companion.end(SOON)?;
    ensure!(end.code == Some(1), "{end:?}");
    ensure!(end.said.contains("kind: sysrq, reason: "), "{end:?}");
    ensure!(end.said.to_lowercase().contains("sysrq-s"), "{end:?}");
    ensure!(state()? == "disabled");
    Ok(())
}

/// Of two that are busy on one CPU, each waits for as long as a turn of the other takes.
fn obeys_its_policy() -> Result<()> {
    let waited = |args: &[&str]| -> Result<Duration> {
        let companion = Companion::start(args)?;
        let all = cpus()?;
        let crew = Crew::start([(); 2].map(|()| Job::busy().on(&all[..1])))?;
        crew.watch(Duration::from_secs(5))?;
        let waited = crew.longest_wait(..);
        drop(crew);
        ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
        Ok(waited)
    };
    ensure!(!Path::new("/etc/coregate").exists());
    let default = waited(&[])?;
    fs::write(POLICY, "[companion]\nslice = \"1s\"\n")?;
    let long = waited(&["--policy", POLICY])?;
    println!("longest wait: {default:?}, with turns of 1 s {long:?}");
    ensure!(default < Duration::from_millis(500) && long > Duration::from_millis(700));
    Ok(())
}

fn starts_anew_after_hotplug() -> Result<()> {
    let all = cpus()?;
    let last = all.last().context("no CPU")?;
    let online = format!("/sys/devices/system/cpu/cpu{last}/online");
    let_programs_go();
    let mut companion = Companion::start(&[])?;
    for (switch, times) in [("0", 1), ("1", 2)] {
        fs::write(&online, switch)?;
        companion.wait_for_line("starts anew", times)?;
        companion.wait_for_line("active", times + 1)?;
        ensure!(state()? == "enabled");
    }
    // The CPU that came back is used.
    let crew = Crew::start([Job::busy().on(&[*last])])?;
    crew.all_progress(SOON)?;
    drop(crew);
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

fn sleeps_at_rest() -> Result<()> {
    let companion = Companion::start(&[])?;
    std::thread::sleep(Duration::from_secs(2));
    let before = companion.wakeups()?;
    std::thread::sleep(Duration::from_secs(5));
    let after = companion.wakeups()?;
    ensure!(after == before, "it woke {} times in 5 s", after - before);
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

/// As many busy threads as cores, started at once from one CPU: each has a core.
fn prefers_whole_cores() -> Result<()> {
    let companion = Companion::start(&[])?;
    let cores = cores()?;
    let crew = Crew::start(cores.iter().map(|_| Job::busy()))?;
    std::thread::sleep(Duration::from_secs(3));
    let (mut good, all) = (0, 500);
    for _ in 0..all {
        let used: BTreeSet<_> = crew
            .last_cpus()
            .filter_map(|cpu| cores.iter().position(|core| core.cpus.contains(&cpu)))
            .collect();
        good += usize::from(used.len() == cores.len());
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("whole cores for all: {good} of {all} samples");
    ensure!(
        good * 100 > all * 95,
        "only in {good} of {all} samples had each thread a core"
    );
    drop(crew);
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

/// The kernel's weights of nice 0 and nice 5 (`sched_prio_to_weight`).
const NICE_5_TO_0: f64 = 335.0 / 1024.0;

fn shares_by_weight() -> Result<()> {
    weigh_pair([])
}

/// The pair's CPU is also wanted by others, and their clocks run at other speeds.
fn shares_by_weight_beside_others() -> Result<()> {
    let all = cpus()?;
    weigh_pair(all.iter().skip(1).map(|_| Job::busy()).collect::<Vec<_>>())
}

fn weigh_pair(others: impl IntoIterator<Item = Job>) -> Result<()> {
    let companion = Companion::start(&[])?;
    let cpu = [*cpus()?.last().context("no CPU")?];
    let _others = Crew::start(others)?;
    let pair = Crew::start([Job::busy().on(&cpu), Job::busy().on(&cpu).nice(5)])?;
    std::thread::sleep(Duration::from_secs(2));
    let before = pair.cpu_times()?;
    std::thread::sleep(Duration::from_secs(12));
    let ran: Vec<f64> = pair
        .cpu_times()?
        .iter()
        .zip(before)
        .map(|(a, b)| a - b)
        .collect();
    let ratio = ran[1] / ran[0];
    println!("nice 5 to nice 0: {ratio:.3}, by weight {NICE_5_TO_0:.3}; ran {ran:.2?} s");
    ensure!(
        (ratio / NICE_5_TO_0 - 1.0).abs() < 0.15,
        "nice 5 had {ratio:.3} of nice 0"
    );
    drop(pair);
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

/// Confined tasks lag far behind tasks that have a CPU each; who comes later must wait for
/// neither kind to catch up.
fn serves_newcomers_soon() -> Result<()> {
    let companion = Companion::start(&[])?;
    let all = cpus()?;
    let few = &all[..2];
    let old = Crew::start(
        (0..6)
            .map(|_| Job::busy().on(few))
            .chain(all.iter().skip(3).map(|_| Job::busy())),
    )?;
    old.watch(Duration::from_secs(8))?;
    let new = Crew::start(
        [
            Job::busy().on(few),
            Job::busy(),
            Job::napping().on(&all[..1]),
            Job::napping(),
        ]
        .into_iter()
        .chain(few.iter().map(|&cpu| Job::busy().on(&[cpu]))),
    )?;
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        old.look()?;
        new.watch(Duration::from_millis(100))?;
    }
    let (waited_new, waited_old) = (new.longest_wait(..), old.longest_wait(..));
    println!("longest wait: new {waited_new:?}, old {waited_old:?}");
    ensure!(
        waited_new.max(waited_old) < Duration::from_secs(2),
        "{waited_new:?} {waited_old:?}"
    );
    drop((old, new));
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

/// Node 0 has twice as many tasks as CPUs. While node 1 is busy with its own, it takes some;
/// when it is not, it is not idle.
fn helps_the_other_node() -> Result<()> {
    let companion = Companion::start(&[])?;
    let (here, there) = (node_cpus(0)?, node_cpus(1)?);
    let own = Crew::start(there.iter().map(|&cpu| Job::busy().on(&[cpu])))?;
    let many = Crew::start((0..here.len() * 3).map(|_| Job::busy().on(&here)))?;
    std::thread::sleep(Duration::from_secs(2));
    many.allow(&cpus()?)?;
    let share = |span| many.share_on(&there, span);
    let beside = share(Duration::from_secs(5));
    drop(own);
    std::thread::sleep(Duration::from_secs(1));
    let before = machine_idle(&there)?;
    let alone = share(Duration::from_secs(5));
    let idle = (machine_idle(&there)? - before) / there.len() as f64;
    println!("on node 1: {beside:.2} beside its own, {alone:.2} alone; idle {idle:.2} s of 5");
    ensure!(beside > 0.15, "node 1 did not help: {beside:.2}");
    ensure!((0.4..0.6).contains(&alone), "node 1 had {alone:.2} of them");
    ensure!(idle < 0.25, "node 1 was idle for {idle:.2} s of 5");
    drop(many);
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}

/// Seconds that these CPUs were idle since boot, together.
fn machine_idle(cpus: &[u32]) -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: u64 = cpus
        .iter()
        .filter_map(|cpu| {
            let name = format!("cpu{cpu} ");
            let fields = stat.lines().find_map(|line| line.strip_prefix(&name))?;
            fields.split_whitespace().nth(3)?.parse::<u64>().ok()
        })
        .sum();
    Ok(ticks as f64 / 100.0)
}

/// How long a thread may be on no CPU when each CPU has about five busy ones: twice and more
/// what was seen on an emulated machine that shares its host.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
const LONGEST_LIGHT_WAIT: Duration = Duration::from_secs(8);
/// The lowest nice value that counts as light.
const LIGHT: i32 = 10;

fn no_starvation_under_load() -> Result<()> {
    let rejected = || fs::read_to_string("/sys/kernel/sched_ext/nr_rejected");
    let before = rejected()?;
    let companion = Companion::start(&[])?;
    let all = cpus()?;
    let nices = [0, 0, 5, 19, -5];
    let jobs = (0..all.len() * 2)
        .map(|n| Job::busy().nice(nices[n % nices.len()]))
        .chain(all.iter().map(|&cpu| Job::busy().on(&[cpu])))
        .chain(all.iter().map(|&cpu| Job::napping().on(&[cpu])))
        .chain(all.iter().map(|_| Job::napping()))
        .chain([Job::forking(), Job::forking(), Job::spawning()]);
    let crew = Crew::start(jobs)?;
    let movers = Crew::start((0..all.len()).map(|_| Job::busy()))?;
    let end = Instant::now() + Duration::from_secs(crate::soak().unwrap_or(20));
    for turn in 0.. {
        movers.shuffle(&all, turn)?;
        std::thread::sleep(Duration::from_millis(20));
        if turn % 10 == 0 {
            crew.look()?;
            movers.look()?;
            ensure!(state()? == "enabled", "{:?}", companion.end(SOON)?);
        }
        if Instant::now() > end {
            break;
        }
    }
    // An emulated CPU gets little done in a light thread's turn.
    crew.all_progress(Duration::from_secs(60))?;
    let waited = crew.longest_wait(..LIGHT).max(movers.longest_wait(..));
    let light = crew.longest_wait(LIGHT..);
    let count = crew.len() + movers.len();
    println!("longest wait of {count} threads: {waited:?}, nice 19: {light:?}");
    ensure!(
        waited < LONGEST_WAIT && light < LONGEST_LIGHT_WAIT,
        "{}{}",
        crew.waits(),
        movers.waits()
    );
    ensure!(rejected()? == before, "tasks were rejected");
    drop((crew, movers));
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    no_complaints()
}

/// The kernel's log holds no error of sched_ext's.
fn no_complaints() -> Result<()> {
    let log = Command::new("dmesg").output()?;
    let log = String::from_utf8_lossy(&log.stdout);
    let bad = log.lines().find(|line| {
        line.contains("sched_ext")
            && ["error", "stall", "WARNING"]
                .iter()
                .any(|w| line.contains(w))
    });
    ensure!(bad.is_none(), "{bad:?}");
    wait_for("disabled", SOON, || {
        state().is_ok_and(|state| state == "disabled")
    })
}
