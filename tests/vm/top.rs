// SPDX-License-Identifier: GPL-2.0-only
//! Whether `coregate top` shows what is, and whether what goes on for ever ends well.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::claims::Running;
use crate::gate::{COREGATE, Gate, succeeds};
use crate::launch::{SLEEPER, SPINNER, fails, program};
use crate::machine::{Core, Load, node_cores, pin, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "top_shows_what_each_core_does_and_who_holds_it",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: picture,
    },
    Test {
        name: "top_draws_on_a_terminal_and_takes_a_hundredth_of_a_cpu",
        needs: Needs::OneKernel,
        on: NUMA,
        run: terminal,
    },
    Test {
        name: "status_is_watched_until_it_is_told_to_end",
        needs: Needs::OneKernel,
        on: NUMA,
        run: watch,
    },
];

const SERVER: &str = "/opt/server";

/// What this program does when its first argument is this: prints, as hexadecimal digits, what
/// `coregate` with the arguments after the third writes to a terminal of so many columns and lines in so
/// many seconds.
pub(crate) const RECORD: &str = "record-a-terminal";

fn top() -> Result<Value> {
    Ok(serde_json::from_str(&succeeds(&["top", "--json"])?)?)
}

/// What `top` says of a core.
fn shown<'v>(top: &'v Value, core: &Core) -> Result<&'v Value> {
    let mut cores = top["cores"].as_array().context("no cores")?.iter();
    let found = cores.find(|shown| shown["cpus"][0]["cpu"] == core.cpus[0]);
    found.with_context(|| format!("no core of CPU {}", core.cpus[0]))
}

/// Waits until this core is shown as this, with its first two CPUs as these, and returns it. The kernel's own
/// threads may be on any of them for a moment.
fn shown_as(core: &Core, state: &str, cpus: [&str; 2]) -> Result<Value> {
    let mut last = Ok(Value::Null);
    let done = wait_for("a core", Duration::from_secs(20), || {
        last = top().and_then(|top| shown(&top, core).cloned());
        matches!(&last, Ok(last) if last["state"] == state
            && [0, 1].map(|cpu| &last["cpus"][cpu]["state"]) == cpus)
    });
    done.with_context(|| format!("{state} expected: {last:?}"))?;
    last
}

fn picture() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let cores = node_cores(0)?;
    let [quiet, own] = &cores[..] else {
        anyhow::bail!("two cores are expected, not {cores:?}");
    };
    pin(&quiet.cpus)?;
    ensure!(top()?["claims"] == Value::Array(Vec::new()));
    shown_as(own, "free", ["idle", "idle"])?;

    let load = Load::on(&own.cpus[1..])?;
    let busy = shown_as(own, "busy", ["idle", "busy"])?;
    ensure!(busy["cpus"][1]["pid"].is_null(), "{busy}");
    drop(load);
    shown_as(own, "free", ["idle", "idle"])?;

    let holder = Running::start_on(SERVER, SPINNER, &own.cpus[..1])?;
    pin(&quiet.cpus)?;
    let held = shown_as(own, "held", ["held", "idle"])?;
    let rule = gate.status()?["rules"][0]["name"].clone();
    let thread = &held["cpus"][0];
    ensure!(
        thread["pid"] == holder.pid() && thread["rule"] == rule,
        "{held}"
    );
    let load = Load::on(&own.cpus[1..])?;
    let shared = shown_as(own, "shared", ["held", "busy"])?;
    ensure!(shared["cpus"][0]["pid"] == holder.pid(), "{shared}");
    drop(load);
    drop(holder);
    shown_as(own, "free", ["idle", "idle"])?;

    // Asleep it runs nowhere, and holds its core all the same.
    let sleeper = Running::start(SERVER, SLEEPER)?;
    shown_as(own, "free", ["idle", "idle"])?;
    let claims = top()?["claims"].clone();
    let claim = &claims[0];
    let holds = serde_json::json!([{"node": 0, "cores": 1}]);
    ensure!(
        claim["pid"] == sleeper.pid() && claim["holds"] == holds,
        "{claims}"
    );
    ensure!(claim["rule"] == rule && claims[1].is_null(), "{claims}");

    let _load = Load::fill(0)?;
    fails(SERVER, nix::libc::EAGAIN)?;
    let mut denials = Value::Null;
    wait_for("the denial", Duration::from_secs(10), || {
        denials = top().map_or(Value::Null, |top| top["denials"].clone());
        denials[0]["effect"] == "denied"
    })
    .with_context(|| denials.to_string())?;
    gate.stop()
}

