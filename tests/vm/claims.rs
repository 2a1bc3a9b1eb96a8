// SPDX-License-Identifier: GPL-2.0-only
//! Claims: never one launch too many, never one refused wrongly, nothing left behind.

pub(crate) mod contenders;
mod domains;
mod threads;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::libc::{EAGAIN, EBUSY};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::gate::Gate;
use crate::launch::{
    AGAIN, FORKER, LEADERLESS, PARENT, SLEEPER, SPINNER, THREAD_AGAIN, THREADER, command, fails,
    launch, program, script,
};
use crate::machine::{Load, cpus, in_the_end, node_cores, node_cpus, pin, wait_for};
use crate::schedulers::{Scheduler, Tracking, settle, wait_until_none};
use crate::{NUMA, Needs, Test};
use contenders::Contenders;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i3_one_free_core_is_given_once",
        needs: Needs::Nothing,
        on: NUMA,
        run: once,
    },
    Test {
        name: "i3_one_free_core_is_given_once_by_each_idle_source",
        needs: Needs::SchedExt,
        on: NUMA,
        run: once_by_each_source,
    },
    Test {
        name: "i3_three_free_cores_are_given_to_one_that_needs_two",
        needs: Needs::Nothing,
        on: NUMA,
        run: two_of_three,
    },
    Test {
        name: "i3_claims_that_can_have_one_core_only_are_owed_one",
        needs: Needs::AnyKernel,
        on: &["one-node"],
        run: confined,
    },
    Test {
        name: "i4_threads_of_a_holder_that_share_a_cpu_leave_it_its_core",
        needs: Needs::WholeSchedExt,
        on: NUMA,
        run: threads::share,
    },
    Test {
        name: "i7_claims_go_with_their_programs",
        needs: Needs::Nothing,
        on: NUMA,
        run: released,
    },
    Test {
        name: "i7_a_fork_that_fails_later_holds_nothing",
        needs: Needs::Nothing,
        on: NUMA,
        run: unborn,
    },
    Test {
        name: "a_sleeping_holder_keeps_its_core",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: sleeping,
    },
    Test {
        name: "a_running_holder_is_not_counted_twice",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: running,
    },
    Test {
        name: "a_rule_says_how_long_cores_are_held",
        needs: Needs::OneKernel,
        on: NUMA,
        run: hold,
    },
    Test {
        name: "a_rule_says_where_cores_may_lie",
        needs: Needs::OneKernel,
        on: NUMA,
        run: scope,
    },
    Test {
        name: "a_rule_says_whether_the_own_core_counts",
        needs: Needs::OneKernel,
        on: NUMA,
        run: own_core,
    },
    Test {
        name: "a_rule_can_watch_forks_and_threads",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: forks,
    },
    Test {
        name: "a_full_table_of_claims_is_unknown",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: full,
    },
];

const SERVER: &str = "/opt/server";
const CONTENDERS: u32 = 64;
/// For each idle source.
const ROUNDS: u64 = 20;

