// SPDX-License-Identifier: GPL-2.0-only
//! Policies that take each other's place under a running gate.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::libc::{EAGAIN, EBUSY, EPERM};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::claims::{Running, held_by};
use crate::gate::{COREGATE, Gate, POLICY, coregate, succeeds};
use crate::launch::{SLEEPER, command, fails, launch, program, starts};
use crate::machine::{Load, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i5_a_reload_changes_all_or_nothing",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: reload,
    },
    Test {
        name: "i7_claims_outlive_the_policy_that_gave_them",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: claims,
    },
    Test {
        name: "a_rehearsed_policy_changes_nothing_until_it_is_promoted",
        needs: Needs::OneKernel,
        on: NUMA,
        run: rehearse,
    },
    Test {
        name: "i5_a_storm_of_reloads_leaves_no_launch_without_one_whole_policy",
        needs: Needs::OneKernel,
        on: NUMA,
        run: storm,
    },
];

const SERVER: &str = "/opt/server";
const NEW: &str = "/run/new.toml";

/// The policy that the gate begins with, or another errno.
fn policy(errno: &str) -> String {
    Gate::policy("enforce", SERVER, &format!("errno = {errno:?}"))
}

fn reload() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&policy("EAGAIN"))?;
    let _load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;

    // Refused by whoever asks, with the place; what held holds.
    fs::write(POLICY, policy("EAGAIN").replace("errno", "errmo"))?;
    let (code, said) = coregate(&["reload"])?;
    ensure!(
        code == Some(2) && said.contains("policy.toml:7") && said.contains("`errno`"),
        "{code:?}, {said}"
    );
    gate.signal(Signal::SIGHUP)?;
    gate.says("policy.toml:7:1: unknown key `errmo`")?;
    fails(SERVER, EAGAIN)?;
    let status = gate.status()?;
    let error = status["reload"]["error"].as_str().unwrap_or_default();
    ensure!(
        status["generation"] == 1 && error.contains("policy.toml:7:1"),
        "{status:#}"
    );

    // Another one, by each way to ask.
    for (generation, errno, number) in [(2, "EBUSY", EBUSY), (3, "EPERM", EPERM)] {
        fs::write(POLICY, policy(errno))?;
        if generation == 2 {
            gate.signal(Signal::SIGHUP)?;
            gate.says("reloaded: generation 2 holds")?;
        } else {
            let said = succeeds(&["reload"])?;
            ensure!(said.contains("generation 3 holds"), "{said}");
        }
        fails(SERVER, number)?;
        let status = gate.status()?;
        ensure!(
            status["generation"] == generation && status["reload"]["error"] == Value::Null,
            "{status:#}"
        );
    }

    // Counts go on by the rule's name, and end with it.
    ensure!(
        gate.status()?["rules"][0]["denied"] == 4,
        "{:#}",
        gate.status()?
    );
    fs::write(POLICY, policy("EPERM").replace("probe", "other"))?;
    succeeds(&["reload"])?;
    ensure!(gate.status()?["rules"][0]["denied"] == 0);
    let verdicts = gate.verdicts(4)?;
    let rules: Vec<_> = verdicts.iter().map(|verdict| verdict.get("rule")).collect();
    ensure!(rules == ["probe"; 4], "{rules:?}");
    gate.stop()
}

/// The claims of the rule `probe`, if there is such a rule, and the cores held in all.
fn held(gate: &Gate) -> Result<(Option<u64>, u64)> {
    let status = gate.status()?;
    let rules = status["rules"].as_array().context("no rules")?;
    let probe = rules.iter().find(|rule| rule["name"] == "probe");
    Ok((
        probe.and_then(|rule| rule["claims"].as_u64()),
        held_by(&status)?,
    ))
}

