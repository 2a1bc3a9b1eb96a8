// SPDX-License-Identifier: GPL-2.0-only
//! `coregate suggest`: a policy by what was seen, without a word in any verdict.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::admission::gate_on_node_0;
use crate::claims::Running;
use crate::gate::{COREGATE, Gate, succeeds};
use crate::launch::{SLEEPER, fails, program, starts};
use crate::machine::Load;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "suggest_changes_no_verdict_and_writes_what_it_saw",
    needs: Needs::OneKernel,
    on: NUMA,
    run: suggest,
}];

const SERVER: &str = "/opt/server";
const STAYS: &str = "/opt/stays";
const ENDS: &str = "/opt/ends";
const SUGGESTED: &str = "/run/suggested.toml";

fn suggest() -> Result<()> {
    for path in [SERVER, STAYS, ENDS] {
        program(path)?;
    }
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let mut watch = Command::new(COREGATE)
        .args(["suggest", "--observe", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(watch.stderr.take().context("no stderr")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.contains("watching launches for 1h"), "{line}");

    let _stays = Running::start(STAYS, SLEEPER)?;
    let admitted = Running::start(SERVER, SLEEPER)?;
    for _ in 0..3 {
        starts(ENDS)?;
    }
    // Both gates have seen the launch; the claim that it took stands.
    ensure!(gate.status()?["rules"][0]["claims"] == 1);
    drop(admitted);
    let load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    starts(ENDS)?;
    drop(load);

    kill(Pid::from_raw(watch.id() as i32), Signal::SIGINT)?;
    let output = watch.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", output.status);
    let rule = format!("1 still running.\n[[rule]]\nname = \"stays\"\nexe = \"{STAYS}\"\n");
    ensure!(text.contains(&rule), "{text}");
    let status = gate.status()?;
    let judged = &status["rules"][0];
    for (name, path, launches) in [
        ("ends", ENDS, 4),
        (
            "server",
            SERVER,
            judged["launches"].as_u64().context("no count")?,
        ),
    ] {
        let rule = format!("#[[rule]]\n#name = \"{name}\"\n#exe = \"{path}\"\n");
        let at = text.find(&rule).with_context(|| text.clone())?;
        let seen = text[..at].lines().last().context("no comment")?;
        let (_, rest) = seen
            .split_once(&format!(": {launches} launches, "))
            .with_context(|| seen.to_owned())?;
        let (denied, rest) = rest.split_once(' ').context("no number")?;
        ensure!(
            rest.contains(" 0 still running; it does not stay"),
            "{seen}"
        );
        ensure!(denied.parse::<u64>()? >= 1, "{seen}");
    }
    fs::write(SUGGESTED, &text)?;
    succeeds(&["check", SUGGESTED])?;
    fs::write(
        SUGGESTED,
        text.replace("\n#[[", "\n[[")
            .replace("\n#name", "\nname")
            .replace("\n#exe", "\nexe"),
    )?;
    succeeds(&["check", SUGGESTED])?;
    ensure!(judged["claims"] == 0, "{judged}");
    gate.stop()
}
