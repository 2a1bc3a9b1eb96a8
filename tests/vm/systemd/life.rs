// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's life as a service: reload, watchdog, crashes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::{
    Installed, PATIENCE, POLICY, SYSTEMD, UNIT, becomes, journal, kill_daemon, main_pid, property,
    run, status,
};
use crate::gate::{COREGATE, Gate};
use crate::launch::{fails, program, starts};
use crate::machine::{Load, node_cpus, pin, wait_for};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "systemd_reloads_the_policy",
        needs: Needs::OfTheRelease,
        on: SYSTEMD,
        run: reload,
    },
    Test {
        name: "i5_the_watchdog_restarts_a_daemon_that_hangs",
        needs: Needs::OfTheRelease,
        on: SYSTEMD,
        run: watchdog,
    },
    Test {
        name: "i5_a_daemon_that_crashes_on_ends_in_failure",
        needs: Needs::OfTheRelease,
        on: SYSTEMD,
        run: crashes,
    },
    Test {
        name: "i5_a_daemon_that_cannot_take_over_leaves_the_gate",
        needs: Needs::OfTheRelease,
        on: SYSTEMD,
        run: upgrade,
    },
];

const SERVER: &str = "/opt/server";

fn reload() -> Result<()> {
    program(SERVER)?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    let _installed = Installed::with(&Gate::policy("observe", SERVER, ""))?;
    starts(SERVER)?;
    fs::write(POLICY, Gate::policy("enforce", SERVER, ""))?;
    run(&["systemctl", "reload", UNIT])?;
    let said = property("StatusText")?;
    ensure!(said.contains("mode enforce, generation 2"), "{said}");
    ensure!(said.contains("would be denied: 1"), "{said}");
    fails(SERVER, EAGAIN)?;
    fs::write(POLICY, "[gate]\nmode = \"fast\"\n")?;
    run(&["systemctl", "reload", UNIT])?;
    ensure!(status()?["reload"]["error"].is_string());
    let said = property("StatusText")?;
    ensure!(said.contains("mode enforce, generation 2"), "{said}");
    fails(SERVER, EAGAIN)?;
    ensure!(property("ActiveState")? == "active" && property("NRestarts")? == "0");
    Ok(())
}

fn stop(daemon: Pid) -> Result<()> {
    Ok(kill(daemon, Signal::SIGSTOP)?)
}

/// Stops the thread of the event loop alone: no other thread may say that the daemon lives.
fn stop_loop(daemon: Pid) -> Result<()> {
    ptrace::seize(daemon, ptrace::Options::empty())?;
    Ok(ptrace::interrupt(daemon)?)
}

fn watchdog() -> Result<()> {
    program(SERVER)?;
    let installed = Installed::new()?;
    installed.drop_in("beat", "WatchdogSec=10s")?;
    installed.start(&Gate::policy("enforce", SERVER, ""))?;
    // One that lives is left alone.
    let pid = main_pid().context("no daemon")?;
    std::thread::sleep(Duration::from_secs(21));
    ensure!(main_pid() == Some(pid) && property("NRestarts")? == "0");
    pin(&node_cpus(0)?)?;
    for (restarts, hang) in [("1", stop as fn(Pid) -> Result<()>), ("2", stop_loop)] {
        let pid = main_pid().context("no daemon")?;
        let load = Load::fill(0)?;
        fails(SERVER, EAGAIN)?;
        hang(pid)?;
        wait_for("another daemon", PATIENCE, || {
            // systemd hears of the end of one that is traced only after us.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            fails(SERVER, EAGAIN).is_ok() && main_pid().is_some_and(|now| now != pid)
        })?;
        fails(SERVER, EAGAIN)?;
        drop(load);
        becomes("active")?;
        ensure!(property("NRestarts")? == restarts);
    }
    let log = journal();
    ensure!(log.contains("Watchdog timeout"), "{log}");
    Ok(())
}

fn crashes() -> Result<()> {
    program(SERVER)?;
    let installed = Installed::new()?;
    // A policy that is wrong is not tried again.
    fs::write(POLICY, "[gate]\nmode = \"fast\"\n")?;
    ensure!(run(&["systemctl", "start", UNIT]).is_err());
    ensure!(property("ActiveState")? == "failed" && property("NRestarts")? == "0");
    ensure!(property("ExecMainStatus")? == "2");
    starts(SERVER)?;
    // The long pauses are left out.
    installed.drop_in("pauses", "RestartMaxDelaySec=200ms")?;
    installed.start(&Gate::policy("enforce", SERVER, ""))?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    let mut killed = 0;
    wait_for("the failure", PATIENCE, || {
        killed += u32::from(kill_daemon().unwrap_or_default());
        fails(SERVER, EAGAIN).is_ok()
            && property("ActiveState").is_ok_and(|state| state == "failed")
    })
    .with_context(journal)?;
    ensure!(killed >= 7, "the unit failed after {killed} crashes");
    fails(SERVER, EAGAIN)?;
    ensure!(run(&[COREGATE, "status"]).is_err());
    let log = journal();
    ensure!(log.contains("Start request repeated too quickly"), "{log}");
    Ok(())
}

/// The next daemon cannot load its gate, as it may not; or cannot pin it.
fn upgrade() -> Result<()> {
    program(SERVER)?;
    let installed = Installed::with(&Gate::policy("enforce", SERVER, ""))?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    for lines in [
        "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_KILL",
        "InaccessiblePaths=/sys/fs/bpf",
    ] {
        installed.drop_in("broken", &format!("{lines}\nRestart=no"))?;
        ensure!(run(&["systemctl", "restart", UNIT]).is_err(), "{lines}");
        fails(SERVER, EAGAIN).context(lines)?;
    }
    installed.drop_in("broken", "")?;
    run(&["systemctl", "restart", UNIT])?;
    fails(SERVER, EAGAIN)?;
    let found = status()?;
    ensure!(found["rules"][0]["denied"] == 1, "{found}");
    Ok(())
}