fn claims() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&policy("EAGAIN"))?;
    let sleeper = Running::start(SERVER, SLEEPER)?;
    ensure!(held(&gate)? == (Some(1), 1), "{:?}", held(&gate)?);
    let other = "[[rule]]\nname = \"other\"\nexe = \"/opt/other\"\n";
    let gate_section = "[gate]\nmode = \"enforce\"\nevent_rate = 0\n";
    let without = format!("{gate_section}{other}");
    let moved = policy("EAGAIN").replace(gate_section, &without);
    for (text, claims) in [(&moved, Some(1)), (&without, None), (&moved, Some(1))] {
        fs::write(POLICY, text)?;
        succeeds(&["reload"])?;
        ensure!(
            held(&gate)? == (claims, 1),
            "{:?} with\n{text}",
            held(&gate)?
        );
    }
    fs::write(NEW, policy("EBUSY"))?;
    succeeds(&["mode", "rehearse", NEW])?;
    succeeds(&["mode", "promote"])?;
    ensure!(held(&gate)? == (Some(1), 1), "{:?}", held(&gate)?);
    drop(sleeper);
    wait_for(
        "the claim goes with its program",
        Duration::from_secs(20),
        || held(&gate).is_ok_and(|held| held == (Some(0), 0)),
    )?;
    gate.stop()
}

/// Asks the daemon a question without a word more: its answer.
fn ask(question: &str) -> Result<String> {
    let mut client = UnixStream::connect("/run/coregate/control.sock")?;
    writeln!(client, "{{\"ask\":{question:?}}}")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

fn rehearse() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&policy("EAGAIN"))?;
    let _load = Load::fill(0)?;
    for step in ["promote", "drop"] {
        let (code, said) = coregate(&["mode", step])?;
        ensure!(
            code == Some(1) && said.contains("no policy is rehearsed"),
            "{said}"
        );
    }
    fs::write(NEW, "[[rule]]\nname = 3\n")?;
    let (code, said) = coregate(&["mode", "rehearse", NEW])?;
    ensure!(
        code == Some(2) && said.contains("new.toml:2:8"),
        "{code:?}, {said}"
    );
    ensure!(gate.status()?["rehearsal"] == Value::Null);

    // A policy that lets pass what the one that holds denies, and denies what that lets pass.
    let observed = "[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"observed\"\naction = \"log\"\n";
    let denied = "[[rule]]\nname = \"denied\"\nexe = \"/opt/\"\n";
    program("/opt/neighbour")?;
    fs::write(NEW, format!("{observed}exe = {SERVER:?}\n{denied}"))?;
    succeeds(&["mode", "rehearse", NEW])?;
    fails(SERVER, EAGAIN)?;
    fails(SERVER, EAGAIN)?;
    starts("/opt/neighbour")?;
    let status = gate.status()?;
    let rehearsal = &status["rehearsal"];
    ensure!(
        rehearsal["changes"]["compared"] == 3 && rehearsal["rules"] == 2,
        "{status:#}"
    );
    let found: BTreeMap<_, _> = rehearsal["changes"]["changed"]
        .as_array()
        .context("no changes")?
        .iter()
        .map(|change| {
            let outcome = |side: &str| {
                let outcome = &change[side];
                let rule = outcome["rule"].as_str().unwrap_or("-");
                format!("{rule} {}", outcome["effect"].as_str().unwrap_or("?"))
            };
            (
                (outcome("before"), outcome("after")),
                change["launches"].as_u64(),
            )
        })
        .collect();
    let pair = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    let expected = BTreeMap::from([
        (pair("probe denied", "observed logged"), Some(2)),
        (pair("- unmatched", "denied denied"), Some(1)),
    ]);
    ensure!(found == expected, "{found:?}");
    // Nothing came of it: no event, no count, no denial.
    ensure!(
        gate.verdicts(2)?
            .iter()
            .all(|verdict| verdict.get("rule") == "probe")
    );
    ensure!(status["rules"][0]["denied"] == 2, "{status:#}");

    succeeds(&["mode", "drop"])?;
    ensure!(gate.status()?["rehearsal"] == Value::Null);
    starts("/opt/neighbour")?;
    fails(SERVER, EAGAIN)?;
    succeeds(&["mode", "rehearse", NEW])?;
    ensure!(gate.status()?["rehearsal"]["changes"]["compared"] == 0);
    let said = succeeds(&["mode", "promote"])?;
    ensure!(said.contains("generation 2 holds"), "{said}");
    starts(SERVER)?;
    fails("/opt/neighbour", EAGAIN)?;
    let status = gate.status()?;
    ensure!(
        status["rules"][0]["would_deny"] == 1 && status["rules"][1]["denied"] == 1,
        "{status:#}"
    );
    gate.stop()
}

/// How many reloads there are in the storm, and in a second of it where the guest is fast enough.
const RELOADS: u64 = 60;
const IN_A_SECOND: u32 = 20;