/// A program that runs until it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts the program at `path` as one of those in [`crate::launch`].
    pub(crate) fn start(path: &str, name: &str) -> Result<Self> {
        in_the_end("a program is admitted", || {
            match Command::new(path).arg0(name).stdin(Stdio::null()).spawn() {
                Ok(child) => Ok(Some(Self(child))),
                Err(error) if error.raw_os_error() == Some(EAGAIN) => Ok(None),
                Err(error) => Err(error).with_context(|| format!("cannot start {path}")),
            }
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Starts it on these CPUs, and keeps it there.
    pub(crate) fn start_on(path: &str, name: &str, cpus: &[u32]) -> Result<Self> {
        pin(cpus)?;
        let running = Self::start(path, name);
        pin(&node_cpus(0)?)?;
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The claims that the first rule has, by the gate.
fn claims(gate: &Gate) -> Result<u64> {
    gate.status()?["rules"][0]["claims"]
        .as_u64()
        .context("no claims")
}

/// The cores that are held on all nodes, by the gate.
fn held(gate: &Gate) -> Result<u64> {
    held_by(&gate.status()?)
}

/// The same, by what it said.
pub(crate) fn held_by(status: &Value) -> Result<u64> {
    let nodes = status["nodes"].as_array().context("no nodes")?;
    nodes
        .iter()
        .map(|node| node["claimed"].as_u64().context("no number"))
        .sum()
}

pub(crate) fn wait_until_held(gate: &Gate, cores: u64) -> Result<()> {
    let mut last = None;
    let done = wait_for("claims", Duration::from_secs(10), || {
        last = held(gate).ok();
        last == Some(cores)
    });
    done.with_context(|| format!("{cores} cores held expected, found {last:?}"))
}

/// Contenders for one core: each round exactly one of them starts. They may use all CPUs, or are confined
/// to some.
fn contend(gate: &Gate, contenders: &mut Contenders, confined: bool) -> Result<()> {
    let rounds = crate::soak().unwrap_or(ROUNDS);
    let mut passes = 0;
    for round in 0..rounds {
        let mut running = 0;
        while running == 0 {
            running = contenders.pass()?;
            passes += 1;
            ensure!(passes < 100 * rounds, "nobody is ever admitted");
        }
        let status = gate.status()?;
        ensure!(
            running == 1,
            "round {round}: {running} were admitted: {status}"
        );
        // A confined program is owed one of the cores of its domain: if there are none, no core at all.
        let domains = domains::of_live_claims()?;
        let whole = |domain: &Option<u32>| domain.is_some() == confined && *domain != Some(0);
        ensure!(
            domains.len() == 1 && domains.iter().all(whole),
            "round {round}: cores of the domains of live claims: {domains:?}"
        );
        contenders.clear()?;
    }
    // What they were told before does not fill the log's queue.
    eprintln!("{rounds} rounds, {passes} passes");
    wait_until_held(gate, 0)
}

/// Node 0 with one core free, and contenders on it.
fn once_with(gate: &Gate) -> Result<()> {
    let busy = node_cores(0)?.remove(0);
    let _load = Load::on(&busy.cpus[..1])?;
    let mut contenders = Contenders::start(CONTENDERS, SERVER)?;
    contend(gate, &mut contenders, true)
}

fn once() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::strict(&Gate::policy("enforce", SERVER, "")))?;
    once_with(&gate)?;
    gate.stop()
}

fn once_by_each_source() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::strict(&Gate::policy("enforce", SERVER, "")))?;
    for tracking in Tracking::ALL {
        let scheduler = Scheduler::load(tracking)?;
        settle(&gate)?;
        once_with(&gate).with_context(|| format!("under {tracking:?}"))?;
        drop(scheduler);
        wait_until_none()?;
    }
    gate.stop()
}

fn two_of_three() -> Result<()> {
    program(SERVER)?;
    let policy = Gate::policy("enforce", SERVER, "cores = 2\nscope = \"spread\"");
    let gate = gate_on_node_0(&Gate::strict(&policy))?;
    let busy = node_cores(0)?.remove(0);
    let _load = Load::on(&busy.cpus[..1])?;
    pin(&cpus()?)?;
    let mut contenders = Contenders::start(CONTENDERS, SERVER)?;
    contend(&gate, &mut contenders, false)?;
    drop(contenders);
    gate.stop()
}

fn sleeping() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let [first, second] = [
        Running::start(SERVER, SLEEPER)?,
        Running::start(SERVER, SLEEPER)?,
    ];
    ensure!(
        claims(&gate)? == 2 && held(&gate)? == 2,
        "{}",
        gate.status()?
    );
    fails(SERVER, EAGAIN)?;
    drop(first);
    wait_until_held(&gate, 1)?;
    let third = Running::start(SERVER, SLEEPER)?;
    fails(SERVER, EAGAIN)?;
    drop((second, third));
    wait_until_held(&gate, 0)?;
    gate.stop()
}

