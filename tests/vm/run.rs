// SPDX-License-Identifier: GPL-2.0-only
//! `coregate run`: what it starts, who waits, and in which order they are served.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::claims::Running;
use crate::gate::{COREGATE, Gate, POLICY, succeeds};
use crate::launch::{SHIFT, SLEEPER, USER, program};
use crate::machine::{node_cpus, pin, wait_for};
use crate::persist::TakenDown;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "run_becomes_the_program_or_says_who_holds_the_cores",
        needs: Needs::OneKernel,
        on: NUMA,
        run: becomes,
    },
    Test {
        name: "run_serves_twenty_who_wait_in_their_order",
        needs: Needs::OneKernel,
        on: NUMA,
        run: twenty,
    },
    Test {
        name: "run_loses_nobody_who_waits_when_the_daemon_restarts",
        needs: Needs::OneKernel,
        on: NUMA,
        run: restart,
    },
    Test {
        name: "run_lets_nobody_who_is_stopped_keep_the_others",
        needs: Needs::OneKernel,
        on: NUMA,
        run: stopped,
    },
];

const FOLDER: &str = "/opt/run";
const SHIFTS: &str = "/run/shifts";
/// Longer than any test.
const LONG: &str = "10min";

/// `coregate run` with these words; programs are looked for in [`FOLDER`].
fn run(words: &[&str]) -> Command {
    let mut command = Command::new(COREGATE);
    command
        .args(["run", "--policy", POLICY])
        .args(words)
        .env("PATH", FOLDER)
        .stdin(Stdio::null());
    command
}

/// A policy for all programs in [`FOLDER`], which are there.
fn policy() -> Result<String> {
    for name in [SLEEPER, SHIFT] {
        program(&format!("{FOLDER}/{name}"))?;
    }
    fs::copy("/bin/busybox", format!("{FOLDER}/sh"))?;
    Ok(Gate::policy("enforce", &format!("{FOLDER}/"), ""))
}