/// How many launches each of several threads made, by how they ended.
fn launches(end: &AtomicBool) -> Result<BTreeMap<Option<i32>, u64>> {
    let mut ends = BTreeMap::new();
    while !end.load(Ordering::Relaxed) {
        *ends.entry(launch(&mut command(SERVER))?).or_default() += 1;
    }
    Ok(ends)
}

/// Follows the events of the gate, until dropped.
struct Followed(Child);

impl Followed {
    fn start() -> Result<(Self, impl BufRead)> {
        let mut child = Command::new(COREGATE)
            .args(["events", "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("no stdout")?;
        Ok((Self(child), BufReader::new(out)))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every launch is denied, by the one policy or by the other: none starts, and none gets an error
/// that no policy has. The events tell by which; generations take turns, so it has to fit.
fn storm() -> Result<()> {
    program(SERVER)?;
    let denying = Gate::denying("enforce", SERVER)?;
    let filler: String = (0..20)
        .map(|n| {
            format!(
                "[[rule]]\nname = \"r{n}\"\nexe = \"/usr/lib/x{n}/\"\nunit = \"u{n}.service\"\n"
            )
        })
        .collect();
    let policies = ["EBUSY", "EPERM"].map(|errno| format!("{denying}errno = {errno:?}\n{filler}"));
    let mut gate = gate_on_node_0(&policies[0])?;
    fails(SERVER, EBUSY)?;
    let (followed, events) = Followed::start()?;
    // All of them are more than this guest's memory holds.
    gate.leave_the_log()?;
    let reader = thread::spawn(move || -> Result<u64> {
        let mut told = 0;
        for line in events.lines() {
            let event: Value = serde_json::from_str(&line?)?;
            let first = event["generation"].as_u64().unwrap_or(0) % 2 == 1;
            let errno = if first { "EBUSY" } else { "EPERM" };
            ensure!(
                event["errno"] == errno && event["rule"] == "probe",
                "{event:#}"
            );
            told += 1;
        }
        Ok(told)
    });

    let end = AtomicBool::new(false);
    let mut ends = BTreeMap::new();
    let reloads = crate::soak().unwrap_or(RELOADS);
    let start = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| launches(&end))).collect();
        let stormed = (1..=reloads as u32).try_for_each(|reload| {
            fs::write(POLICY, &policies[reload as usize % 2])?;
            let answer = ask("reload")?;
            let expected = format!("{{\"answer\":{{\"generation\":{},", 1 + reload);
            ensure!(answer.starts_with(&expected), "reload {reload}: {answer}");
            let next = Duration::from_secs(1) * reload / IN_A_SECOND;
            thread::sleep(next.saturating_sub(start.elapsed()));
            Ok(())
        });
        end.store(true, Ordering::Relaxed);
        for thread in threads {
            let Ok(found) = thread.join() else {
                bail!("a thread of launches panicked");
            };
            for (errno, count) in found? {
                *ends.entry(errno).or_insert(0) += count;
            }
        }
        stormed
    })?;

    let launches: u64 = 1 + ends.values().sum::<u64>();
    let time = start.elapsed();
    println!("{launches} launches in {reloads} reloads, {time:.1?}: {ends:?}");
    ensure!(
        ends.keys()
            .all(|errno| [Some(EBUSY), Some(EPERM)].contains(errno))
            && ends.len() == 2,
        "a launch had no policy, or a mixed one: {ends:?}"
    );
    ensure!(launches > reloads, "too slow to say anything");
    let status = gate.status()?;
    ensure!(
        status["generation"] == 1 + reloads && status["rules"][0]["denied"] == launches,
        "{status:#}"
    );
    wait_for("all events are read", Duration::from_secs(20), || {
        gate.status().is_ok_and(|status| {
            let events = &status["events"];
            let sum = |name: &str| events[name].as_u64().unwrap_or(0);
            sum("emitted") + sum("lost") >= launches
        })
    })?;
    thread::sleep(Duration::from_secs(1));
    drop(followed);
    let Ok(told) = reader.join() else {
        bail!("the reader of events panicked");
    };
    let told = told?;
    ensure!(told > 0, "no event was told");
    println!("{told} events, each of one whole policy");
    gate.stop()
}
