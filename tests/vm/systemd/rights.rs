// SPDX-License-Identifier: GPL-2.0-only
//! What the daemon may do once the gate stands, and what it can do all the same.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;

use super::{Installed, POLICY, SYSTEMD, UNIT, main_pid, run, status};
use crate::gate::{COREGATE, Gate};
use crate::launch::{fails, program, starts};
use crate::machine::{Load, node_cpus, pin, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_daemon_has_no_rights_once_the_gate_stands",
        needs: Needs::Nothing,
        on: NUMA,
        run: bare,
    },
    Test {
        name: "the_service_works_without_rights",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: service,
    },
    Test {
        name: "the_units_are_as_shut_in_as_they_can_be",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: exposure,
    },
];

const SERVER: &str = "/opt/server";

/// The capabilities that the unit leaves in the bounding set, which is of no use without others:
/// CAP_AUDIT_WRITE, CAP_SYSLOG, CAP_PERFMON, CAP_BPF (include/uapi/linux/capability.h).
const BOUNDING: u64 = 1 << 29 | 1 << 34 | 1 << 38 | 1 << 39;

/// The sets of all threads of a process are empty, but for the bounding set.
fn has_no_rights(pid: i32, bounding: u64) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(name));
            found.map(str::trim).with_context(|| format!("no {name}"))
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            ensure!(u64::from_str_radix(field(name)?, 16)? == 0, "{text}");
        }
        let left = u64::from_str_radix(field("CapBnd:")?, 16)?;
        ensure!(left & !bounding == 0, "{text}");
        ensure!(field("NoNewPrivs:")? == "1", "{text}");
    }
    Ok(())
}

/// Reload, rehearsal, hotplug and questions work for a daemon that listens at its socket.
fn works(reload: impl FnOnce() -> Result<()>) -> Result<()> {
    pin(&node_cpus(0)?)?;
    let load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    reload()?;
    ensure!(status()?["generation"] == 2, "{}", status()?);
    fails(SERVER, EAGAIN)?;
    let other = "/run/rehearsed.toml";
    fs::write(other, Gate::policy("observe", SERVER, ""))?;
    run(&[COREGATE, "mode", "rehearse", other])?;
    fails(SERVER, EAGAIN)?;
    ensure!(status()?["rehearsal"].is_object(), "{}", status()?);
    run(&[COREGATE, "mode", "promote"])?;
    starts(SERVER)?;
    run(&[COREGATE, "reload"])?;
    fails(SERVER, EAGAIN)?;
    ensure!(!run(&[COREGATE, "events", "--json"])?.is_empty());
    drop(load);
    let online = "/sys/devices/system/cpu/cpu7/online";
    let cores = || status().map(|status| status["nodes"][1]["cores"].clone());
    let before = cores()?;
    fs::write("/sys/devices/system/cpu/cpu6/online", "0")?;
    fs::write(online, "0")?;
    let followed = wait_for("a core goes", super::PATIENCE, || {
        cores().is_ok_and(|now| now.as_u64() < before.as_u64())
    });
    fs::write("/sys/devices/system/cpu/cpu6/online", "1")?;
    fs::write(online, "1")?;
    followed?;
    wait_for("it comes back", super::PATIENCE, || {
        cores().is_ok_and(|now| now == before)
    })
}

fn bare() -> Result<()> {
    program(SERVER)?;
    let gate = Gate::start(&Gate::policy("enforce", SERVER, ""))?;
    has_no_rights(gate.pid(), 0)?;
    works(|| run(&[COREGATE, "reload"]).map(drop))?;
    has_no_rights(gate.pid(), 0)?;
    gate.stop()?;
    // It could take its gate down.
    let _load = Load::fill(0)?;
    wait_for("launches pass", super::PATIENCE, || starts(SERVER).is_ok())
}

fn service() -> Result<()> {
    program(SERVER)?;
    let _installed = Installed::with(&Gate::policy("enforce", SERVER, ""))?;
    let pid = main_pid().context("no daemon")?.as_raw();
    has_no_rights(pid, BOUNDING)?;
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(text.contains("Seccomp:\t2"), "{text}");
    works(|| {
        fs::write(POLICY, Gate::policy("enforce", SERVER, ""))?;
        run(&["systemctl", "reload", UNIT]).map(drop)
    })?;
    has_no_rights(pid, BOUNDING)?;
    ensure!(main_pid().map(|pid| pid.as_raw()) == Some(pid));
    run(&["systemctl", "stop", UNIT]).map(drop)
}

/// systemd's own measure, from 0 to 10.
fn exposure() -> Result<()> {
    const MOST: &str = "20";
    let _installed = Installed::new()?;
    for unit in [UNIT, "coregate-companion.service"] {
        let words = ["security", "--no-pager", "--threshold", MOST, unit];
        let output = Command::new("systemd-analyze").args(words).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{}", said.lines().last().unwrap_or_default());
        ensure!(output.status.success(), "{said}");
    }
    Ok(())
}
