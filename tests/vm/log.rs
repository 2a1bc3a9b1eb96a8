// SPDX-License-Identifier: GPL-2.0-only
//! What reaches the logs, and that what does not is counted: with Debian's rsyslogd, a disk that is
//! full, files that are rotated, and the kernel's audit with Debian's auditd.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::gate::Gate;
use crate::launch::{fails, program};
use crate::machine::wait_for;
use crate::systemd::docs::commands::commands;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "log_fields_reach_rsyslogd",
        needs: Needs::OneKernel,
        on: NUMA,
        run: fields,
    },
    Test {
        name: "i9_log_daemon_restarts_lose_nothing_uncounted",
        needs: Needs::OneKernel,
        on: NUMA,
        run: restarts,
    },
    Test {
        name: "i9_log_daemon_stopped_changes_no_verdict",
        needs: Needs::OneKernel,
        on: NUMA,
        run: stopped,
    },
    Test {
        name: "i9_log_file_on_a_full_disk_stays_whole",
        needs: Needs::OneKernel,
        on: NUMA,
        run: full_disk,
    },
    Test {
        name: "i9_log_file_rotation_loses_nothing",
        needs: Needs::OneKernel,
        on: NUMA,
        run: rotation,
    },
    Test {
        name: "log_records_reach_the_kernel_audit",
        needs: Needs::OneKernel,
        on: NUMA,
        run: audit,
    },
];

const SERVER: &str = "/opt/server";
const PATIENCE: Duration = Duration::from_secs(60);

/// A gate that denies each launch of [`SERVER`], with this section `[log]`, and an own log daemon.
fn gate(log: &str) -> Result<Gate> {
    program(SERVER)?;
    let policy = Gate::denying("enforce", SERVER)?;
    gate_on_node_0(&format!("[log]\n{log}\n{policy}"))
}

fn storm(launches: u64) -> Result<()> {
    (0..launches).try_for_each(|_| fails(SERVER, EAGAIN))
}

/// What the status says of a sink, once each launch is told and no line waits.
fn settled(gate: &Gate, sink: &str, launches: u64) -> Result<(u64, Value)> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut found = None;
    wait_for("all is logged or counted", PATIENCE, || {
        let Ok(status) = gate.status() else {
            return false;
        };
        let events = &status["events"];
        let emitted = number(&events["emitted"]);
        let rows = status["log"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["name"] == sink);
        let all = emitted + number(&events["suppressed"]) + number(&events["lost"]);
        let done = all == launches && row.is_some_and(|row| row["waiting"] == 0);
        found = row.cloned().map(|row| (emitted, row));
        done
    })
    .with_context(|| format!("{launches} launches: {found:?}"))?;
    found.with_context(|| format!("no sink {sink}"))
}

fn lost(row: &Value) -> u64 {
    row["lost"].as_u64().unwrap_or(u64::MAX)
}

/// Debian's rsyslogd, until dropped.
struct Rsyslogd(Child);

impl Rsyslogd {
    const FILE: &str = "/run/rsyslog";

