// SPDX-License-Identifier: GPL-2.0-only
//! The gate that stays when its daemon ends, and its claims.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::{EAGAIN, ENOENT};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::claims::{Running, held_by};
use crate::gate::{COREGATE, Gate, succeeds};
use crate::launch::{
    AGAIN, LEADERLESS, PARENT, SLEEPER, THREAD_AGAIN, command, fails, launch, program, script,
    starts,
};
use crate::machine::{node_cpus, pin, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i5_the_gate_outlives_its_daemon",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: outlives,
    },
    Test {
        name: "i7_live_claims_are_live_programs",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: soak,
    },
];

const SERVER: &str = "/opt/server";
const BROKEN: &str = "/opt/broken";
const PINS: &str = "/sys/fs/bpf/coregate";
/// Changes of any kind, and after how many of them the daemon ends.
const CHANGES: u64 = 40;
const RESTART: u64 = 12;

fn policy() -> String {
    let rule = |name: &str, exe: &str| {
        format!("[[rule]]\nname = \"{name}\"\nexe = \"{exe}\"\nscope = \"spread\"\n")
    };
    let rules = [rule("server", SERVER), rule("broken", BROKEN)].concat();
    format!("[gate]\nmode = \"enforce\"\n{rules}")
}

fn detach() -> Result<String> {
    succeeds(&["detach"])
}

/// The gate is gone, and so is what it pinned.
fn taken_down() -> Result<()> {
    ensure!(!Path::new(PINS).exists(), "{PINS} is still there");
    wait_for("launches pass", Duration::from_secs(10), || {
        starts(SERVER).is_ok()
    })
}

fn outlives() -> Result<()> {
    program(SERVER)?;
    pin(&node_cpus(0)?)?;
    let policy = Gate::denying("enforce", SERVER)?;
    let _taken_down = TakenDown;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        starts(SERVER)?;
        let gate = Gate::start_with(&policy, &[])?;
        fails(SERVER, EAGAIN)?;
        gate.signal(signal)?;
        drop(gate);
        fails(SERVER, EAGAIN)?;
        let mode = fs::metadata(PINS)?;
        ensure!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777 == 0o700);
        // A policy that is wrong changes nothing, nor does a second daemon that cannot stand.
        ensure!(Gate::start_with("[gate]\nmode = \"fast\"\n", &[]).is_err());
        fails(SERVER, EAGAIN)?;
        // The next one takes over; each launch is judged once again.
        let gate = Gate::start_with(&policy, &[])?;
        fails(SERVER, EAGAIN)?;
        let status = gate.status()?;
        ensure!(status["rules"][0]["denied"] == 1, "{status}");
        let output = Command::new(COREGATE).arg("detach").output()?;
        ensure!(
            !output.status.success(),
            "the gate of a running daemon was taken down"
        );
        gate.stop()?;
        fails(SERVER, EAGAIN)?;
        let output = Command::new(COREGATE).arg("status").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains("a gate stands without one"), "{said}");
        ensure!(detach()?.contains("on_exec"));
        taken_down()?;
        ensure!(detach()?.contains("nothing to take down"));
        // So does one that is to go with its daemon.
        let gate = Gate::start_with(&policy, &[])?;
        gate.signal(Signal::SIGKILL)?;
        drop(gate);
        let gate = Gate::start(&policy)?;
        fails(SERVER, EAGAIN)?;
        gate.stop()?;
        taken_down()?;
    }
    umount2(
        Path::new(PINS).parent().context("no parent")?,
        MntFlags::empty(),
    )?;
    let refused = Gate::start_with(&policy, &[]).err().context("it stands")?;
    mount(
        None::<&str>,
        Path::new(PINS).parent().context("no parent")?,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )?;
    ensure!(
        format!("{refused:?}").contains("--no-persist"),
        "{refused:?}"
    );
    starts(SERVER)
}

/// Takes down what a test that failed left standing.
pub(crate) struct TakenDown;

impl Drop for TakenDown {
    fn drop(&mut self) {
        if let Err(error) = detach() {
            eprintln!("{error:?}");
        }
    }
}

/// Tries to start a program, and keeps it if it was admitted.
fn start(name: &str, holders: &mut Vec<Running>) -> Result<()> {
    match Command::new(SERVER).arg0(name).stdin(Stdio::null()).spawn() {
        Ok(child) => holders.push(Running(child)),
        Err(error) => ensure!(error.raw_os_error() == Some(EAGAIN), "{error}"),
    }
    Ok(())
}

/// What the daemon says of claims is what runs, once nothing is under way. A program that executes
/// itself again may be denied and end by that.
fn compare(gate: &Gate, holders: &mut Vec<Running>) -> Result<()> {
    let mut last = None;
    let equal = wait_for("claims", Duration::from_secs(10), || {
        holders.retain_mut(|holder| matches!(holder.0.try_wait(), Ok(None)));
        last = gate.status().ok();
        let Some(status) = &last else { return false };
        held_by(status).ok() == Some(holders.len() as u64)
            && status["rules"][0]["claims"] == holders.len()
    });
    equal.with_context(|| format!("{} programs run, but {last:?}", holders.len()))
}

fn soak() -> Result<()> {
    program(SERVER)?;
    script(BROKEN)?;
    fs::write(BROKEN, "#!/no/such/interpreter\n")?;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let _taken_down = TakenDown;
    let mut gate = Gate::start_with(&policy(), &[])?;
    let mut holders = Vec::new();
    // What comes after is random, and may leave out either.
    wait_for("a launch fails later", Duration::from_secs(10), || {
        launch(&mut command(BROKEN)).ok() == Some(Some(ENOENT))
    })?;
    wait_for("a program is admitted", Duration::from_secs(10), || {
        start(SLEEPER, &mut holders).is_ok() && !holders.is_empty()
    })?;
    let (mut started, mut failed, mut restarts) = (1, 1, 0);
    for i in 0..crate::soak().unwrap_or(CHANGES) {
        match rng.u32(..10) {
            0..5 => {
                let names = [SLEEPER, AGAIN, THREAD_AGAIN, LEADERLESS, PARENT];
                let before = holders.len();
                start(rng.choice(names).unwrap_or(SLEEPER), &mut holders)?;
                started += holders.len() - before;
            }
            5..8 if !holders.is_empty() => {
                drop(holders.swap_remove(rng.usize(..holders.len())));
            }
            _ => {
                let errno = launch(&mut command(BROKEN))?;
                ensure!(errno == Some(ENOENT) || errno == Some(EAGAIN), "{errno:?}");
                failed += usize::from(errno == Some(ENOENT));
            }
        }
        if i % RESTART == RESTART - 1 {
            gate.signal(
                *rng.choice(&[Signal::SIGKILL, Signal::SIGTERM])
                    .context("one")?,
            )?;
            drop(gate);
            // Nobody is there who could tell the gate.
            if !holders.is_empty() {
                drop(holders.swap_remove(0));
            }
            start(SLEEPER, &mut holders)?;
            launch(&mut command(BROKEN))?;
            gate = Gate::start_with(&policy(), &[])?;
            restarts += 1;
        }
        compare(&gate, &mut holders)?;
    }
    eprintln!("{started} programs admitted, {failed} failed later, {restarts} daemons ended");
    ensure!(restarts > 0);
    holders.clear();
    compare(&gate, &mut holders)?;
    gate.stop()
}
