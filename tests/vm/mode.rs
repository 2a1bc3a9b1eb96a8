// SPDX-License-Identifier: GPL-2.0-only
//! What the gate does by itself: other modes than the policy's, with a daemon and without one; and
//! what becomes of its events.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::libc::EAGAIN;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::gate::{COREGATE, Gate, coregate, succeeds};
use crate::launch::{fails, program, starts};
use crate::machine::{node_cpus, pin, wait_for};
use crate::persist::TakenDown;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i5_a_lease_ends_without_a_daemon",
        needs: Needs::OneKernel,
        on: NUMA,
        run: lease,
    },
    Test {
        name: "i8_an_order_to_observe_ends_without_a_daemon",
        needs: Needs::OneKernel,
        on: NUMA,
        run: observe,
    },
    Test {
        name: "i8_enforcement_that_nobody_confirms_ends",
        needs: Needs::OneKernel,
        on: NUMA,
        run: confirm,
    },
    Test {
        name: "i8_the_kernel_command_line_goes_before_the_policy",
        needs: Needs::OneKernel,
        on: NUMA,
        run: command_line,
    },
    Test {
        name: "i9_events_that_are_held_back_are_counted",
        needs: Needs::OneKernel,
        on: NUMA,
        run: rate,
    },
    Test {
        name: "i9_events_outlive_their_daemon",
        needs: Needs::OneKernel,
        on: NUMA,
        run: events,
    },
];

const SERVER: &str = "/opt/server";
const OTHER: &str = "/opt/neighbour";

/// The shortest lease there is, and longer than that.
const LEASE: &str = "5s";
const AFTER_LEASE: Duration = Duration::from_secs(7);

/// All launches of the server are denied, with these keys of the gate.
fn policy(mode: &str, gate: &str) -> Result<String> {
    let policy = Gate::denying(mode, SERVER)?;
    Ok(policy.replace("event_rate = 0\n", gate))
}

/// Starts a daemon whose gate stays, for launches on node 0.
fn start(policy: &str) -> Result<Gate> {
    program(SERVER)?;
    starts(SERVER)?;
    pin(&node_cpus(0)?)?;
    Gate::start_with(policy, &[])
}

fn lease() -> Result<()> {
    let _taken_down = TakenDown;
    for (end, goes_on) in [("keep", true), ("observe", false), ("detach", false)] {
        let keys = format!("lease = \"{LEASE}\"\non_lease_end = \"{end}\"\n");
        let policy = policy("enforce", &keys)?;
        let gate = start(&policy)?;
        if end == "observe" {
            sleep(AFTER_LEASE);
        }
        fails(SERVER, EAGAIN)?;
        gate.signal(Signal::SIGSTOP)?;
        fails(SERVER, EAGAIN)?;
        sleep(AFTER_LEASE);
        let mut passed = u64::from(!goes_on);
        if goes_on {
            fails(SERVER, EAGAIN)?;
        } else {
            starts(SERVER)?;
        }
        gate.signal(Signal::SIGCONT)?;
        wait_for("the lease is renewed", Duration::from_secs(10), || {
            let renewed = fails(SERVER, EAGAIN).is_ok();
            // The daemon may not have had its turn yet.
            passed += u64::from(!renewed);
            renewed
        })?;
        let status = gate.status()?;
        let unattended = status["failures"]["unattended"].as_u64();
        ensure!((unattended == Some(0)) == goes_on, "{end}: {status:#}");
        let would_deny = if end == "observe" { passed } else { 0 };
        ensure!(
            status["rules"][0]["would_deny"] == would_deny,
            "{end}, {passed} passed: {status:#}"
        );
        gate.signal(Signal::SIGKILL)?;
        drop(gate);
        fails(SERVER, EAGAIN)?;
        if end == "detach" {
            sleep(AFTER_LEASE);
            starts(SERVER)?;
        }
        drop(TakenDown);
    }
    Ok(())
}

