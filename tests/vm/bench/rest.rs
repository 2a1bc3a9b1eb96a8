// SPDX-License-Identifier: GPL-2.0-only
//! What a daemon with many rules takes while nothing happens.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Bench;
use super::scale::{RULES, mixed};
use crate::gate::Gate;

/// How long a daemon is given to come to rest, and is watched then.
const MINUTE: Duration = Duration::from_secs(60);

/// How often it runs in a minute, and what is resident of it, in KiB.
pub(super) fn all(bench: &mut Bench) -> Result<()> {
    let gate = Gate::start(&mixed(RULES))?;
    std::thread::sleep(MINUTE);
    let before = runs(gate.pid())?;
    std::thread::sleep(MINUTE);
    bench.note("rest/runs", (runs(gate.pid())? - before) as f64);
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid()))?;
    bench.note("rest/resident", field(&status, "VmRSS:")? as f64);
    gate.stop()
}

/// How often the threads of a process have waited so far.
fn runs(pid: i32) -> Result<u64> {
    let mut runs = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        runs += field(&status, "voluntary_ctxt_switches:")?;
    }
    Ok(runs)
}

/// The number of a line of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in {status}"))
}