    /// Listens at /dev/log, with the parser for `syslog(3)` that it has by default or with the one
    /// that tells formats apart.
    fn start(special: bool) -> Result<Self> {
        let special = if special { "on" } else { "off" };
        let config = format!(
            "main_queue(queue.size=\"100000\" queue.timeoutShutdown=\"60000\")\n\
             module(load=\"imuxsock\" SysSock.UseSpecialParser=\"{special}\")\n\
             template(name=\"fields\" type=\"string\" \
             string=\"%app-name%|%procid%|%msgid%|%structured-data%|%syslogseverity-text%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"fields\")\n",
            Self::FILE
        );
        fs::write("/run/rsyslog.conf", config)?;
        let _ = fs::remove_file("/dev/log");
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-i", "NONE", "-f", "/run/rsyslog.conf"])
            .spawn()?;
        wait_for("rsyslogd listens", PATIENCE, || {
            fs::exists("/dev/log").unwrap_or(false)
        })?;
        Ok(Self(child))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.0.id() as i32), signal)?)
    }

    /// Ends as when it is restarted: what it has read it writes.
    fn end(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "rsyslogd ended with {status}");
        Ok(())
    }

    /// The lines of verdicts.
    fn verdicts() -> Vec<String> {
        let text = fs::read_to_string(Self::FILE).unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| line.contains("denied rule=probe"));
        lines.map(str::to_owned).collect()
    }

    /// The events, each once.
    fn ids() -> BTreeSet<u64> {
        let id = |line: &String| line.split_once(" id=\"")?.1.split_once('"')?.0.parse().ok();
        Self::verdicts().iter().filter_map(id).collect()
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fields() -> Result<()> {
    for (system, special) in [("rfc5424", false), ("syslog", true)] {
        let _ = fs::remove_file(Rsyslogd::FILE);
        let mut gate = gate(&format!("system = \"{system}\""))?;
        gate.leave_the_log()?;
        let rsyslogd = Rsyslogd::start(special)?;
        storm(1)?;
        wait_for("the verdict is in the log", PATIENCE, || {
            Rsyslogd::verdicts().len() == 1
        })?;
        let line = Rsyslogd::verdicts().remove(0);
        let fields: Vec<_> = line.splitn(6, '|').collect();
        ensure!(fields[0] == "coregate", "{line}");
        ensure!(fields[1] == gate.pid().to_string(), "{line}");
        ensure!(fields[4] == "warning", "{line}");
        if system == "rfc5424" {
            ensure!(fields[2] == "1", "{line}");
            for field in ["rule=\"probe\"", "verdict=\"deny\"", "exe=\"/opt/server\""] {
                let data = fields[3].strip_prefix("[coregate@32473 ");
                ensure!(data.is_some_and(|data| data.contains(field)), "{line}");
            }
        }
        ensure!(
            fields[5].trim_start().starts_with("denied rule=probe"),
            "{line}"
        );
        gate.stop()?;
        rsyslogd.end()?;
    }
    Ok(())
}

fn restarts() -> Result<()> {
    let _ = fs::remove_file(Rsyslogd::FILE);
    let mut gate = gate("system = \"rfc5424\"")?;
    gate.leave_the_log()?;
    let rsyslogd = Rsyslogd::start(false)?;
    let restarts = thread::spawn(move || {
        let mut rsyslogd = rsyslogd;
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(300));
            rsyslogd.end()?;
            rsyslogd = Rsyslogd::start(false)?;
        }
        anyhow::Ok(rsyslogd)
    });
    let mut launches = 0;
    while !restarts.is_finished() {
        storm(20)?;
        launches += 20;
    }
    let rsyslogd = restarts.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    let (emitted, row) = settled(&gate, "rfc5424", launches)?;
    rsyslogd.end()?;
    let lines = Rsyslogd::verdicts().len();
    let ids = Rsyslogd::ids().len() as u64;
    println!("{emitted} events, {lines} lines of {ids}, {row}");
    ensure!(emitted > 200, "{emitted} events are no storm");
    ensure!(ids + lost(&row) == emitted, "{ids} in the log: {row}");
    gate.stop()
}

/// Its queue is full soon.
fn stopped() -> Result<()> {
    let _ = fs::remove_file(Rsyslogd::FILE);
    let mut gate = gate("system = \"rfc5424\"")?;
    gate.leave_the_log()?;
    let rsyslogd = Rsyslogd::start(false)?;
    storm(1)?;
    wait_for("rsyslogd reads", PATIENCE, || Rsyslogd::ids().len() == 1)?;
    rsyslogd.signal(Signal::SIGSTOP)?;
    let launches = 1000;
    storm(launches)?;
    settled(&gate, "rfc5424", launches + 1)?;
    // It is told with the next line, which may be lost too.
    storm(1)?;
    gate.says("the log rfc5424 (/dev/log) has lost")?;
    let (emitted, row) = settled(&gate, "rfc5424", launches + 2)?;
    let before = lost(&row);
    ensure!(before > 0, "{row}");
    ensure!(row["error"].is_string(), "{row}");
    rsyslogd.signal(Signal::SIGCONT)?;
    wait_for("what was not lost is in the log", PATIENCE, || {
        Rsyslogd::ids().len() as u64 + before == emitted
    })
    .with_context(|| format!("{} of {emitted} in the log: {row}", Rsyslogd::ids().len()))?;
    // From now on nothing is lost.
    storm(5)?;
    let (emitted, row) = settled(&gate, "rfc5424", launches + 7)?;
    ensure!(lost(&row) == before, "{row}");
    rsyslogd.end()?;
    ensure!(Rsyslogd::ids().len() as u64 + before == emitted, "{row}");
    gate.stop()
}

/// The ids of the events in a log file, of which each line has to be one.
fn ids_in(path: &str) -> Result<Vec<u64>> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    text.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).with_context(|| format!("{line:?}"))?;
            event["id"]
                .as_u64()
                .with_context(|| format!("no id: {line}"))
        })
        .collect()
}

const DISK: &str = "/run/disk";

/// A file system in memory, until dropped.
struct Disk;

impl Disk {
    fn new(size: &str) -> Result<Self> {
        fs::create_dir_all(DISK)?;
        Self::mount(MsFlags::empty(), size)?;
        Ok(Self)
    }

