// SPDX-License-Identifier: GPL-2.0-only
//! Whether `status` tells the truth about cores that were promised.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::admission::gate_on_node_0;
use crate::claims::Running;
use crate::gate::Gate;
use crate::launch::{SPINNER, program, starts};
use crate::machine::{Load, node_cores, pin, wait_for};
use crate::persist::TakenDown;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "the_honoured_share_is_true",
        needs: Needs::Nothing,
        on: NUMA,
        run: share,
    },
    Test {
        name: "the_honoured_share_is_told_by_the_next_gate",
        needs: Needs::OneKernel,
        on: NUMA,
        run: next_gate,
    },
];

const SERVER: &str = "/opt/server";
const NEIGHBOUR: &str = "/opt/neighbour";
/// How many samples each part of the test waits for: with one each 10 ms it takes some seconds.
const SAMPLES: u64 = 200;

/// The samples of the rule so far, and those that were shared.
fn samples(gate: &Gate) -> Result<[u64; 2]> {
    let status = gate.status()?;
    let rule = &status["rules"][0];
    let [samples, shared] = ["samples", "shared"].map(|key| rule[key].as_u64());
    Ok([
        samples.context("no samples")?,
        shared.context("not shared")?,
    ])
}

/// The shared part of the samples from now on.
fn shared_from_now(gate: &Gate) -> Result<f64> {
    let before = samples(gate)?;
    let mut after = before;
    wait_for("samples", Duration::from_secs(60), || {
        after = samples(gate).unwrap_or(before);
        after[0] >= before[0] + SAMPLES
    })
    .with_context(|| format!("{before:?}, then {after:?}"))?;
    Ok((after[1] - before[1]) as f64 / (after[0] - before[0]) as f64)
}

/// A program on one hardware thread of a core, and now and then somebody else on the other one.
fn share() -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let cores = node_cores(0)?;
    let [quiet, own] = &cores[..] else {
        anyhow::bail!("two cores are expected, not {cores:?}");
    };
    let holder = Running::start_on(SERVER, SPINNER, &own.cpus[..1])?;
    pin(&quiet.cpus)?;
    let alone = shared_from_now(&gate)?;
    let load = Load::on(&own.cpus[1..])?;
    let beside = shared_from_now(&gate)?;
    drop(load);
    let again = shared_from_now(&gate)?;
    println!("shared: alone {alone:.3}, beside another {beside:.3}, alone again {again:.3}");
    // The kernel's own threads may be there at times.
    ensure!(alone < 0.1 && again < 0.1 && beside > 0.9);
    let pid = holder.pid();
    drop(holder);
    wait_for("the end of the claim", Duration::from_secs(20), || {
        gate.status()
            .is_ok_and(|status| status["rules"][0]["claims"] == 0)
    })?;
    let last = samples(&gate)?;
    // It was the only program of the rule.
    let end = gate.end_of_claim()?;
    let told = ["samples", "shared"].map(|key| end.number(key).map_or(u64::MAX, u64::from));
    ensure!(
        told == last && end.number("pid")? == pid && end.get("rule") == "probe",
        "{end:?} is of {pid} and {last:?}"
    );
    (0..20).try_for_each(|_| starts(NEIGHBOUR))?;
    ensure!(samples(&gate)? == last, "it goes on without a claim");
    gate.stop()
}

/// The claim outlives the gate by which it was taken; the next one takes samples of it.
fn next_gate() -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    let _taken_down = TakenDown;
    let policy = Gate::policy("enforce", SERVER, "");
    let own = node_cores(0)?.pop().context("no core")?;
    let gate = Gate::start_with(&policy, &[])?;
    let _holder = Running::start_on(SERVER, SPINNER, &own.cpus[..1])?;
    shared_from_now(&gate)?;
    gate.signal(Signal::SIGKILL)?;
    drop(gate);
    let gate = Gate::start_with(&policy, &[])?;
    // A program ends, and so the gate learns that there are claims.
    starts(NEIGHBOUR)?;
    let shared = shared_from_now(&gate)?;
    ensure!(shared < 0.5, "{shared}");
    gate.stop()
}
