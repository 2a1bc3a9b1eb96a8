// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's life: what it refuses, how it ends, what reaches the log.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::admission::gate_on_node_0;
use crate::gate::{COREGATE, Gate, LOAD_TIME};
use crate::launch::{USER, fails, program, starts};
use crate::machine::{Load, node_cpus, pin, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_second_daemon_is_refused",
        needs: Needs::OneKernel,
        on: NUMA,
        run: second,
    },
    Test {
        name: "i5_a_daemon_that_cannot_stand_attaches_nothing",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: refused,
    },
    Test {
        name: "the_gate_goes_with_the_daemon",
        needs: Needs::OneKernel,
        on: NUMA,
        run: ends,
    },
    Test {
        name: "verdicts_reach_a_real_log_daemon",
        needs: Needs::OneKernel,
        on: NUMA,
        run: syslog,
    },
    Test {
        name: "i9_a_full_ring_buffer_is_counted",
        needs: Needs::OneKernel,
        on: NUMA,
        run: full,
    },
    Test {
        name: "the_verifier_is_far_from_its_limit",
        needs: Needs::Nothing,
        on: NUMA,
        run: verifier,
    },
    Test {
        name: "doctor_says_that_the_gate_can_work",
        needs: Needs::Nothing,
        on: NUMA,
        run: doctor,
    },
];

const SERVER: &str = "/opt/server";
const POLICY: &str = "/run/other.toml";

fn daemon() -> Command {
    let mut command = Command::new(COREGATE);
    command.args(["daemon", "--no-persist", "--policy", POLICY]);
    command
}

