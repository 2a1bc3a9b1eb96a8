// SPDX-License-Identifier: GPL-2.0-only
//! Which source idleness is read from, that reading harms no scheduler, and that cores are
//! counted right.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject};

use crate::admission::gate_on_node_0;
use crate::gate::{Gate, Verdict};
use crate::launch::{program, starts};
use crate::machine::{Core, Load, in_the_end, node_cores, pin};
use crate::schedulers::{
    Ends, KernelLog, Scheduler, Tracking, schedulers, settle, state, wait_until_none,
};
use crate::skel::unguarded::{UnguardedSkel, UnguardedSkelBuilder};
use crate::{COUNTED, COUNTED_MOST, NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "cores_are_counted_right",
        needs: Needs::Nothing,
        on: COUNTED_MOST,
        run: counts,
    },
    Test {
        name: "cores_are_counted_right_under_each_scheduler",
        needs: Needs::WholeSchedExt,
        on: COUNTED,
        run: counts_under_schedulers,
    },
    Test {
        name: "i4_cores_that_a_scheduler_lost_are_free",
        needs: Needs::WholeSchedExt,
        on: NUMA,
        run: lost_idle,
    },
    Test {
        name: "only_cores_that_the_task_may_use_count",
        needs: Needs::Nothing,
        on: COUNTED_MOST,
        run: affinity,
    },
    Test {
        name: "i1_no_scheduler_is_harmed",
        needs: Needs::SchedExt,
        on: NUMA,
        run: no_harm,
    },
    Test {
        name: "i1_without_the_guard_schedulers_are_harmed",
        needs: Needs::SchedExt,
        on: NUMA,
        run: harm,
    },
];

pub(crate) const SERVER: &str = "/opt/server";
const SWAPS: usize = 18;

/// A gate that denies nothing, so that each launch says how many cores it counted.
pub(crate) fn counting_gate() -> Result<Gate> {
    program(SERVER)?;
    gate_on_node_0(&Gate::policy(
        "enforce",
        SERVER,
        "own_core = false\naction = \"log\"",
    ))
}

/// Whether a verdict counts as many free cores as there are of `idle`, those that nobody was
/// given to run on: all but the one that the launch came from. It may be less for a while, as a
/// kernel thread may run on one; it can never be more.
pub(crate) fn counts_all(verdict: &Verdict, idle: &[Core]) -> Result<bool> {
    let (cpu, free) = (
        verdict.number("cpu")?,
        verdict.number("cores_free")? as usize,
    );
    // A scheduler may move a child before its exec.
    let expected = idle.iter().filter(|core| !core.cpus.contains(&cpu)).count();
    ensure!(
        free <= expected,
        "{free} free cores, at most {expected} are: {verdict:?}"
    );
    Ok(free == expected)
}

/// Launches until the verdict counts all of them.
pub(crate) fn counted_in_the_end(gate: &Gate, idle: &[Core]) -> Result<Verdict> {
    let mut last = None;
    let found = in_the_end("all cores that are idle are counted", || {
        starts(SERVER)?;
        let verdict = gate.verdict()?;
        if counts_all(&verdict, idle)? {
            return Ok(Some(verdict));
        }
        last = Some(verdict);
        Ok(None)
    });
    found.with_context(|| format!("last {last:?}, though {idle:?} are idle"))
}

/// Runs on `cpu` and stays there until something else wants it, though all of `cores` are
/// allowed.
pub(crate) fn run_on(cpu: u32, cores: &[Core]) -> Result<()> {
    pin(&[cpu])?;
    pin(&cores
        .iter()
        .flat_map(|core| core.cpus.clone())
        .collect::<Vec<_>>())
}

/// Makes one core after the other busy, each on another of its threads. The caller begins on
/// the last core.
pub(crate) fn count_each(gate: &Gate, source: &str) -> Result<()> {
    let cores = node_cores(0)?;
    let (own, others) = cores.split_last().context("no cores")?;
    for busy in 0..=others.len() {
        let cpus: Vec<u32> = others[..busy]
            .iter()
            .enumerate()
            .map(|(i, core)| core.cpus[(i + 1) % core.cpus.len()])
            .collect();
        let _load = Load::on(&cpus)?;
        run_on(own.cpus[0], &cores)?;
        let verdict = counted_in_the_end(gate, &cores[busy..])?;
        ensure!(
            verdict.get("source") == source,
            "{source} expected: {verdict:?}"
        );
    }
    Ok(())
}

fn counts() -> Result<()> {
    let gate = counting_gate()?;
    count_each(&gate, "runqueue")?;
    gate.stop()
}

fn counts_under_schedulers() -> Result<()> {
    let gate = counting_gate()?;
    for tracking in Tracking::ALL {
        let scheduler = Scheduler::load(tracking)?;
        settle(&gate)?;
        count_each(&gate, tracking.source()).with_context(|| format!("under {tracking:?}"))?;
        let status = gate.status()?;
        let per_node = tracking == Tracking::PerNode;
        ensure!(status["scheduler"]["per_node"] == per_node, "{status}");
        ensure!(
            status["scheduler"]["tracking"] == (tracking != Tracking::None),
            "{status}"
        );
        ensure!(status["source"] == tracking.source(), "{status}");
        ensure!(state() == "enabled", "{tracking:?} was ejected");
        drop(scheduler);
        wait_until_none()?;
    }
    ensure!(gate.status()?["scheduler"].is_null());
    gate.stop()
}