/// Watches the status until two were read; then it is told to end, or nobody reads any more.
fn watched(words: &[&str], signal: Option<Signal>) -> Result<()> {
    let mut command = Command::new(COREGATE);
    command
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    for _ in 0..2 {
        let found = lines.by_ref().find(|line| match line {
            Ok(line) => line.contains("generation"),
            Err(_) => true,
        });
        found.context("it ended")??;
    }
    match signal {
        Some(signal) => kill(Pid::from_raw(child.id() as i32), signal)?,
        None => drop(lines),
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(0) && said.is_empty(),
        "{:?}: {said}",
        output.status
    );
    Ok(())
}

fn watch() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    watched(&["status", "--watch=1"], Some(Signal::SIGINT))?;
    watched(&["status", "--watch=1"], None)?;
    watched(&["status", "--watch=1", "--json"], Some(Signal::SIGTERM))?;
    gate.stop()
}

/// A command of coregate on a terminal of its own.
struct OnTerminal {
    child: Child,
    master: File,
}

impl OnTerminal {
    fn start(columns: u16, lines: u16, words: &[&str]) -> Result<Self> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None)?;
        let mut command = Command::new(COREGATE);
        command.args(words).env("TERM", "xterm-256color");
        command.stdin(pty.slave.try_clone()?);
        command.stdout(pty.slave.try_clone()?);
        command.stderr(pty.slave);
        Ok(Self {
            child: command.spawn()?,
            master: pty.master.into(),
        })
    }

    /// What it writes until it ends, or for so long.
    fn read_for(&mut self, time: Duration) -> Result<Vec<u8>> {
        let end = Instant::now() + time;
        let mut read = Vec::new();
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(&self.master, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut ready = [EpollEvent::empty()];
            let wait = EpollTimeout::try_from(left)?;
            if left.is_zero() || epoll.wait(&mut ready, wait)? == 0 {
                return Ok(read);
            }
            let mut part = [0; 4096];
            // EIO: nobody has the other end any more.
            match self.master.read(&mut part) {
                Ok(count) if count > 0 => read.extend(&part[..count]),
                _ => return Ok(read),
            }
        }
    }

    /// How long it has run on CPUs.
    fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Duration::from_millis(10) * ticks.iter().sum::<u64>() as u32)
    }
}

fn terminal() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let mut top = OnTerminal::start(80, 24, &["top"])?;
    let drawn = top.read_for(Duration::from_secs(10))?;
    let text = String::from_utf8_lossy(&drawn);
    ensure!(
        text.contains("coregate top") && text.contains("node 1: "),
        "{text:?}"
    );
    let (before, began) = (top.cpu_time()?, Instant::now());
    top.read_for(Duration::from_secs(60))?;
    let share = (top.cpu_time()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("top took {:.2} % of a CPU", 100.0 * share);
    ensure!(share < 0.01);
    top.master.write_all(b"q")?;
    let end = top.read_for(Duration::from_secs(20))?;
    // The screen before is back.
    ensure!(
        String::from_utf8_lossy(&end).contains("\x1b[?1049l"),
        "{end:?}"
    );
    ensure!(top.child.wait()?.success());
    gate.stop()
}

/// Records a terminal of this size, for so many seconds.
pub(crate) fn record(numbers: [&str; 3], words: &[&str]) -> Result<()> {
    let [columns, lines, seconds] = numbers.map(str::parse);
    let mut shown = OnTerminal::start(columns?, lines?, words)?;
    let bytes = shown.read_for(Duration::from_secs(u64::from(seconds?)))?;
    for part in bytes.chunks(60) {
        let digits = part.iter().map(|byte| format!("{byte:02x}"));
        println!("{}", digits.collect::<String>());
    }
    shown.child.kill()?;
    shown.child.wait()?;
    Ok(())
}
