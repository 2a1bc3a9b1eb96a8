// SPDX-License-Identifier: GPL-2.0-only
//! Services that wait for a core, as docs/operations.md has them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Installed, PATIENCE, SYSTEMD, journal_of, run};
use crate::claims::Running;
use crate::gate::Gate;
use crate::launch::{SLEEPER, program};
use crate::machine::{cores, wait_for};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "systemd_services_start_once_a_core_is_free",
    needs: Needs::OfTheRelease,
    on: SYSTEMD,
    run: services,
}];

const FOLDER: &str = "/opt/run";
const WAITS: &str = "waits.service";
const TRIES: &str = "tries.service";

/// Services that are stopped and gone with it.
struct Services;

impl Services {
    fn start() -> Result<Self> {
        let services = Self;
        let waits = "[Service]\nUser=nobody\nSupplementaryGroups=coregate\n\
                     ExecStart=/usr/bin/coregate run --wait=10min -- coregate-sleeper\n\
                     Environment=PATH=/opt/run\n";
        let tries = "[Unit]\nStartLimitIntervalSec=0\n\
                     [Service]\nExecStart=@/opt/run/coregate-sleeper coregate-sleeper\n\
                     Restart=on-failure\nRestartSec=100ms\nRestartSteps=5\nRestartMaxDelaySec=2s\n";
        for (unit, text) in [(WAITS, waits), (TRIES, tries)] {
            fs::write(format!("/run/systemd/system/{unit}"), text)?;
        }
        run(&["systemctl", "daemon-reload"])?;
        run(&["systemctl", "start", "--no-block", WAITS, TRIES])?;
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = run(&["systemctl", "stop", WAITS, TRIES]);
        let _ = run(&["systemctl", "reset-failed", WAITS, TRIES]);
        for unit in [WAITS, TRIES] {
            let _ = fs::remove_file(format!("/run/systemd/system/{unit}"));
        }
        let _ = run(&["systemctl", "daemon-reload"]);
    }
}

fn property(unit: &str, name: &str) -> Result<String> {
    let said = run(&["systemctl", "show", "--value", "--property", name, unit])?;
    Ok(said.trim().to_owned())
}

/// The name of a service's process.
fn comm(unit: &str) -> Result<String> {
    let pid = property(unit, "MainPID")?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).context("no process")?;
    Ok(comm.trim().to_owned())
}

fn services() -> Result<()> {
    let sleeper = format!("{FOLDER}/{SLEEPER}");
    program(&sleeper)?;
    let policy = Gate::policy("enforce", &format!("{FOLDER}/"), "scope = \"spread\"");
    let _installed = Installed::with(&policy)?;
    let all = cores()?.len();
    let held: Vec<_> = (0..all)
        .map(|_| Running::start(&sleeper, SLEEPER))
        .collect::<Result<_>>()?;
    let _services = Services::start()?;
    wait_for("starts in vain", PATIENCE, || {
        let restarts = property(TRIES, "NRestarts").unwrap_or_default();
        restarts.parse::<u32>().is_ok_and(|restarts| restarts >= 4)
    })?;
    ensure!(comm(WAITS)? == "coregate", "{}", journal_of(WAITS));
    ensure!(property(WAITS, "NRestarts")? == "0");
    let log = journal_of(TRIES);
    ensure!(log.contains("Resource temporarily unavailable"), "{log}");
    drop(held);
    for unit in [WAITS, TRIES] {
        wait_for("the service runs", Duration::from_secs(60), || {
            comm(unit).is_ok_and(|comm| comm == SLEEPER[..15])
        })
        .with_context(|| journal_of(unit))?;
    }
    Ok(())
}
