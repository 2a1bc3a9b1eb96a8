// SPDX-License-Identifier: GPL-2.0-only
//! The program of `docs/idle-smtmask.md` counts right, and harms nobody.

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};

use crate::launch::{program, starts};
use crate::machine::{Load, cores, node_cores, pin, wait_for};
use crate::schedulers::{Scheduler, Tracking, state, wait_until_none};
use crate::skel::idle_smtmask::{IdleSmtmaskSkel, IdleSmtmaskSkelBuilder};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "the_worked_example_counts_idle_cores",
    needs: Needs::SchedExt,
    on: NUMA,
    run: counts,
}];

const PROGRAM: &str = "/opt/program";

fn counts() -> Result<()> {
    program(PROGRAM)?;
    let mut storage = MaybeUninit::uninit();
    let mut open = IdleSmtmaskSkelBuilder::default().open(&mut storage)?;
    let rodata = open.maps.rodata_data.as_deref_mut().context("no .rodata")?;
    rodata.leads_on.fill(-1);
    for core in cores()? {
        rodata.leads_on[core.cpus[0] as usize] = core.node as i32;
        rodata.nr_cpus = rodata.nr_cpus.max(core.cpus.iter().max().unwrap_or(&0) + 1);
    }
    let mut example = open.load()?;
    example.attach()?;

    ensure!(idle(&example)? == -1, "there is no scheduler");
    for tracking in Tracking::ALL {
        let scheduler = Scheduler::load(tracking)?;
        if tracking == Tracking::PerNode {
            counts_each(&example)?;
        } else {
            ensure!(idle(&example)? == -1, "under {tracking:?}");
        }
        ensure!(state() == "enabled", "{tracking:?} was ejected");
        drop(scheduler);
        wait_until_none()?;
    }
    ensure!(idle(&example)? == -1, "the scheduler is gone");
    Ok(())
}

/// All cores of node 0 but the launcher's, and one less with each that is busy.
fn counts_each(example: &IdleSmtmaskSkel<'_>) -> Result<()> {
    let cores = node_cores(0)?;
    let (own, others) = cores.split_first().context("no cores")?;
    pin(&own.cpus[..1])?;
    for busy in 0..=others.len() {
        let cpus: Vec<_> = others[..busy].iter().map(|core| core.cpus[0]).collect();
        let _load = Load::on(&cpus)?;
        let expected = (others.len() - busy) as i32;
        let mut seen = Ok(0);
        wait_for("the right number", Duration::from_secs(20), || {
            seen = idle(example);
            matches!(seen, Ok(seen) if seen == expected)
        })
        .with_context(|| format!("{seen:?} instead of {expected}"))?;
    }
    Ok(())
}

/// What the program says at an exec.
fn idle(example: &IdleSmtmaskSkel<'_>) -> Result<i32> {
    let (before, _) = said(example)?;
    starts(PROGRAM)?;
    let (execs, idle) = said(example)?;
    ensure!(execs > before, "it saw no exec");
    Ok(idle)
}

/// The execs that it has seen, and what it said at the last one. Its memory changes by itself, so each
/// look is one of its own.
#[inline(never)]
fn said(example: &IdleSmtmaskSkel<'_>) -> Result<(u64, i32)> {
    let bss = example.maps.bss_data.as_deref().context("no .bss")?;
    Ok((bss.execs, bss.idle_at_last_exec))
}
