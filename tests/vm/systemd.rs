// SPDX-License-Identifier: GPL-2.0-only
//! coregate as systemd runs it, by the units of packaging/.

pub(crate) mod companion;
pub(crate) mod docs;
pub(crate) mod life;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod package;
pub(crate) mod rights;
pub(crate) mod run;
pub(crate) mod storm;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::gate::COREGATE;
use crate::launch::{program, starts};
use crate::machine::wait_for;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "installing_starts_a_gate_that_denies_nothing",
    needs: Needs::Nothing,
    on: SYSTEMD,
    run: installed,
}];

/// The guest with Debian's systemd.
pub(crate) const SYSTEMD: &[&str] = &["systemd"];

/// The daemon's unit, and where its policy is.
pub(crate) const UNIT: &str = "coregate.service";
pub(crate) const POLICY: &str = "/etc/coregate/policy.toml";

const DROP_INS: &str = "/run/systemd/system/coregate.service.d";

const SERVER: &str = "/opt/server";

/// Runs a command and returns what it said on stdout.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let (program, args) = words.split_first().context("no program")?;
    let output = Command::new(program).args(args).output()?;
    ensure!(
        output.status.success(),
        "{words:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// coregate as a package installs it, its daemon not started. Dropping it removes all of it.
pub(crate) struct Installed;

impl Installed {
    /// Puts the files of packaging/ into their places.
    pub(crate) fn new() -> Result<Self> {
        let installed = Self;
        run(&["cp", "-a", "/packaging/.", "/"])?;
        run(&["systemd-sysusers"])?;
        patient()?;
        Ok(installed)
    }

    /// The same, with this policy, and the daemon started and ready.
    pub(crate) fn with(policy: &str) -> Result<Self> {
        let installed = Self::new()?;
        installed.start(policy)?;
        Ok(installed)
    }

    /// Starts the daemon with this policy, and waits until it is ready.
    pub(crate) fn start(&self, policy: &str) -> Result<()> {
        fs::write(POLICY, policy)?;
        run(&["systemctl", "start", UNIT]).map(drop)
    }

    /// Adds these lines to the daemon's service, or replaces those of this name.
    pub(crate) fn drop_in(&self, name: &str, lines: &str) -> Result<()> {
        drop_in(name, lines)
    }

    /// Lets the daemon start as often as it may end, and as soon each time.
    pub(crate) fn no_start_limit(&self) -> Result<()> {
        self.drop_in("limit", "RestartSteps=0\n[Unit]\nStartLimitIntervalSec=0")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let mut ended = vec![
            run(&["systemctl", "stop", UNIT]),
            run(&["rm", "-rf", DROP_INS, "/etc/coregate"]),
            run(&["systemctl", "daemon-reload"]),
            run(&[COREGATE, "detach"]),
        ];
        // It fails where there is nothing to reset.
        let _ = run(&["systemctl", "reset-failed", UNIT]);
        for error in ended.drain(..).filter_map(Result::err) {
            eprintln!("cannot take the gate down: {error:?}");
        }
    }
}

fn drop_in(name: &str, lines: &str) -> Result<()> {
    fs::create_dir_all(DROP_INS)?;
    fs::write(
        format!("{DROP_INS}/{name}.conf"),
        format!("[Service]\n{lines}\n"),
    )?;
    run(&["systemctl", "daemon-reload"]).map(drop)
}

/// Lets the daemon take its time to start: under emulation it takes longer than systemd waits for.
fn patient() -> Result<()> {
    drop_in("slow", "TimeoutStartSec=infinity")
}

/// How long the service may take to get from one state to another; it loads its programs in that.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A property of the daemon's unit.
pub(crate) fn property(name: &str) -> Result<String> {
    let said = run(&["systemctl", "show", "--value", "--property", name, UNIT])?;
    Ok(said.trim().to_owned())
}

/// What `coregate status --json` says.
pub(crate) fn status() -> Result<Value> {
    Ok(serde_json::from_str(&run(&[
        COREGATE, "status", "--json",
    ])?)?)
}

/// The daemon's process; `None`: there is none.
pub(crate) fn main_pid() -> Option<Pid> {
    // What systemctl would say, at a fraction of the time.
    let path = format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs");
    let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(Pid::from_raw(pid))
}

/// Ends the daemon's process at once; whether there was one. It is gone then, so that no process is
/// killed twice.
pub(crate) fn kill_daemon() -> Result<bool> {
    let Some(pid) = main_pid().filter(|pid| kill(*pid, Signal::SIGKILL).is_ok()) else {
        return Ok(false);
    };
    let gone = || main_pid() != Some(pid);
    wait_for("the end of the daemon", PATIENCE, gone)?;
    Ok(true)
}

/// Waits until the unit is in this state.
pub(crate) fn becomes(state: &str) -> Result<()> {
    let mut last = String::new();
    wait_for("the state of the unit", PATIENCE, || {
        last = property("ActiveState").unwrap_or_else(|error| format!("{error:?}"));
        last == state
    })
    .with_context(|| format!("{state} expected, found {last}; {}", journal()))
}

/// What the journal has of the daemon's unit.
pub(crate) fn journal() -> String {
    journal_of(UNIT)
}

/// What the journal has of a unit.
pub(crate) fn journal_of(unit: &str) -> String {
    let words = [
        "journalctl",
        "--quiet",
        "--boot",
        "--no-pager",
        "--unit",
        unit,
    ];
    run(&words).unwrap_or_else(|error| format!("no journal: {error:?}"))
}

fn installed() -> Result<()> {
    program(SERVER)?;
    let installed = Installed::new()?;
    run(&["systemctl", "enable", "--now", UNIT])?;
    ensure!(property("ActiveState")? == "active");
    let said = property("StatusText")?;
    ensure!(said.contains("mode observe, generation 1"), "{said}");
    let found = status()?;
    ensure!(
        found["mode"] == "observe" && found["hooks"].as_u64() >= Some(7),
        "{found}"
    );
    starts(SERVER)?;
    run(&["systemctl", "disable", UNIT])?;
    drop(installed);
    ensure!(run(&["systemctl", "--failed", "--quiet", "--no-legend"])?.is_empty());
    Ok(())
}