    fn mount(flags: MsFlags, size: &str) -> Result<()> {
        let size = format!("size={size}");
        let tmpfs = Some("tmpfs");
        Ok(mount(tmpfs, DISK, tmpfs, flags, Some(size.as_str()))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(DISK, MntFlags::MNT_DETACH);
    }
}

fn full_disk() -> Result<()> {
    let _disk = Disk::new("64k")?;
    let path = format!("{DISK}/events.json");
    let gate = gate(&format!("file = \"{path}\""))?;
    storm(300)?;
    let (emitted, row) = settled(&gate, "file", 300)?;
    let before = lost(&row);
    let ids = ids_in(&path)?;
    println!("{emitted} events, {} lines, {row}", ids.len());
    ensure!(before > 0 && !ids.is_empty(), "{row}");
    ensure!(
        ids.len() as u64 + before == emitted,
        "{} lines: {row}",
        ids.len()
    );
    let error = row["error"].as_str().unwrap_or_default();
    ensure!(error.contains("No space left"), "{row}");
    gate.says("has lost")?;

    Disk::mount(MsFlags::MS_REMOUNT, "8m")?;
    storm(20)?;
    let (emitted, row) = settled(&gate, "file", 320)?;
    ensure!(lost(&row) == before, "{row}");
    ensure!(ids_in(&path)?.len() as u64 + before == emitted, "{row}");
    gate.stop()
}

fn rotation() -> Result<()> {
    let _disk = Disk::new("8m")?;
    let path = format!("{DISK}/events.json");
    let gate = gate(&format!("file = \"{path}\""))?;
    let turns = 6;
    let daemon = Pid::from_raw(gate.pid());
    let launches = thread::scope(|scope| {
        let rotations = scope.spawn(|| {
            for turn in 0..turns {
                wait_for("there are lines", PATIENCE, || {
                    fs::metadata(&path).is_ok_and(|file| file.len() > 10_000)
                })?;
                fs::rename(&path, format!("{path}.{turn}"))?;
                kill(daemon, Signal::SIGUSR1)?;
            }
            anyhow::Ok(())
        });
        let mut launches = 0;
        while !rotations.is_finished() {
            storm(10)?;
            launches += 10;
        }
        rotations
            .join()
            .map_err(|_| anyhow::anyhow!("panicked"))??;
        anyhow::Ok(launches)
    })?;
    storm(1)?;
    let launches = launches + 1;
    let (emitted, row) = settled(&gate, "file", launches)?;
    let mut ids = ids_in(&path)?;
    for turn in 0..turns {
        ids.extend(ids_in(&format!("{path}.{turn}"))?);
    }
    println!("{emitted} events, {} lines, {row}", ids.len());
    let different: BTreeSet<_> = ids.iter().collect();
    ensure!(different.len() == ids.len(), "an event is there twice");
    ensure!(
        ids.len() as u64 == emitted && lost(&row) == 0,
        "{} lines: {row}",
        ids.len()
    );

    // As logrotate does it with copytruncate.
    fs::copy(&path, format!("{path}.copy"))?;
    fs::File::options().write(true).truncate(true).open(&path)?;
    storm(10)?;
    let (all, row) = settled(&gate, "file", launches + 10)?;
    ensure!(
        ids_in(&path)?.len() as u64 == all - emitted && lost(&row) == 0,
        "{row}"
    );
    gate.stop()
}

/// Debian's auditd, which has the kernel's audit on, until dropped.
struct Auditd(Child);

impl Auditd {
    fn start() -> Result<Self> {
        fs::create_dir_all("/var/log/audit")?;
        let daemon = Self(Command::new("auditd").arg("-n").spawn()?);
        wait_for("audit is on", PATIENCE, || {
            let said = Command::new("auditctl").arg("-s").output();
            said.is_ok_and(|said| said.stdout.starts_with(b"enabled 1"))
        })?;
        Ok(daemon)
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
        let _ = Command::new("auditctl").args(["-e", "0"]).output();
    }
}

fn audit() -> Result<()> {
    const EXE: &str = "/usr/bin/redis-server";
    let search = commands()
        .into_iter()
        .find(|command| command.starts_with("ausearch "));
    let search = search.context("the docs have no ausearch")?;
    program(EXE)?;
    let policy = Gate::denying("enforce", EXE)?;
    let gate = gate_on_node_0(&format!("[log]\naudit = true\n{policy}"))?;
    let _auditd = Auditd::start()?;
    fails(EXE, EAGAIN)?;
    let (_, row) = settled(&gate, "audit", 1)?;
    ensure!(row["written"] == 1 && lost(&row) == 0, "{row}");
    let mut found = String::new();
    wait_for("the record is found", PATIENCE, || {
        let output = Command::new("sh").args(["-c", &search]).output();
        found = output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        );
        found.contains("op=coregate-launch")
    })
    .with_context(|| found.clone())?;
    println!("{found}");
    for part in [
        "type=TRUSTED_APP ",
        &format!(" pid={} uid=0 ", gate.pid()),
        " msg='op=coregate-launch rule=\"probe\" verdict=\"deny\" effect=\"denied\" hook=\"exec\" ",
        " exe=\"/usr/bin/redis-server\" ",
        " res=failed'",
    ] {
        ensure!(found.contains(part), "{part} expected: {found}");
    }
    ensure!(found.matches("type=TRUSTED_APP").count() == 1, "{found}");
    fs::remove_file(EXE)?;
    gate.stop()
}
