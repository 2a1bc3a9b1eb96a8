// SPDX-License-Identifier: GPL-2.0-only
//! The companion's life as a service.

use anyhow::{Result, ensure};

use super::{Installed, PATIENCE, SYSTEMD, UNIT, journal_of, run};
use crate::gate::{COREGATE, Gate};
use crate::launch::program;
use crate::machine::wait_for;
use crate::schedulers::state;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "companion_works_as_a_service",
    needs: Needs::WholeSchedExt,
    on: SYSTEMD,
    run: service,
}];

const COMPANION: &str = "coregate-companion.service";
const SERVER: &str = "/opt/server";

/// Takes the companion down when a test ends.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        for verb in ["stop", "reset-failed"] {
            // It fails where there is nothing to reset.
            let _ = run(&["systemctl", verb, COMPANION]);
        }
    }
}

/// Waits until it has said this so many times.
fn has_said(words: &str, times: usize) -> Result<()> {
    wait_for("words of the companion", PATIENCE, || {
        journal_of(COMPANION).matches(words).count() == times
    })
    .map_err(|error| error.context(format!("{words}: {}", journal_of(COMPANION))))
}

/// It reads the gate's claims under the restrictions of its unit, follows a gate that goes and comes, and
/// is started again when it is killed.
fn service() -> Result<()> {
    const WITH: &str = "active; keeps the cores of the gate's claims";
    const WITHOUT: &str = "active; no gate is pinned";
    program(SERVER)?;
    let policy = Gate::policy("enforce", SERVER, "");
    let installed = Installed::with(&policy)?;
    let stopped = Stopped;
    run(&["systemctl", "start", COMPANION])?;
    has_said(WITH, 1)?;
    ensure!(state() == "enabled");
    run(&["systemctl", "kill", "--signal", "KILL", COMPANION])?;
    has_said(WITH, 2)?;
    run(&["systemctl", "stop", UNIT])?;
    run(&[COREGATE, "detach"])?;
    has_said(WITHOUT, 1)?;
    installed.start(&policy)?;
    has_said(WITH, 3)?;
    ensure!(state() == "enabled");
    drop(stopped);
    ensure!(state() == "disabled");
    Ok(())
}
