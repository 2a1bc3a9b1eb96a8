// SPDX-License-Identifier: GPL-2.0-only
//! The numbers in a verdict against the oracle's, under changing load.

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::libc::EAGAIN;

use crate::gate::{Gate, Verdict};
use crate::launch::{command, launch, program};
use crate::machine::{Core, Load, cores, node_cores, pin};
use crate::oracle::{Oracle, Truth};
use crate::schedulers::{Scheduler, Tracking, settle, state};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i4_the_scan_tells_the_truth",
        needs: Needs::Nothing,
        on: NUMA,
        run: scan,
    },
    Test {
        name: "i4_each_idle_source_tells_the_truth",
        needs: Needs::WholeSchedExt,
        on: NUMA,
        run: each_source,
    },
    Test {
        name: "i4_the_scan_tells_the_truth_on_other_topologies",
        needs: Needs::Nothing,
        on: &["one-node", "smt-off", "smt4"],
        run: scan_briefly,
    },
];

const SERVER: &str = "/opt/server";
/// By each idle source.
const LAUNCHES: usize = 150;
/// Where there is only one.
const LAUNCHES_IN_ALL: usize = 500;

/// How launches compared with the oracle.
#[derive(Debug, Default)]
struct Comparison {
    /// The oracle had one number, and the verdict has it.
    exact: usize,
    /// Something was on its way to a CPU, and the verdict lies in the range.
    in_range: usize,
    wrong: Vec<String>,
    admitted: usize,
}

impl Comparison {
    fn add(&mut self, truth: &Truth, cores: &[Core], verdict: &Verdict) -> Result<()> {
        let denied = verdict.effect() == "denied";
        let free = truth.free(cores);
        if !agree(truth, cores, verdict)? {
            self.wrong
                .push(format!("{free:?}: {truth:?}, but {verdict:?}"));
        } else if free.start() == free.end() {
            self.exact += 1;
        } else {
            self.in_range += 1;
        }
        self.admitted += usize::from(!denied);
        Ok(())
    }

    fn judge(&self, launches: usize) -> Result<()> {
        eprintln!(
            "{launches} launches: {} admitted; {} numbers exact, {} in range, {} wrong",
            self.admitted,
            self.exact,
            self.in_range,
            self.wrong.len()
        );
        ensure!(
            self.wrong.is_empty(),
            "{} wrong: {:#?}",
            self.wrong.len(),
            self.wrong
        );
        // The more cores a node has, the seldomer nothing is on its way to any: of four, 4 to 11 in 200.
        let few = if node_cores(0)?.len() > 2 {
            0
        } else {
            launches / 20
        };
        ensure!(self.exact > few, "the oracle was sure of too few: {self:?}");
        let both = self.admitted > launches / 20 && self.admitted < launches - launches / 20;
        ensure!(both, "the load gave only one answer: {self:?}");
        Ok(())
    }
}

/// Whether a verdict can be what it is, by the truth.
fn agree(truth: &Truth, cores: &[Core], verdict: &Verdict) -> Result<bool> {
    let free = verdict.number("cores_free")?;
    let denied = verdict.effect() == "denied";
    Ok(truth.free(cores).contains(&free)
        && denied == (free < verdict.number("cores_needed")?)
        && truth.answer == if denied { -EAGAIN } else { 0 })
}

/// With sched_ext, most launches are under its schedulers.
fn scan() -> Result<()> {
    let launches = if state().is_empty() {
        LAUNCHES_IN_ALL
    } else {
        LAUNCHES
    };
    compare(soak_or(launches), "runqueue")
}

fn soak_or(launches: usize) -> usize {
    crate::soak().map_or(launches, |soak| soak as usize)
}

fn scan_briefly() -> Result<()> {
    compare(200, "runqueue")
}

fn each_source() -> Result<()> {
    for tracking in Tracking::ALL {
        let scheduler = Scheduler::load(tracking)?;
        compare(soak_or(LAUNCHES), tracking.source())
            .with_context(|| format!("under {tracking:?}"))?;
        ensure!(state() == "enabled", "{tracking:?} was ejected");
        drop(scheduler);
    }
    Ok(())
}

/// Launches from changing places, with changing needs, under changing load.
fn compare(launches: usize, source: &str) -> Result<()> {
    program(SERVER)?;
    let mut storage = MaybeUninit::uninit();
    let mut oracle = Oracle::start(&mut storage)?;
    // The oracle counts idle cores only.
    let gate = Gate::start(&Gate::policy("enforce", SERVER, "own_core = false"))?;
    settle(&gate)?;
    let all = cores()?;
    let mut comparison = Comparison::default();
    let mut load = None;
    for i in 0..launches {
        if i % 10 == 0 {
            drop(load.take());
            load = Some(some_load(&all, i / 10)?);
        }
        let node = all[i % all.len()].node;
        let here: Vec<Core> = all
            .iter()
            .filter(|core| core.node == node)
            .cloned()
            .collect();
        pin(&here
            .iter()
            .flat_map(|core| core.cpus.clone())
            .collect::<Vec<_>>())?;
        oracle.forget()?;
        launch(&mut command(SERVER))?;
        let verdict = gate.verdict()?;
        let pid = verdict.number("pid")? as i32;
        ensure!(
            verdict.get("source") == source,
            "{source} expected: {verdict:?}"
        );
        // What was under way in the hook is over soon, or on a busy machine at least then.
        for wait in [30, 300] {
            let late = Duration::from_millis(wait);
            std::thread::sleep(late);
            let truths = oracle.truths(pid, gate.pid(), late)?;
            let [truth] = &truths[..] else {
                bail!("one exec of {pid} expected: {truths:?}")
            };
            if wait == 300 || agree(truth, &here, &verdict)? {
                comparison.add(truth, &here, &verdict)?;
                break;
            }
        }
    }
    comparison.judge(launches)?;
    gate.stop()
}

/// A load that leaves some cores alone: busy threads, bursts, or both.
fn some_load(cores: &[Core], round: usize) -> Result<(Load, Load)> {
    let pick = |offset: usize, count: usize| -> Vec<u32> {
        (0..count)
            .map(|i| &cores[(round * 3 + offset + i) % cores.len()].cpus)
            .map(|cpus| cpus[(round + offset) % cpus.len()])
            .collect()
    };
    Ok((
        Load::on(&pick(0, round % 4))?,
        Load::bursts(&pick(2, (round / 4) % 3), Duration::from_millis(10))?,
    ))
}
