// SPDX-License-Identifier: GPL-2.0-only
//! The tests that need no guest: unit and command-line tests.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::libtest::{Outcome, Reader};
use super::report::Report;
use crate::{build, command};

/// Runs `cargo test` on the workspace, or on the tests whose name holds
/// `filter`; each test counts.
pub(super) fn run(report: &Report, filter: Option<&str>) {
    let start = Instant::now();
    if let Err(why) = tests(report, filter) {
        report.failed("host", "cargo test", start.elapsed(), &format!("{why:#}"));
    }
}

fn tests(report: &Report, filter: Option<&str>) -> Result<()> {
    let mut compile = build::cargo();
    command::output(compile.args(["test", "--quiet", "--workspace", "--no-run"]))?;

    let mut test = build::cargo();
    test.args(["test", "--quiet", "--workspace", "--no-fail-fast", "--"])
        .args(["--format", "pretty"])
        .args(filter)
        .stderr(Stdio::piped());
    watch(report, "host", &mut test)
}

/// Runs a command that writes as Rust's test programs do; each test counts, at `place`.
///
/// # Errors
/// When it cannot be run, or fails though no test did.
pub(super) fn watch(report: &Report, place: &str, test: &mut Command) -> Result<()> {
    let shown = command::shown(test);
    let mut child = test
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    // The pipe of a few error lines cannot fill up while the other is read.
    let stdout = child.stdout.take().context("the tests have no output")?;
    let failed = follow(report, place, BufReader::new(stdout))?;
    let out = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    if !out.status.success() && !failed {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!(
            "`{shown}` failed beside the tests ({}): {}",
            out.status,
            stderr.trim()
        );
    }
    Ok(())
}

/// Reports each test as it ends, and the failed ones when all is read, because
/// only then it is known what they said. Returns whether any failed.
fn follow(report: &Report, place: &str, output: impl BufRead) -> Result<bool> {
    let mut reader = Reader::new();
    let mut failed = Vec::new();
    for line in output.lines() {
        let line = line.context("cannot read what the tests write")?;
        match reader.line(&line) {
            Some(Outcome {
                name,
                ok: true,
                time,
            }) => report.passed(place, &name, time),
            Some(outcome) => failed.push(outcome),
            None => {}
        }
    }
    for Outcome { name, time, .. } in &failed {
        report.failed(place, name, *time, reader.said(name));
    }
    Ok(!failed.is_empty())
}