fn observe() -> Result<()> {
    let _taken_down = TakenDown;
    let policy = policy("enforce", "")?;
    let gate = start(&policy)?;
    fails(SERVER, EAGAIN)?;
    succeeds(&["mode", "observe", "--for", "20s", "--reason", "a test"])?;
    starts(SERVER)?;
    let status = gate.status()?;
    let order = status["order"].as_str().unwrap_or_default();
    ensure!(
        status["mode"] == "observe"
            && status["policy_mode"] == "enforce"
            && order.contains("by root at ")
            && order.contains("\"a test\""),
        "{status:#}"
    );
    gate.says("mode by order: observe until ")?;
    // Neither another policy nor another daemon ends it, and no daemon has to.
    succeeds(&["reload"])?;
    starts(SERVER)?;
    gate.signal(Signal::SIGKILL)?;
    drop(gate);
    starts(SERVER)?;
    wait_for("the order ends", Duration::from_secs(40), || {
        fails(SERVER, EAGAIN).is_ok()
    })?;

    // Without a daemon, too.
    let said = succeeds(&["mode", "observe"])?;
    ensure!(said.contains("no daemon runs"), "{said}");
    starts(SERVER)?;
    let gate = Gate::start_with(&policy, &[])?;
    starts(SERVER)?;
    ensure!(gate.status()?["mode"] == "observe");
    let said = succeeds(&["mode", "policy"])?;
    ensure!(said.contains("mode enforce"), "{said}");
    fails(SERVER, EAGAIN)?;
    ensure!(gate.status()?["order"] == Value::Null);
    gate.stop()?;
    succeeds(&["detach"])?;
    let (code, said) = coregate(&["mode", "observe"])?;
    ensure!(
        code == Some(1) && said.contains("no daemon is running"),
        "{said}"
    );
    starts(SERVER)
}

fn confirm() -> Result<()> {
    let _taken_down = TakenDown;
    let gate = start(&policy("observe", "")?)?;
    starts(SERVER)?;
    let refused = |words: &[&str]| -> Result<()> {
        let (code, said) = coregate(words)?;
        ensure!(
            code == Some(1) && said.contains("nothing waits to be confirmed"),
            "{code:?}: {said}"
        );
        Ok(())
    };
    refused(&["mode", "confirm"])?;
    succeeds(&["mode", "enforce", "--confirm", "3s"])?;
    fails(SERVER, EAGAIN)?;
    gate.says("the order has ended: mode observe")?;
    starts(SERVER)?;
    refused(&["mode", "confirm"])?;
    let status = gate.status()?;
    let order = status["order"].as_str().unwrap_or_default();
    ensure!(order.contains("unconfirmed"), "{status:#}");

    succeeds(&["mode", "enforce", "--confirm", "10s"])?;
    succeeds(&["mode", "confirm"])?;
    sleep(Duration::from_secs(12));
    fails(SERVER, EAGAIN)?;
    succeeds(&["mode", "enforce", "--for", "3s"])?;
    wait_for("the order ends", Duration::from_secs(20), || {
        starts(SERVER).is_ok()
    })?;
    ensure!(gate.status()?["mode"] == "observe");
    gate.stop()
}

/// What stands on the kernel's command line, as far as programs can see.
struct CommandLine;