/// Runs a daemon that ends by itself: its exit code, and what it said.
fn end_of(command: &mut Command) -> Result<(Option<i32>, String)> {
    let output = command.output()?;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

fn second() -> Result<()> {
    program(SERVER)?;
    fs::write(POLICY, Gate::policy("observe", SERVER, ""))?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let _load = Load::fill(0)?;
    let (code, said) = end_of(&mut daemon())?;
    ensure!(
        code == Some(1) && said.contains("another coregate daemon is running"),
        "{code:?}, {said}"
    );
    fails(SERVER, EAGAIN)?;
    ensure!(gate.status()?["mode"] == "enforce");
    gate.stop()
}

/// A mount that goes when it is dropped.
struct Mount(&'static str);

impl Mount {
    /// Hides what is at `path` behind an empty folder.
    fn empty(path: &'static str) -> Result<Self> {
        mount(
            Some("none"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
        Ok(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

fn refused() -> Result<()> {
    program(SERVER)?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    let good = Gate::policy("enforce", SERVER, "");
    let refuses = |command: &mut Command, code: i32, words: &[&str]| -> Result<()> {
        let (found, said) = end_of(command)?;
        ensure!(
            found == Some(code),
            "exit {code} expected, found {found:?}: {said}"
        );
        for word in words {
            ensure!(said.contains(word), "'{word}' expected in: {said}");
        }
        starts(SERVER).context("something was left attached")
    };

    fs::write(POLICY, good.replace("enforce", "strict"))?;
    refuses(&mut daemon(), 2, &["other.toml:2", "\"strict\""])?;
    fs::write(POLICY, &good)?;
    fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    refuses(&mut daemon(), 2, &["chmod go-w"])?;
    fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    refuses(daemon().uid(USER), 1, &["CAP_BPF", "root"])?;
    {
        let _btf = Mount::empty("/sys/kernel/btf")?;
        refuses(&mut daemon(), 3, &["BTF"])?;
    }
    {
        let _security = Mount::empty("/sys/kernel/security")?;
        refuses(&mut daemon(), 1, &["securityfs"])?;
        fs::write("/sys/kernel/security/lsm", "lockdown,capability,yama")?;
        refuses(&mut daemon(), 3, &["lsm=lockdown,capability,yama,bpf"])?;
    }
    let gate = gate_on_node_0(&good)?;
    fails(SERVER, EAGAIN)?;
    gate.stop()
}

fn ends() -> Result<()> {
    program(SERVER)?;
    fs::write(POLICY, Gate::policy("enforce", SERVER, ""))?;
    pin(&node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        starts(SERVER)?;
        let mut child = daemon().stderr(Stdio::null()).spawn()?;
        wait_for("the gate denies", LOAD_TIME, || {
            fails(SERVER, EAGAIN).is_ok()
        })?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        let status = child.wait()?;
        ensure!(
            status.success() == (signal != Signal::SIGKILL),
            "{signal}: {status}"
        );
        // The last reference to a program goes a moment after the process.
        wait_for("launches pass", Duration::from_secs(10), || {
            starts(SERVER).is_ok()
        })?;
    }
    ensure!(!fs::exists("/run/coregate/control.sock")? || daemon_is_asked_in_vain()?);
    Ok(())
}

/// A socket that a killed daemon left behind is told from a living one.
fn daemon_is_asked_in_vain() -> Result<bool> {
    let (code, said) = end_of(Command::new(COREGATE).arg("status"))?;
    Ok(code == Some(1) && said.contains("no daemon is running"))
}

/// Debian's syslogd in busybox, until dropped.
struct Syslogd(Child);

impl Syslogd {
    const FILE: &str = "/run/messages";

    fn start() -> Result<Self> {
        let _ = fs::remove_file("/dev/log");
        let child = Command::new("/bin/busybox")
            .args(["syslogd", "-n", "-O", Self::FILE])
            .spawn()?;
        wait_for("syslogd listens", Duration::from_secs(20), || {
            fs::exists("/dev/log").unwrap_or(false)
        })?;
        Ok(Self(child))
    }
}

impl Drop for Syslogd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn syslog() -> Result<()> {
    program(SERVER)?;
    let mut gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    gate.leave_the_log()?;
    let _load = Load::fill(0)?;
    let lines = |count: usize| {
        wait_for(
            "the denials are in the log",
            Duration::from_secs(20),
            || {
                let text = fs::read_to_string(Syslogd::FILE).unwrap_or_default();
                // The last one before a restart may be there twice.
                let lines = text
                    .lines()
                    .filter(|line| line.contains("denied rule=probe"));
                let ids = lines.filter_map(|line| line.rsplit_once(" id="));
                ids.map(|(_, id)| id).collect::<BTreeSet<_>>().len() == count
            },
        )
    };
    let first = Syslogd::start()?;
    fails(SERVER, EAGAIN)?;
    lines(1)?;
    drop(first);
    // Nobody listens: lost, and counted.
    fails(SERVER, EAGAIN)?;
    let lost = || -> Result<Option<u64>> {
        let status = gate.status()?;
        let rows = status["log"].as_array().context("no log")?;
        let row = rows.iter().find(|row| row["name"] == "syslog");
        Ok(row.context("no syslog")?["lost"].as_u64())
    };
    wait_for("the loss is counted", Duration::from_secs(20), || {
        lost().is_ok_and(|lost| lost == Some(1))
    })?;
    let _second = Syslogd::start()?;
    fails(SERVER, EAGAIN)?;
    lines(2)?;
    ensure!(lost()? == Some(1));
    gate.stop()
}

/// The daemon is stopped while more launches are judged than the ring buffer holds.
fn full() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::denying("enforce", SERVER)?)?;
    gate.signal(Signal::SIGSTOP)?;
    let launches = 3500;
    for _ in 0..launches {
        fails(SERVER, EAGAIN)?;
    }
    gate.signal(Signal::SIGCONT)?;
    let status = gate.status()?;
    let rule = &status["rules"][0];
    ensure!(
        rule["launches"] == launches && rule["denied"] == launches,
        "{status}"
    );
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let events = &status["events"];
    ensure!(number(&events["lost"]) > 0, "{status}");
    wait_for(
        "every event is logged or counted",
        Duration::from_secs(20),
        || {
            gate.status().is_ok_and(|status| {
                let events = &status["events"];
                number(&events["emitted"]) + number(&events["lost"]) == launches
            })
        },
    )?;
    gate.stop()
}

/// A kernel that is not among those tested may need more steps; it takes a million.
fn verifier() -> Result<()> {
    const MOST: u64 = 300_000;
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("observe", SERVER, ""))?;
    let mut steps = Vec::new();
    for fd in fs::read_dir(format!("/proc/{}/fdinfo", gate.pid()))? {
        let text = fs::read_to_string(fd?.path())?;
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("verified_insns:"));
        if let Some(found) = found {
            steps.push(found.trim().parse::<u64>()?);
        }
    }
    println!("steps of the verifier by program: {steps:?}");
    ensure!(
        steps.len() >= 7 && steps.iter().all(|steps| *steps < MOST),
        "{steps:?}"
    );
    gate.stop()
}

fn doctor() -> Result<()> {
    let output = Command::new(COREGATE).args(["doctor", "--json"]).output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        output.status.code() == Some(0) && said["ok"] == true,
        "{said:#}"
    );
    let (_, without) = end_of(Command::new(COREGATE).arg("doctor").uid(USER))?;
    ensure!(without.is_empty(), "{without}");
    Ok(())
}
