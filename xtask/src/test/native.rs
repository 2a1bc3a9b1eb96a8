// SPDX-License-Identifier: GPL-2.0-only
//! The gate's own C, compiled for this machine and preempted at each access to memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::host;
use super::report::Report;
use crate::{build, command};

/// How it is compiled; from the top of the repository.
const COMPILE: &[&str] = &[
    "-std=gnu11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    // What only BPF has, and programs that no test calls.
    "-Wno-unknown-attributes",
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-sign-compare",
    // A call at each access to memory; the functions that are called are the test's.
    "-fsanitize=thread",
    "-Itests/native/shim",
    "-Ibpf",
    "-D__TARGET_ARCH_x86",
    "-c",
    "tests/native/gate.c",
];

/// Runs the tests whose name holds `filter`; each counts.
pub(super) fn run(report: &Report, filter: Option<&str>) {
    let start = Instant::now();
    if let Err(why) = tests(report, filter) {
        report.failed("native", "gate.c", start.elapsed(), &format!("{why:#}"));
    }
}

fn tests(report: &Report, filter: Option<&str>) -> Result<()> {
    let dir = build::target_dir().join("native");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (object, program) = (dir.join("gate.o"), dir.join("gate"));
    let mut compile = Command::new("clang");
    compile.args(COMPILE).arg("-o").arg(&object);
    command::output(compile.current_dir(build::repository()))?;
    let mut link = Command::new("clang");
    link.arg("-Wl,--wrap=memcpy,--wrap=memset");
    command::output(link.arg("-o").arg(&program).arg(&object))?;
    // How many runs each test took is told there.
    let mut test = Command::new(program);
    host::watch(report, "native", test.args(filter).stderr(Stdio::inherit()))
}