impl CommandLine {
    fn with(words: &str) -> Result<Self> {
        let path = "/run/cmdline";
        fs::write(
            path,
            format!("{} {words}\n", fs::read_to_string("/proc/cmdline")?.trim()),
        )?;
        mount(
            Some(path),
            "/proc/cmdline",
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(Self)
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        if let Err(error) = umount2("/proc/cmdline", MntFlags::MNT_DETACH) {
            eprintln!("{error}");
        }
    }
}

fn command_line() -> Result<()> {
    let _taken_down = TakenDown;
    let policy = policy("enforce", "")?;
    for word in ["observe", "enforce"] {
        let _line = CommandLine::with(&format!("coregate.mode={word}"))?;
        let gate = start(&policy)?;
        starts(SERVER)?;
        let status = gate.status()?;
        let order = status["order"].as_str().unwrap_or_default();
        ensure!(order.contains("the kernel command line"), "{status:#}");
        succeeds(&["mode", "policy"])?;
        fails(SERVER, EAGAIN)?;
        gate.stop()?;
        succeeds(&["detach"])?;
    }
    let _line = CommandLine::with("coregate.mode=off")?;
    let output = Command::new(COREGATE)
        .args(["daemon", "--policy", crate::gate::POLICY])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.contains("no gate stands"),
        "{output:?}"
    );
    ensure!(!Path::new("/sys/fs/bpf/coregate").exists());
    starts(SERVER)
}

fn rate() -> Result<()> {
    const LAUNCHES: u64 = 60;
    let _taken_down = TakenDown;
    program(OTHER)?;
    let other = format!("[[rule]]\nname = \"other\"\nexe = \"{OTHER}\"\naction = \"log\"\n");
    let gate = start(&(policy("enforce", "event_rate = 1\n")? + &other))?;
    for _ in 0..LAUNCHES {
        fails(SERVER, EAGAIN)?;
    }
    let sum = |status: &Value, key: &str| status["events"][key].as_u64().unwrap_or(0);
    let status = gate.status()?;
    let suppressed = sum(&status, "suppressed");
    ensure!(
        status["rules"][0]["denied"] == LAUNCHES
            && suppressed > 0
            && sum(&status, "emitted") + suppressed == LAUNCHES
            && sum(&status, "lost") == 0,
        "{status:#}"
    );
    // The next one says how many were held back; another rule's comes at once.
    starts(OTHER)?;
    sleep(Duration::from_secs(2));
    fails(SERVER, EAGAIN)?;
    let said = succeeds(&["events", "--json", "--rule", "probe"])?;
    let told: u64 = said
        .lines()
        .map(|line| {
            Ok(serde_json::from_str::<Value>(line)?["suppressed"]
                .as_u64()
                .unwrap_or(0))
        })
        .sum::<Result<u64>>()?;
    ensure!(told == suppressed, "{told} of {suppressed}: {said}");
    let said = succeeds(&["events", "--json", "--rule", "other"])?;
    ensure!(said.lines().count() == 1, "{said}");
    gate.stop()
}

fn events() -> Result<()> {
    const LAUNCHES: u64 = 20;
    let _taken_down = TakenDown;
    let policy = policy("enforce", "event_rate = 0\n")?;
    let gate = start(&policy)?;
    gate.signal(Signal::SIGSTOP)?;
    for _ in 0..LAUNCHES {
        fails(SERVER, EAGAIN)?;
    }
    gate.signal(Signal::SIGKILL)?;
    drop(gate);
    for _ in 0..LAUNCHES {
        fails(SERVER, EAGAIN)?;
    }
    let gate = Gate::start_with(&policy, &[])?;
    fails(SERVER, EAGAIN)?;
    let all = 2 * LAUNCHES + 1;
    wait_for("all events are told", Duration::from_secs(20), || {
        gate.status()
            .is_ok_and(|status| status["events"]["emitted"] == all)
    })?;
    let said = succeeds(&["events", "--json"])?;
    let events: Vec<Value> = said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let ids: BTreeSet<_> = events
        .iter()
        .filter_map(|event| event["id"].as_u64())
        .collect();
    ensure!(ids.len() as u64 == all, "{said}");
    ensure!(
        events.iter().all(|event| event["rule"] == "probe"),
        "{said}"
    );
    ensure!(
        events[0]["generation"] == 1 && events[all as usize - 1]["generation"] == 2,
        "{said}"
    );
    ensure!(gate.status()?["events"]["lost"] == 0);
    gate.stop()
}