/// Holds both cores of node 0.
fn hold() -> Result<[Running; 2]> {
    let sleeper = format!("{FOLDER}/{SLEEPER}");
    Ok([
        Running::start(&sleeper, SLEEPER)?,
        Running::start(&sleeper, SLEEPER)?,
    ])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn becomes() -> Result<()> {
    let gate = gate_on_node_0(&policy()?)?;
    let mut shell = run(&[
        "--wait",
        "20s",
        "--",
        "sh",
        "-c",
        "read word; echo $word; exit 7",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()?;
    writeln!(shell.stdin.take().context("no stdin")?, "a word")?;
    let output = shell.wait_with_output()?;
    ensure!(
        output.status.code() == Some(7) && output.stdout == b"a word\n",
        "{output:?}"
    );
    let mut sleeper = run(&["--wait", "20s", "--", SLEEPER]).spawn()?;
    let name = format!("/proc/{}/comm", sleeper.id());
    wait_for("the program runs", Duration::from_secs(20), || {
        fs::read_to_string(&name).is_ok_and(|name| name.trim() == &SLEEPER[..15])
    })?;
    kill(Pid::from_raw(sleeper.id() as i32), Signal::SIGUSR1)?;
    ensure!(sleeper.wait()?.signal() == Some(Signal::SIGUSR1 as i32));
    for (words, code) in [
        (&["no-such"][..], 127),
        (&["/run"], 126),
        (&["--wait", "x"], 2),
    ] {
        let output = run(words).output()?;
        ensure!(output.status.code() == Some(code), "{output:?}");
    }

    let held = hold()?;
    for (words, time) in [
        (&["--", SLEEPER][..], ""),
        (&["--wait", "1s", "--", SLEEPER], " in 1s"),
    ] {
        let output = run(words).output()?;
        let said = said(&output);
        let told =
            format!("{SLEEPER} was not started: the gate did not admit it by rule probe{time}\n");
        ensure!(
            output.status.code() == Some(1) && output.stdout.is_empty() && said.contains(&told),
            "{output:?}"
        );
        for holder in &held {
            let told = format!(
                "cores are held by rule probe: process {} (\"{}\"), for ",
                holder.pid(),
                &SLEEPER[..15]
            );
            ensure!(said.contains(&told), "{said}");
        }
    }
    // Who may not ask is told so, and is started all the same in the end.
    let output = run(&["--wait", "1s", "--", SLEEPER]).uid(USER).output()?;
    let told = "who holds the cores is not known: only root and members of the group coregate";
    ensure!(
        output.status.code() == Some(1) && said(&output).contains(told),
        "{output:?}"
    );
    let waiting = run(&["--wait", LONG, "--", "sh", "-c", "exit 8"])
        .uid(USER)
        .spawn()?;
    drop(held);
    ensure!(waiting.wait_with_output()?.status.code() == Some(8));
    gate.stop()
}

/// Those who work their shifts, as they came; they are ended with it.
struct Waiters(Vec<Child>);

impl Waiters {
    /// Starts so many; each has its place before the next one comes.
    fn start(count: usize) -> Result<Self> {
        fs::write(SHIFTS, "")?;
        let mut waiters = Self(Vec::new());
        for number in 0..count {
            let words = ["--wait", LONG, "--", SHIFT, &number.to_string(), SHIFTS];
            waiters.0.push(run(&words).spawn()?);
            wait_for("a place in the queue", Duration::from_secs(20), || {
                connections().is_ok_and(|connections| connections == number + 1)
            })?;
        }
        Ok(waiters)
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.0[number].id() as i32);
        Ok(kill(pid, signal)?)
    }

    /// How often one was woken up, and the milliseconds that it has run.
    fn woken(&self, number: usize) -> Result<(u64, u64)> {
        let folder = format!("/proc/{}", self.0[number].id());
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let mut lines = status.lines();
        let switches = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let schedstat = fs::read_to_string(format!("{folder}/schedstat"))?;
        let ran: u64 = schedstat.split(' ').next().context("no time")?.parse()?;
        Ok((
            switches.context("no count")?.trim().parse()?,
            ran / 1_000_000,
        ))
    }

    /// Waits for all: the numbers in the order in which they were served, with beginning and end.
    fn served(mut self) -> Result<Vec<(usize, u64, u64)>> {
        for child in &mut self.0 {
            let status = child.wait()?;
            ensure!(status.success(), "{status}");
        }
        let text = fs::read_to_string(SHIFTS)?;
        let shifts = text.lines().map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().context("a word is missing");
            Ok((word()?.parse()?, word()?.parse()?, word()?.parse()?))
        });
        shifts.collect()
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many connections the daemon's socket has.
fn connections() -> Result<usize> {
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let lines = sockets
        .lines()
        .filter(|line| line.ends_with("/control.sock"));
    // The seventh column: those that listen are unconnected.
    Ok(lines
        .filter(|line| line.split_whitespace().nth(5) == Some("03"))
        .count())
}

/// When those who worked shifts were admitted, in nanoseconds since 1970.
fn admissions() -> Result<Vec<u64>> {
    let said = succeeds(&["events", "--json"])?;
    let mut times = Vec::new();
    for event in said.lines().map(serde_json::from_str::<Value>) {
        let event = event?;
        let of_a_shift = |exe: &str| exe.ends_with(SHIFT);
        if event["effect"] == "admitted" && event["exe"].as_str().is_some_and(of_a_shift) {
            let time = event["time"].as_str().context("no time")?;
            let time = humantime::parse_rfc3339(time)?.duration_since(UNIX_EPOCH)?;
            times.push(time.as_nanos() as u64);
        }
    }
    Ok(times)
}

fn twenty() -> Result<()> {
    const ALL: usize = 20;
    const LAST: usize = ALL - 1;
    let gate = gate_on_node_0(&policy()?)?;
    let [_kept, held] = hold()?;
    let waiters = Waiters::start(ALL)?;
    // The first tries about once a second, and nobody else is woken.
    sleep(Duration::from_secs(2));
    let before = [waiters.woken(0)?, waiters.woken(LAST)?];
    sleep(Duration::from_secs(4));
    let after = [waiters.woken(0)?, waiters.woken(LAST)?];
    println!(
        "of 4 s the first ran {} ms, the last {} ms",
        after[0].1 - before[0].1,
        after[1].1 - before[1].1
    );
    ensure!(
        after[0].0 - before[0].0 <= 12 && after[1] == before[1],
        "{before:?}, {after:?}"
    );
    drop(held);
    let served = waiters.served()?;
    let order: Vec<_> = served.iter().map(|shift| shift.0).collect();
    ensure!(order == (0..ALL).collect::<Vec<_>>(), "{order:?}");
    let admitted = admissions()?;
    ensure!(admitted.len() == ALL, "{admitted:?}");
    let after = |what: &dyn Fn(usize) -> u64| {
        let pause = |n: usize| Duration::from_nanos(what(n).saturating_sub(served[n - 1].2));
        let mut pauses: Vec<_> = (1..ALL).map(pause).collect();
        pauses.sort();
        (pauses[pauses.len() / 2], pauses)
    };
    let (admission, all) = after(&|n| admitted[n]);
    println!("from one's end to the admission of the next: median {admission:?}, all {all:?}");
    let (begin, _) = after(&|n| served[n].1);
    println!("and to its first instruction: median {begin:?}");
    ensure!(admission < Duration::from_millis(100), "{all:?}");
    gate.stop()
}

fn restart() -> Result<()> {
    const ALL: usize = 6;
    let _taken_down = TakenDown;
    let policy = policy()?;
    let gate = Gate::start_with(&policy, &[])?;
    pin(&node_cpus(0)?)?;
    let [_kept, held] = hold()?;
    let waiters = Waiters::start(ALL)?;
    gate.signal(Signal::SIGKILL)?;
    drop(gate);
    // A core that comes free meanwhile is for the first.
    let gate = Gate::start_with(&policy, &[])?;
    drop(held);
    let order: Vec<_> = waiters.served()?.iter().map(|shift| shift.0).collect();
    ensure!(order == (0..ALL).collect::<Vec<_>>(), "{order:?}");
    gate.stop()
}

fn stopped() -> Result<()> {
    let gate = gate_on_node_0(&policy()?)?;
    let [_kept, held] = hold()?;
    let waiters = Waiters::start(3)?;
    waiters.signal(0, Signal::SIGSTOP)?;
    drop(held);
    let others = || fs::read_to_string(SHIFTS).is_ok_and(|text| text.lines().count() == 2);
    wait_for("the others are served", Duration::from_secs(20), others)?;
    waiters.signal(0, Signal::SIGCONT)?;
    let order: Vec<_> = waiters.served()?.iter().map(|shift| shift.0).collect();
    ensure!(order == [1, 2, 0], "{order:?}");
    ensure!(gate.status()?["failures"]["clients_dropped"] == 1);
    gate.stop()
}
