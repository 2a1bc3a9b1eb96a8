// SPDX-License-Identifier: GPL-2.0-only
//! CPUs that go and come while the gate stands.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::sys::signal::Signal;

use crate::admission::{admitted_in_the_end, gate_on_node_0};
use crate::claims::{Running, admitted, wait_until_held};
use crate::gate::Gate;
use crate::idle::{counted_in_the_end, counts_all, run_on};
use crate::launch::{SLEEPER, fails, program, starts};
use crate::machine::{Core, Load, cpus, let_programs_go, node_cores, node_cpus, pin, wait_for};
use crate::schedulers::{Scheduler, Tracking, settle, state, wait_until_none};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "cores_are_counted_right_when_smt_is_switched",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: smt,
    },
    Test {
        name: "cpus_that_the_daemon_does_not_know_are_unknown_until_it_follows",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: newcomers,
    },
    Test {
        name: "cpus_go_and_come_without_the_daemon",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: without_the_daemon,
    },
    Test {
        name: "claims_outlive_their_node",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: node,
    },
    Test {
        name: "cpus_go_and_come_under_each_scheduler",
        needs: Needs::SchedExtHotplug,
        on: NUMA,
        run: under_schedulers,
    },
];

const SERVER: &str = "/opt/server";
/// What is launched from the core of another one is not on a free core.
const OTHER_CORES: &str = "own_core = false";

/// The CPUs that are online; those that went are so again when it is dropped.
struct Online(Vec<u32>);

impl Online {
    fn now() -> Result<Self> {
        let_programs_go();
        Ok(Self(cpus()?))
    }

    /// Switches these off, and all others on.
    fn without(&self, offline: &[u32]) -> Result<()> {
        for cpu in &self.0 {
            let switch = format!("/sys/devices/system/cpu/cpu{cpu}/online");
            // The first one may have none.
            if fs::exists(&switch)? {
                fs::write(&switch, if offline.contains(cpu) { "0" } else { "1" })
                    .with_context(|| format!("cannot switch CPU {cpu}"))?;
            }
        }
        Ok(())
    }

    /// Switches all threads but the first of each core.
    fn smt(&self, switch: &str) -> Result<()> {
        fs::write("/sys/devices/system/cpu/smt/control", switch)
            .with_context(|| format!("cannot switch SMT {switch}"))
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        if let Err(error) = self.smt("on").and_then(|()| self.without(&[])) {
            eprintln!("CPUs stay offline: {error:?}");
        }
    }
}

/// Waits until the status has these nodes: number, cores, free cores.
fn wait_for_nodes(gate: &Gate, expected: &[[u64; 3]]) -> Result<()> {
    let mut last = None;
    let done = wait_for("the status", Duration::from_secs(20), || {
        last = gate.status().ok().map(|status| status["nodes"].clone());
        let nodes = last.as_ref().and_then(|nodes| nodes.as_array());
        nodes.is_some_and(|nodes| {
            let numbers = nodes
                .iter()
                .map(|node| ["node", "cores", "free"].map(|field| node[field].as_u64()));
            numbers.eq(expected.iter().map(|node| node.map(Some)))
        })
    });
    done.with_context(|| format!("{expected:?} expected, found {last:?}"))
}

/// Launches on node 0 are admitted while a core is free, and denied when a thread of each is busy.
fn judged_right(gate: &Gate) -> Result<()> {
    let cores = node_cores(0)?;
    pin(&node_cpus(0)?)?;
    // The daemon is on a core of node 1.
    wait_for_nodes(gate, &[[0, 2, 2], [1, 2, 1]])?;
    let verdict = admitted_in_the_end(gate, SERVER)?;
    ensure!(verdict.number("cores_free")? == 1, "{verdict:?}");
    let last: Vec<u32> = cores
        .iter()
        .filter_map(|core| core.cpus.last().copied())
        .collect();
    let _load = Load::on(&last)?;
    wait_for_nodes(gate, &[[0, 2, 0], [1, 2, 1]])?;
    fails(SERVER, EAGAIN)?;
    let verdict = gate.verdict()?;
    ensure!(
        verdict.get("verdict") == "deny" && verdict.number("cores_free")? == 0,
        "{verdict:?}"
    );
    Ok(())
}

fn smt() -> Result<()> {
    program(SERVER)?;
    let online = Online::now()?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, OTHER_CORES))?;
    judged_right(&gate)?;
    for (switch, cpus) in [("off", 4), ("on", 8)] {
        online.smt(switch)?;
        gate.says(&format!("has 2 nodes, 4 cores, {cpus} CPUs online"))?;
        judged_right(&gate).with_context(|| format!("SMT {switch}"))?;
    }
    gate.stop()
}

fn newcomers() -> Result<()> {
    program(SERVER)?;
    let online = Online::now()?;
    online.smt("off")?;
    let policy = Gate::policy("enforce", SERVER, OTHER_CORES)
        .replace("[[rule]]", "on_unknown = \"admit\"\n[[rule]]");
    let gate = gate_on_node_0(&policy)?;
    judged_right(&gate)?;
    gate.signal(Signal::SIGSTOP)?;
    online.smt("on")?;
    // Nobody knows whether this known CPU has a sibling now.
    pin(&[0])?;
    starts(SERVER)?;
    gate.signal(Signal::SIGCONT)?;
    let verdict = gate.verdict()?;
    ensure!(verdict.get("verdict") == "unknown", "{verdict:?}");
    gate.says("has 2 nodes, 4 cores, 8 CPUs online")?;
    judged_right(&gate)?;
    gate.stop()
}

