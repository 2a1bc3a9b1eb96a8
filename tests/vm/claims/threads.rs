// SPDX-License-Identifier: GPL-2.0-only
//! A holder whose threads take turns on one CPU has that core, under any scheduler.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Running;
use crate::admission::gate_on_node_0;
use crate::companion::process::Companion;
use crate::gate::Gate;
use crate::launch::{PAIR, command, launch, program};
use crate::machine::{Core, cores, in_the_end, keep, node_cores, node_cpus, pin};
use crate::oracle::Oracle;
use crate::oracle::room::{Claim, Wanted};
use crate::schedulers::{Scheduler, Tracking, settle, wait_until_none};

const SERVER: &str = "/opt/server";
const NEXT: &str = "/opt/next";

/// How many launches the oracle has to be sure of, under each scheduler.
const SURE: u32 = 100;

/// The holder may use both cores of node 0, and its two threads run on one CPU of the first core. So the
/// other core is owed to nobody, and a launch there is admitted, unless something else runs or waits on
/// one of the cores just then: the oracle says so.
pub(super) fn share() -> Result<()> {
    program(SERVER)?;
    program(NEXT)?;
    let policy = Gate::policy("enforce", SERVER, "")
        + &format!("[[rule]]\nname = \"next\"\nexe = \"{NEXT}\"\nhold = \"none\"\n");
    let gate = gate_on_node_0(&policy)?;
    under(&gate, "the kernel's scheduler")?;
    for tracking in [Tracking::PerNode, Tracking::Flat] {
        let _scheduler = Scheduler::load(tracking)?;
        under(&gate, &format!("{tracking:?}"))?;
    }
    wait_until_none()?;
    let companion = Companion::start(&[])?;
    under(&gate, "the companion")?;
    drop(companion);
    wait_until_none()?;
    gate.stop()
}

fn under(gate: &Gate, scheduler: &str) -> Result<()> {
    let [theirs, ours] = <[_; 2]>::try_from(node_cores(0)?)
        .ok()
        .context("two cores expected")?;
    settle(gate)?;
    pin(&node_cpus(0)?)?;
    let (_holder, claim) = hold(gate, theirs.cpus[0])?;
    pin(&ours.cpus[..1])?;
    let mut storage = MaybeUninit::uninit();
    let mut oracle = Oracle::start(&mut storage)?;
    let (machine, mut sure, mut unsure) = (cores()?, 0, 0);
    while sure < SURE {
        let admitted = launched_beside(gate, &mut oracle, &claim, &machine, &ours)?;
        ensure!(
            admitted != Some(false),
            "under {scheduler} a launch was denied beside {claim:?}, after {sure} admitted"
        );
        sure += u32::from(admitted.is_some());
        unsure += u32::from(admitted.is_none());
        ensure!(unsure < 4 * SURE, "the oracle is sure of {sure} only");
    }
    println!("{scheduler}: {sure} of {sure} admitted; {unsure} that the oracle is not sure of");
    Ok(())
}

/// Starts the holder, and puts both its threads on one CPU: it, and its claim.
fn hold(gate: &Gate, cpu: u32) -> Result<(Running, Claim)> {
    let allowed = node_cpus(0)?;
    let running = in_the_end("the holder", || {
        let started = Command::new(SERVER).arg0(PAIR).spawn().ok();
        gate.verdict()?;
        Ok(started.map(Running))
    })?;
    let threads = format!("/proc/{}/task", running.pid());
    let pids: Vec<u32> = in_the_end("two threads", || {
        let pids = fs::read_dir(&threads)?
            .map(|thread| Ok(thread?.file_name().to_string_lossy().parse()?))
            .collect::<Result<Vec<_>>>()?;
        Ok((pids.len() == 2).then_some(pids))
    })?;
    pids.iter().try_for_each(|&pid| keep(pid, &[cpu]))?;
    let claim = Claim {
        pids: pids.into_iter().map(|pid| pid as i32).collect(),
        held: BTreeMap::from([(0, 1)]),
        allowed,
    };
    Ok((running, claim))
}

/// Launches a program: whether it is admitted, if the oracle is sure that there was room.
fn launched_beside(
    gate: &Gate,
    oracle: &mut Oracle<'_>,
    claim: &Claim,
    machine: &[Core],
    ours: &Core,
) -> Result<Option<bool>> {
    oracle.forget()?;
    let admitted = launch(&mut command(NEXT))?.is_none();
    let verdict = gate.verdict()?;
    let truths = oracle.truths(verdict.number("pid")? as i32, gate.pid(), Duration::ZERO)?;
    let [truth] = &truths[..] else {
        bail!("one exec expected: {truths:?}")
    };
    let wanted = Wanted {
        cores: 1,
        nodes: vec![0],
        spread: false,
        allowed: ours.cpus[..1].to_vec(),
        cpu: verdict.number("cpu")?,
        own_core: true,
    };
    let claims = std::slice::from_ref(claim);
    let (surely, _) = truth.room(machine, &wanted, claims, claims);
    if surely && !admitted {
        println!("{verdict:?}, but there was room by {truth:?}");
    }
    Ok(surely.then_some(admitted))
}
