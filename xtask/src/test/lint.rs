// SPDX-License-Identifier: GPL-2.0-only
//! Checks of the source that need no run: format, lints, licences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::report::Report;
use crate::cache::Cache;
use crate::{build, command, setup, userland};

/// What the first line of each source file holds, or the second after `#!`.
const LICENCE: &str = "SPDX-License-Identifier: GPL-2.0-only";

/// A check and its name in the report.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check; each counts as one test.
pub(super) fn run(report: &Report) {
    let checks: &[Check] = &[
        ("fmt", fmt),
        ("clippy", clippy),
        ("clang-format", clang_format),
        ("spdx", spdx),
        ("deny", deny),
        ("promtool", promtool),
    ];
    for (name, check) in checks {
        let start = Instant::now();
        let result = check();
        report.ended("lint", name, start.elapsed(), &result);
    }
}

fn fmt() -> Result<()> {
    command::output(build::cargo().args(["fmt", "--all", "--check"])).map(drop)
}

fn clippy() -> Result<()> {
    let args = ["clippy", "--quiet", "--workspace", "--all-targets"];
    command::output(build::cargo().args(args).args(["--", "-D", "warnings"])).map(drop)
}

fn clang_format() -> Result<()> {
    let mut sources = Vec::new();
    for dir in ["bpf", "tests/native", "tests/vm"] {
        files(&build::repository().join(dir), &mut sources)?;
    }
    sources.retain(|path| has_ending(path, &["c", "h"]));
    if sources.is_empty() {
        bail!("no C source found");
    }
    let mut command = Command::new("clang-format");
    command.args(["--dry-run", "--Werror"]).args(&sources);
    command::output(&mut command).map(drop)
}

fn spdx() -> Result<()> {
    let mut sources = Vec::new();
    files(&build::repository(), &mut sources)?;
    let mut without = Vec::new();
    for path in sources {
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let script = text.starts_with(b"#!");
        if (script || has_ending(&path, &["rs", "c", "h", "pml", "sh"]))
            && !names_licence(&text, script)
        {
            without.push(path.display().to_string());
        }
    }
    if !without.is_empty() {
        bail!("no line `{LICENCE}` at the top of {}", without.join(", "));
    }
    Ok(())
}

fn deny() -> Result<()> {
    let program = setup::cargo_deny(&Cache::open()?)?;
    command::output(build::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let mut command = Command::new(program);
    command
        .args(["--offline", "check", "licenses", "sources", "bans"])
        .current_dir(build::repository());
    command::output(&mut command).map(drop)
}

/// The alert rules, by Debian's own promtool: that they are valid, and what they do.
fn promtool() -> Result<()> {
    let root = userland::prometheus(&Cache::open()?)?;
    let rules = build::repository().join("packaging/prometheus");
    for (what, file) in [
        ("check", "coregate.rules.yml"),
        ("test", "coregate.rules.test.yml"),
    ] {
        let mut command = Command::new(root.path("usr/bin/promtool"));
        command.args([what, "rules", file]).current_dir(&rules);
        command::output(&mut command)?;
    }
    Ok(())
}

fn names_licence(text: &[u8], script: bool) -> bool {
    let line = text.split(|&byte| byte == b'\n').nth(usize::from(script));
    line.is_some_and(|line| String::from_utf8_lossy(line).contains(LICENCE))
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .is_some_and(|end| endings.iter().any(|known| end == *known))
}

/// All files below `dir`, but for what git or cargo made.
fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if entry.file_name() != "target" && entry.file_name() != ".git" {
            files(&path, found)?;
        }
    }
    Ok(())
}
