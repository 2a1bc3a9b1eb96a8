// SPDX-License-Identifier: GPL-2.0-only
//! The tests that need no guest: unit and command-line tests.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
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
        .args(filter);
    let mut child = test
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    // The pipe of a few error lines cannot fill up while the other is read.
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let failed = follow(report, BufReader::new(stdout))?;
    let out = child
        .wait_with_output()
        .context("cannot wait for cargo test")?;
    if !out.status.success() && !failed {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!("it failed beside the tests: {}", stderr.trim());
    }
    Ok(())
}

/// Reports each test as it ends, and the failed ones when all is read, because
/// only then it is known what they said. Returns whether any failed.
fn follow(report: &Report, output: impl BufRead) -> Result<bool> {
    let mut reader = Reader::new();
    let mut failed = Vec::new();
    for line in output.lines() {
        let line = line.context("cannot read what cargo test writes")?;
        match reader.line(&line) {
            Some(Outcome {
                name,
                ok: true,
                time,
            }) => report.passed("host", &name, time),
            Some(outcome) => failed.push(outcome),
            None => {}
        }
    }
    for Outcome { name, time, .. } in &failed {
        report.failed("host", name, *time, reader.said(name));
    }
    Ok(!failed.is_empty())
}
