// SPDX-License-Identifier: GPL-2.0-only
//! Since 7.1 a scheduler may have sub-schedulers, and a program may be associated with one map of
//! a scheduler, for good. The kernel answers with an empty mask to a program that is associated
//! with another map than the loaded one, or with none while the loaded one may have
//! sub-schedulers. Cores are counted right all the same.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use libbpf_rs::libbpf_sys::bpf_prog_assoc_struct_ops;
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
use libbpf_rs::{MapCore, MapHandle, MapMut, MapType, Program};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::companion::process::Companion;
use crate::gate::Gate;
use crate::idle::{SERVER, count_each, counting_gate, unguarded};
use crate::launch::starts;
use crate::schedulers::{
    Ends, KernelLog, Scheduler, Tracking, schedulers, settle, state, wait_until_none,
};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    test("i1_parent_of_sub_schedulers_is_not_asked", parent),
    test("i4_mask_of_another_scheduler_is_not_believed", association),
    test("i4_companion_may_start_anew", companion),
];

const fn test(name: &'static str, run: fn() -> Result<()>) -> Test {
    Test {
        name,
        needs: Needs::SubSchedulers,
        on: NUMA,
        run,
    }
}

/// Counts cores under a scheduler, which is unharmed then.
fn count_under(gate: &Gate, scheduler: Scheduler, source: &str) -> Result<()> {
    settle(gate)?;
    count_each(gate, source)?;
    ensure!(state() == "enabled", "the scheduler was ejected");
    drop(scheduler);
    wait_until_none()
}

/// What the kernel says, once for a scheduler, when a program asks that is not associated
/// (scx_prog_sched(), kernel/sched/ext_internal.h).
const WARNING: &str = "Unassociated program";

fn parent() -> Result<()> {
    let gate = counting_gate()?;
    let mut log = KernelLog::from_now()?;
    let mut storage = MaybeUninit::uninit();
    let mut skel = schedulers(&mut storage)?;
    count_under(&gate, Scheduler::attach(&mut skel.maps.parent)?, "runqueue")?;
    let lines = log.lines()?;
    ensure!(
        !lines.iter().any(|line| line.contains(WARNING)),
        "the scheduler was asked: {lines:?}"
    );

    // The same without the guard: the kernel does warn.
    let mut storage = MaybeUninit::uninit();
    let asking = unguarded(&mut storage)?;
    let _link = asking.progs.unguarded_exec.attach_lsm()?;
    let _scheduler = Scheduler::attach(&mut skel.maps.parent)?;
    starts(SERVER)?;
    let lines = log.lines()?;
    ensure!(
        lines.iter().any(|line| line.contains(WARNING)),
        "no warning: {lines:?}"
    );
    gate.stop()
}

/// Associates the gate's programs that ask for masks with the map of a scheduler.
fn associate(map: BorrowedFd<'_>) -> Result<()> {
    const ASKING: [&str; 4] = ["on_exec", "on_fork", "survey", "draw"];
    let programs: Vec<_> = ProgInfoIter::default()
        .filter(|program| ASKING.iter().any(|name| program.name == *name))
        .collect();
    ensure!(programs.len() == ASKING.len(), "{programs:?}");
    for program in programs {
        let fd = Program::fd_from_id(program.id)?;
        // SAFETY: both are descriptors that are open; there are no options.
        let answer = unsafe {
            bpf_prog_assoc_struct_ops(fd.as_raw_fd(), map.as_raw_fd(), std::ptr::null_mut())
        };
        ensure!(
            answer == 0,
            "cannot associate {:?}: {}",
            program.name,
            Errno::from_raw(-answer)
        );
    }
    Ok(())
}

/// An association is worth the masks of the very map that it is with.
fn association() -> Result<()> {
    let gate = counting_gate()?;
    let mut log = KernelLog::from_now()?;
    let (mut one, mut two) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (mut own, mut copy) = (schedulers(&mut one)?, schedulers(&mut two)?);
    associate(own.maps.per_node.as_fd())?;
    let count = |map: &mut MapMut<'_>, source| {
        count_under(&gate, Scheduler::attach(map)?, source)
            .with_context(|| format!("under {}", map.name().display()))
    };
    count(&mut own.maps.per_node, "node")?;
    count(&mut copy.maps.per_node, "runqueue")?;
    count(&mut own.maps.flat, "runqueue")?;
    count(&mut own.maps.parent, "runqueue")?;
    count(&mut own.maps.per_node, "node")?;
    let ends = Ends::read(&mut log)?;
    ensure!(ends.harmed.is_empty(), "{ends:?}");
    gate.stop()
}

/// The map of the companion that runs.
fn companion_map() -> Result<MapHandle> {
    let map = MapInfoIter::default()
        .find(|map| map.ty == MapType::StructOps && map.name == "companion")
        .context("the companion has no map")?;
    Ok(MapHandle::from_map_id(map.id)?)
}

/// The companion answers without an association; with one only until it starts anew.
fn companion() -> Result<()> {
    let gate = counting_gate()?;
    let mut log = KernelLog::from_now()?;
    let count_under_companion = |gate: &Gate, sources: &[&str]| -> Result<()> {
        let companion = Companion::start(&[])?;
        settle(gate)?;
        for (turn, source) in sources.iter().enumerate() {
            if turn > 0 {
                associate(companion_map()?.as_fd())?;
            }
            count_each(gate, source).with_context(|| format!("turn {turn}"))?;
        }
        ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
        wait_until_none()
    };
    count_under_companion(&gate, &["node"])?;
    count_under_companion(&gate, &["node", "node"]).context("associated")?;
    count_under_companion(&gate, &["runqueue"]).context("started anew")?;
    count_under(&gate, Scheduler::load(Tracking::Flat)?, "runqueue")?;
    gate.stop()?;
    count_under_companion(&counting_gate()?, &["node"]).context("with another gate")?;
    let ends = Ends::read(&mut log)?;
    ensure!(ends.harmed.is_empty(), "{ends:?}");
    Ok(())
}