/// A scheduler takes idle CPUs out of the masks, and uses none. Node 0 has one core but the launcher's.
fn lost_idle() -> Result<()> {
    const LAUNCHES: usize = 20;
    let gate = counting_gate()?;
    let cores = node_cores(0)?;
    let mut storage = MaybeUninit::uninit();
    let mut schedulers = schedulers(&mut storage)?;
    let scheduler = Scheduler::attach(&mut schedulers.maps.careless)?;
    settle(&gate)?;
    let mut found = 0;
    for _ in 0..LAUNCHES {
        run_on(cores[0].cpus[0], &cores)?;
        starts(SERVER)?;
        let verdict = gate.verdict()?;
        ensure!(verdict.get("source") == "node", "{verdict:?}");
        found += usize::from(verdict.number("cores_free")? == 1);
    }
    drop(scheduler);
    wait_until_none()?;
    // The kernel's threads run there now and then.
    ensure!(found * 4 >= LAUNCHES * 3, "found {found} of {LAUNCHES}");
    gate.stop()
}

fn affinity() -> Result<()> {
    let gate = counting_gate()?;
    let cores = node_cores(0)?;
    let (own, others) = cores.split_last().context("no cores")?;
    for allowed in 0..=others.len() {
        // One thread of a core is enough to have the core.
        let mut cpus: Vec<u32> = others[..allowed]
            .iter()
            .filter_map(|core| core.cpus.last().copied())
            .collect();
        cpus.push(own.cpus[0]);
        pin(&own.cpus[..1])?;
        pin(&cpus)?;
        counted_in_the_end(
            &gate,
            &[&others[..allowed], std::slice::from_ref(own)].concat(),
        )?;
    }
    gate.stop()
}

/// Swaps schedulers of ours under a storm.
fn swap_ours(swaps: usize) -> Result<Ends> {
    swap_under_storm(swaps, |swap| Scheduler::load(Tracking::ALL[swap % 3]))
}

/// Loads schedulers one after the other under four exec loops and a fork loop.
pub(crate) fn swap_under_storm<S>(swaps: usize, load: impl Fn(usize) -> Result<S>) -> Result<Ends> {
    let mut log = KernelLog::from_now()?;
    let stop = AtomicBool::new(false);
    let launches = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if starts(SERVER).is_ok() {
                        launches.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = std::thread::spawn(|| ()).join();
            }
        });
        let swapped = (0..swaps).try_for_each(|swap| {
            let before = launches.load(Ordering::Relaxed);
            let scheduler = load(swap);
            // Of each kind some stay long enough for their masks to be asked, some do not.
            let stay = if swap % 9 < 3 { 900 } else { 100 };
            std::thread::sleep(Duration::from_millis(stay));
            drop(scheduler);
            wait_until_none()?;
            ensure!(
                launches.load(Ordering::Relaxed) > before,
                "no launch during swap {swap}"
            );
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        swapped
    })?;
    Ends::read(&mut log)
}

fn no_harm() -> Result<()> {
    program(SERVER)?;
    let gate = Gate::start(&Gate::policy("observe", SERVER, ""))?;
    let ends = swap_ours(SWAPS)?;
    let launches = gate.status()?["rules"][0]["launches"].as_u64().unwrap_or(0);
    ensure!(
        ends.harmed.is_empty(),
        "schedulers were harmed: {:?}",
        ends.harmed
    );
    ensure!(
        ends.unregistered == SWAPS,
        "{SWAPS} ends expected: {ends:?}"
    );
    ensure!(
        launches > SWAPS as u64,
        "only {launches} launches were judged"
    );
    Ok(())
}

/// The gate's way to free cores with the guard compiled out; it knows one core.
pub(crate) fn unguarded(storage: &mut MaybeUninit<OpenObject>) -> Result<UnguardedSkel<'_>> {
    let skel = UnguardedSkelBuilder::default().open(storage)?.load()?;
    let (node, core) = ([0u32, 1], [0u32, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let bytes = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect::<Vec<_>>()
    };
    skel.maps
        .nodes
        .update(&[0; 4], &bytes(&node), MapFlags::ANY)?;
    skel.maps
        .cores
        .update(&[0; 4], &bytes(&core), MapFlags::ANY)?;
    Ok(skel)
}

/// The same with the guard compiled out: the test above can fail.
fn harm() -> Result<()> {
    program(SERVER)?;
    let mut storage = MaybeUninit::uninit();
    let skel = unguarded(&mut storage)?;
    let _link = skel.progs.unguarded_exec.attach_lsm()?;
    let ends = swap_ours(Tracking::ALL.len())?;
    ensure!(
        !ends.harmed.is_empty(),
        "no scheduler was harmed without the guard: {ends:?}"
    );
    Ok(())
}