/// Of four cores one is busy, and two claims may have only that and another one, which one of them may
/// have only: so no launch keeps the other one from a core.
fn confined() -> Result<()> {
    let exes = [SERVER, "/opt/pair", "/opt/triple"];
    exes.into_iter().try_for_each(program)?;
    let mut policy = Gate::policy("enforce", SERVER, "");
    for (exe, cores) in exes.into_iter().zip(1..).skip(1) {
        policy += &format!("[[rule]]\nname = \"{cores}\"\nexe = \"{exe}\"\ncores = {cores}\n");
    }
    let gate = Gate::start(&policy)?;
    let [_, _, busy, last] = &node_cores(0)?[..] else {
        bail!("four cores expected");
    };
    let _holders = [
        Running::start_on(SERVER, SLEEPER, &last.cpus)?,
        Running::start_on(SERVER, SLEEPER, &[&busy.cpus[..], &last.cpus].concat())?,
    ];
    wait_until_held(&gate, 2)?;
    let _load = Load::on(&busy.cpus)?;
    fails(exes[2], EAGAIN)?;
    // Only while nothing else runs there: the daemon that logs the launch before does for a moment.
    admitted(exes[1])?;
    gate.stop()
}

/// A holder on one core of node 0 and the test on the other.
fn running() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let [theirs, ours] = <[_; 2]>::try_from(node_cores(0)?)
        .ok()
        .context("two cores expected")?;
    for name in [SPINNER, PARENT] {
        // A parent's child runs where it may: on the core of its parent.
        let _holder = Running::start_on(SERVER, name, &theirs.cpus)?;
        pin(&ours.cpus[..1])?;
        admitted(SERVER)?;
        // It is bound there: if somebody else takes its core, it is owed no other one.
        let load = Load::on(&theirs.cpus)?;
        admitted(SERVER)?;
        drop(load);
        pin(&node_cpus(0)?)?;
        ensure!(held(&gate)? == 1, "{}", gate.status()?);
    }
    wait_until_held(&gate, 0)?;
    for name in [SPINNER, PARENT] {
        // One that may go anywhere on the node is, wherever it shares a core.
        let _holder = Running::start(SERVER, name)?;
        let _load = Load::on(&theirs.cpus)?;
        pin(&ours.cpus[..1])?;
        fails(SERVER, EAGAIN)?;
        pin(&node_cpus(0)?)?;
    }
    wait_until_held(&gate, 0)?;
    gate.stop()
}

fn hold() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, "hold = \"none\""))?;
    let sleepers = (0..3)
        .map(|_| Running::start(SERVER, SLEEPER))
        .collect::<Result<Vec<_>>>()?;
    ensure!(held(&gate)? == 0, "{}", gate.status()?);
    drop(sleepers);
    gate.stop()?;
    let settle = "hold = \"settle\"\nsettle = \"3s\"";
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, settle))?;
    let _sleepers = [
        Running::start(SERVER, SLEEPER)?,
        Running::start(SERVER, SLEEPER)?,
    ];
    fails(SERVER, EAGAIN)?;
    wait_until_held(&gate, 0)?;
    ensure!(claims(&gate)? == 0);
    admitted(SERVER)?;
    gate.stop()
}

/// Node 0 is full, node 1 is not.
fn scope() -> Result<()> {
    program(SERVER)?;
    let cpu = node_cpus(0)?.pop().context("no CPU")?;
    let with_node_1 = [&node_cpus(1)?[..], &[cpu]].concat();
    for (more, starts) in [
        ("scope = \"any\"\ncores = 2", true),
        ("scope = [1]", true),
        ("scope = [0]", false),
        ("scope = \"spread\"\ncores = 2", true),
        ("scope = \"spread\"\ncores = 3", false),
    ] {
        let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, more))?;
        let load = Load::fill(0)?;
        // It may not run on node 1, so no core there is one for it.
        fails(SERVER, EAGAIN).with_context(|| more.to_owned())?;
        pin(&with_node_1)?;
        if starts {
            admitted(SERVER)
        } else {
            fails(SERVER, EAGAIN)
        }
        .with_context(|| more.to_owned())?;
        drop(load);
        gate.stop()?;
    }
    Ok(())
}

