// SPDX-License-Identifier: GPL-2.0-only
//! The daemon without memory, and with a clock that is set.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::Value;

use super::storm::{installed, under_storm};
use super::{Installed, SYSTEMD, UNIT, becomes, main_pid, run};
use crate::gate::{COREGATE, Gate};
use crate::launch::{fails, program};
use crate::machine::{Load, node_cpus, pin, wait_for};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i3_a_daemon_without_memory_changes_no_verdict",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: memory,
    },
    Test {
        name: "a_clock_that_is_set_back_changes_no_verdict",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: clock,
    },
];

const SERVER: &str = "/opt/server";
const HOUR: Duration = Duration::from_secs(3600);

/// The limit is far below what the daemon and its maps have.
fn memory() -> Result<()> {
    let _installed = installed()?;
    let pid = main_pid().context("no daemon")?;
    let limit = |limit: &str| {
        let words = ["systemctl", "set-property", "--runtime", UNIT, limit];
        run(&words).map(drop)
    };
    under_storm(|| {
        limit("MemoryMax=1M")?;
        // Whoever asks makes it need memory.
        wait_for("the daemon is killed", Duration::from_secs(120), || {
            let _ = run(&[COREGATE, "status"]);
            main_pid() != Some(pid)
        })?;
        std::thread::sleep(Duration::from_secs(5));
        limit("MemoryMax=infinity")?;
        let _ = run(&["systemctl", "reset-failed", UNIT]);
        run(&["systemctl", "start", UNIT])?;
        becomes("active")
    })
}

/// The newest event that the daemon knows.
fn last_event() -> Result<Value> {
    let said = run(&[COREGATE, "events", "--json"])?;
    Ok(serde_json::from_str(
        said.lines().last().context("no event")?,
    )?)
}

/// Lets a launch be denied: the event, whose time is now.
fn denied_now() -> Result<Value> {
    let before = SystemTime::now();
    fails(SERVER, EAGAIN)?;
    let mut event = last_event()?;
    let time = |event: &Value| {
        let text = event["time"].as_str().unwrap_or_default().to_owned();
        humantime::parse_rfc3339(&text).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    wait_for("the event", Duration::from_secs(20), || {
        event = last_event().unwrap_or(Value::Null);
        event["verdict"] == "deny" && time(&event) + Duration::from_secs(1) >= before
    })
    .with_context(|| format!("{event}, but it was {before:?}"))?;
    ensure!(time(&event) <= SystemTime::now(), "{event}");
    Ok(event)
}

fn clock() -> Result<()> {
    program(SERVER)?;
    let _installed = Installed::with(&Gate::policy("enforce", SERVER, ""))?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    let first = denied_now()?;
    let set = |change: &dyn Fn(Duration) -> Duration| -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        Ok(clock_settime(ClockId::CLOCK_REALTIME, change(now).into())?)
    };
    set(&|now| now.saturating_sub(HOUR))?;
    let second = denied_now();
    let status = run(&[COREGATE, "status", "--json"]);
    set(&|now| now + HOUR)?;
    let second = second?;
    ensure!(
        second["id"].as_u64() > first["id"].as_u64(),
        "{first}, {second}"
    );
    let status: Value = serde_json::from_str(&status?)?;
    ensure!(status["rules"][0]["denied"] == 2, "{status}");
    Ok(())
}