/// The cores of node 1 that are online now and on which nobody was given to run.
fn idle_cores(busy: &[u32]) -> Result<Vec<Core>> {
    let mut cores = node_cores(1)?;
    cores.retain(|core| !core.cpus.iter().any(|cpu| busy.contains(cpu)));
    Ok(cores)
}

/// Of node 1, the core to launch from, and the threads of the other one.
fn split_node_1() -> Result<(Core, [u32; 2])> {
    let mut cores = node_cores(1)?;
    let theirs = cores.pop().context("no core")?;
    let ours = cores.pop().context("one core only")?;
    let threads = theirs
        .cpus
        .try_into()
        .ok()
        .context("two threads expected")?;
    Ok((ours, threads))
}

/// Starts a gate that only logs, and whose daemon keeps off node 1.
fn gate_for_node_1() -> Result<Gate> {
    pin(&node_cpus(0)?)?;
    let more = format!("{OTHER_CORES}\naction = \"log\"");
    Gate::start(&Gate::policy("enforce", SERVER, &more))
}

/// Threads of the other core of node 1 that are offline, and those that are busy.
const STEPS: [(&[usize], &[usize]); 7] = [
    (&[1], &[]),
    (&[1], &[0]),
    (&[0, 1], &[]),
    (&[0], &[]),
    (&[0], &[1]),
    (&[], &[0]),
    (&[], &[]),
];

/// The CPUs that these threads are.
fn pick(threads: [u32; 2], which: &[usize]) -> Vec<u32> {
    which.iter().map(|&thread| threads[thread]).collect()
}

/// The daemon knows at each step what was online one step before.
fn without_the_daemon() -> Result<()> {
    const LAUNCHES: usize = 10;
    program(SERVER)?;
    let online = Online::now()?;
    let (ours, theirs) = split_node_1()?;
    let gate = gate_for_node_1()?;
    // A task may keep CPUs that go offline.
    run_on(ours.cpus[0], &node_cores(1)?)?;
    for (offline, busy) in STEPS.map(|(off, busy)| (pick(theirs, off), pick(theirs, busy))) {
        gate.signal(Signal::SIGSTOP)?;
        online.without(&offline)?;
        let load = Load::on(&busy)?;
        let idle = idle_cores(&busy)?;
        (0..LAUNCHES).try_for_each(|_| starts(SERVER))?;
        drop(load);
        gate.signal(Signal::SIGCONT)?;
        let mut all = false;
        for verdict in gate.verdicts(LAUNCHES)? {
            ensure!(verdict.get("verdict") != "unknown", "{verdict:?}");
            all |= counts_all(&verdict, &idle)
                .with_context(|| format!("offline {offline:?}, busy {busy:?}"))?;
        }
        ensure!(all, "offline {offline:?}, busy {busy:?}: {idle:?} are idle");
    }
    gate.stop()
}

/// A holder sleeps: the one core of node 1 that the launch does not come from is not to be had.
fn node() -> Result<()> {
    program(SERVER)?;
    let online = Online::now()?;
    let node_1 = node_cpus(1)?;
    pin(&node_cores(0)?.pop().context("no core")?.cpus)?;
    let gate = Gate::start(&Gate::policy("enforce", SERVER, OTHER_CORES))?;
    pin(&node_1)?;
    admitted(SERVER)?;
    let holder = Running::start_on(SERVER, SLEEPER, &node_1)?;
    pin(&node_1)?;
    fails(SERVER, EAGAIN).context("before")?;
    pin(&node_cpus(0)?)?;
    online.without(&node_1)?;
    gate.says("has 1 node, 2 cores, 4 CPUs online")?;
    wait_for_nodes(&gate, &[[0, 2, 1]])?;
    ensure!(gate.status()?["rules"][0]["claims"] == 1);
    admitted(SERVER).context("on the other node")?;
    online.without(&[])?;
    gate.says("has 2 nodes, 4 cores, 8 CPUs online")?;
    wait_until_held(&gate, 1)?;
    pin(&node_1)?;
    fails(SERVER, EAGAIN).context("after")?;
    drop(holder);
    wait_until_held(&gate, 0)?;
    admitted(SERVER)?;
    gate.stop()
}

fn under_schedulers() -> Result<()> {
    program(SERVER)?;
    let online = Online::now()?;
    let (ours, theirs) = split_node_1()?;
    let gate = gate_for_node_1()?;
    run_on(ours.cpus[0], &node_cores(1)?)?;
    for tracking in Tracking::ALL {
        let scheduler = Scheduler::load(tracking)?;
        settle(&gate)?;
        // The kernel ends one that does not expect it.
        let stays = tracking != Tracking::None;
        for (offline, busy) in STEPS.map(|(off, busy)| (pick(theirs, off), pick(theirs, busy))) {
            online.without(&offline)?;
            if !stays {
                wait_until_none()?;
            }
            let _load = Load::on(&busy)?;
            let verdict = counted_in_the_end(&gate, &idle_cores(&busy)?)
                .with_context(|| format!("{tracking:?}, offline {offline:?}, busy {busy:?}"))?;
            let source = if stays { tracking.source() } else { "runqueue" };
            ensure!(verdict.get("source") == source, "{verdict:?}");
            ensure!((state() == "enabled") == stays, "{tracking:?}: {}", state());
        }
        drop(scheduler);
        wait_until_none()?;
    }
    gate.stop()
}