fn own_core() -> Result<()> {
    program(SERVER)?;
    let [busy, own] = <[_; 2]>::try_from(node_cores(0)?)
        .ok()
        .context("two cores expected")?;
    for (more, starts) in [
        ("", true),
        ("own_core = true", true),
        ("own_core = false", false),
        ("cores = 2", false),
    ] {
        let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, more))?;
        let load = Load::on(&busy.cpus[..1])?;
        pin(&own.cpus[..1])?;
        if starts {
            admitted(SERVER)?;
            // Its sibling is busy.
            let _load = Load::on(&own.cpus[1..])?;
            fails(SERVER, EAGAIN)?;
        } else {
            fails(SERVER, EAGAIN)?;
        }
        drop(load);
        if more == "cores = 2" {
            pin(&node_cpus(0)?)?;
            admitted(SERVER)?;
        }
        gate.stop()?;
    }
    Ok(())
}

/// Starts a program, and what it ended with, or `None` if it still runs after a while.
fn outcome(path: &str, name: &str) -> Result<Option<i32>> {
    let mut running = Running::start(path, name)?;
    let mut status = None;
    let _ = wait_for("the end", Duration::from_millis(600), || {
        status = running.0.try_wait().ok().flatten();
        status.is_some()
    });
    status
        .map(|status| status.code().context("killed"))
        .transpose()
}

fn forks() -> Result<()> {
    const NEIGHBOUR: &str = "/opt/neighbour";
    program(SERVER)?;
    program(NEIGHBOUR)?;
    for (on, name, other) in [("fork", FORKER, THREADER), ("thread", THREADER, FORKER)] {
        let load = Load::fill(0)?;
        pin(&node_cpus(0)?)?;
        ensure!(outcome(SERVER, name)?.is_none());
        drop(load);
        let more = format!("on = [\"{on}\"]");
        let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, &more))?;
        let load = Load::fill(0)?;
        ensure!(
            outcome(SERVER, name)? == Some(EAGAIN),
            "{on} was not denied"
        );
        ensure!(gate.verdict()?.get("hook") == on);
        for (path, name) in [(SERVER, other), (NEIGHBOUR, name)] {
            ensure!(outcome(path, name)?.is_none(), "{path} as {name} failed");
        }
        drop(load);
        let holder = in_the_end(on, || {
            let mut running = Running::start(SERVER, name)?;
            std::thread::sleep(Duration::from_millis(100));
            Ok(running.0.try_wait()?.is_none().then_some(running))
        })?;
        ensure!(held(&gate)? == 1, "{on}: {}", gate.status()?);
        drop(holder);
        wait_until_held(&gate, 0).context(on)?;
        gate.stop()?;
    }
    Ok(())
}

/// All slots are marked as in use.
fn full() -> Result<()> {
    program(SERVER)?;
    for (on_unknown, starts) in [("admit", true), ("deny", false)] {
        let policy = Gate::policy("enforce", SERVER, "").replace(
            "[[rule]]",
            &format!("on_unknown = \"{on_unknown}\"\n[[rule]]"),
        );
        let gate = gate_on_node_0(&policy)?;
        let ledger = libbpf_rs::query::MapInfoIter::default()
            .find(|map| map.name == "ledgers")
            .context("no ledger")?;
        let ledger = MapHandle::from_map_id(ledger.id)?;
        let key = 0u32.to_ne_bytes();
        let mut value = ledger
            .lookup(&key, MapFlags::ANY)?
            .context("an empty ledger")?;
        // struct ledger of bpf/claims.bpf.h: the chain of free slots, slots ever used.
        value[..4].fill(0);
        value[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        ledger.update(&key, &value, MapFlags::ANY)?;
        let verdict = in_the_end("the table is full", || {
            ensure!(launch(&mut command(SERVER))?.is_none() == starts);
            let verdict = gate.verdict()?;
            Ok((verdict.get("verdict") != "deny").then_some(verdict))
        })?;
        ensure!(verdict.get("verdict") == "unknown", "{verdict:?}");
        let status = gate.status()?;
        ensure!(status["rules"][0]["unknown"] == 1, "{status}");
        ensure!(status["failures"]["claims_full"] == 1, "{status}");
        gate.stop()?;
    }
    Ok(())
}

fn released() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    // The daemon is not needed for any of it.
    gate.signal(Signal::SIGSTOP)?;
    admitted(SERVER)?;
    for name in [SLEEPER, AGAIN, THREAD_AGAIN, LEADERLESS, PARENT] {
        let holder = Running::start(SERVER, name)?;
        std::thread::sleep(Duration::from_millis(300));
        gate.signal(Signal::SIGCONT)?;
        ensure!(
            held(&gate)? == 1 && claims(&gate)? == 1,
            "{name}: {}",
            gate.status()?
        );
        gate.signal(Signal::SIGSTOP)?;
        drop(holder);
        gate.signal(Signal::SIGCONT)?;
        wait_until_held(&gate, 0).context(name)?;
        gate.signal(Signal::SIGSTOP)?;
    }
    // The exec fails after the verdict: no interpreter, and no known format.
    for (text, errno) in [("#!/no/such/interpreter\n", 2), ("neither\n", 8)] {
        fs::remove_file(SERVER)?;
        script(SERVER)?;
        fs::write(SERVER, text)?;
        let found = in_the_end("an exec that fails later", || {
            let found = launch(&mut command(SERVER))?;
            Ok((found != Some(EAGAIN)).then_some(found))
        })?;
        ensure!(found == Some(errno), "{text:?}: {found:?}");
        gate.signal(Signal::SIGCONT)?;
        ensure!(held(&gate)? == 0, "{text:?}: {}", gate.status()?);
        gate.signal(Signal::SIGSTOP)?;
    }
    gate.signal(Signal::SIGCONT)?;
    gate.stop()
}

/// A control group with room for one process more than it has.
struct Full;

impl Full {
    const ROOT: &str = "/run/cgroup";

    fn enter() -> Result<Self> {
        fs::create_dir_all(Self::ROOT)?;
        mount(
            None::<&str>,
            Self::ROOT,
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )?;
        let full = Self;
        let at = |file: &str| format!("{}/{file}", Self::ROOT);
        fs::write(at("cgroup.subtree_control"), "+pids")?;
        fs::create_dir_all(at("full"))?;
        fs::write(at("full/cgroup.procs"), "0")?;
        let now: u32 = fs::read_to_string(at("full/pids.current"))?
            .trim()
            .parse()?;
        fs::write(at("full/pids.max"), (now + 1).to_string())?;
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let left = fs::write(format!("{}/cgroup.procs", Self::ROOT), "0")
            .and_then(|()| Ok(umount2(Self::ROOT, MntFlags::MNT_DETACH)?));
        if let Err(error) = left {
            eprintln!("cannot leave the control group: {error}");
        }
    }
}

/// The limit of its control group lets a fork fail after the gate has admitted it.
fn unborn() -> Result<()> {
    program(SERVER)?;
    for (on, name) in [("fork", FORKER), ("thread", THREADER)] {
        let policy = format!("on = [\"{on}\"]\nerrno = \"EBUSY\"");
        let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, &policy))?;
        let full = Full::enter()?;
        let found = in_the_end("a fork that fails later", || {
            let found = outcome(SERVER, name)?;
            Ok((found != Some(EBUSY)).then_some(found))
        });
        drop(full);
        let found = found?;
        ensure!(found == Some(EAGAIN), "{on}: {found:?}");
        let status = gate.status()?;
        ensure!(status["rules"][0]["admitted"] == 1, "{on}: {status}");
        // A task is freed a little later.
        wait_until_held(&gate, 0).context(on)?;
        ensure!(claims(&gate)? == 0, "{on}");
        gate.stop()?;
    }
    Ok(())
}

/// Launches a program that ends by itself until it is admitted.
pub(crate) fn admitted(path: &str) -> Result<()> {
    in_the_end("a launch is admitted", || {
        Ok(launch(&mut command(path))?.is_none().then_some(()))
    })
}
