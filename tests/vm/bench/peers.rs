// SPDX-License-Identifier: GPL-2.0-only
//! What others that watch execs add to one, beside coregate: AppArmor, fapolicyd and auditd.
//! Each is seen to do its work before it is measured, so that no row is empty.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};

use super::measurer::NS_PER_INSTRUCTION;
use super::{BLOCK, Bench, Measurer, STRANGER, Without, policy};
use crate::machine::{cpus, pin, wait_for};

/// What AppArmor's profile does not name, and fapolicyd does not trust.
const FORBIDDEN: &str = "/opt/bench-forbidden";

/// How often everything is measured: the peers' processes, that come and go in between, move
/// what a launch costs, so that one of two rounds can be off.
const ROUNDS: usize = 5;

const TRACING: &str = "/sys/kernel/tracing";

/// How long a peer may take to start and to end.
const TIME: Duration = Duration::from_secs(300);

/// Every row.
pub(super) fn all(bench: &mut Bench) -> Result<()> {
    let lsms = fs::read_to_string("/sys/kernel/security/lsm")?;
    for lsm in ["apparmor", "bpf"] {
        ensure!(
            lsms.split(',').any(|name| name == lsm),
            "the LSM {lsm} is off: {lsms}"
        );
    }
    fs::create_dir_all("/opt")?;
    fs::copy(STRANGER, FORBIDDEN)?;
    fapolicyd::prepare()?;
    bench.rounds(ROUNDS, |bench| {
        bench.bare()?;
        bench.between(&policy("enforce", 10)?, &[], |bench, _| {
            bench.unmatched("exec/unmatched")?;
            Ok(Vec::new())
        })?;
        apparmor::measure(bench)?;
        bench.compare(&[Without::Exec(STRANGER)], |bench| {
            let permissive = fapolicyd::measure(bench, true)?;
            let enforcing = fapolicyd::measure(bench, false)?;
            bench.renew()?;
            Ok(vec![
                (
                    "exec/fapolicyd-permissive",
                    permissive,
                    Without::Exec(STRANGER),
                ),
                ("exec/fapolicyd", enforcing, Without::Exec(STRANGER)),
            ])
        })
    })?;
    // Audit, once it was on, costs more than audit that never was: there is no block without
    // it after it.
    bench.renew()?;
    let without = bench.exec(STRANGER, Errno::ENOEXEC)?;
    auditd::start()?;
    bench.rounds(ROUNDS, |bench| {
        let cost = auditd::measure(bench)?;
        bench.note("exec/auditd", cost - without);
        Ok(())
    })
}

impl Bench {
    /// Lets a new process launch: a profile and audit take effect on what starts after them.
    fn renew(&mut self) -> Result<()> {
        self.measurer = Measurer::start(self.cpu)?;
        self.measurer.allow(&cpus()?)
    }
}

/// Runs a program to its end, on whichever CPU, and returns what it wrote.
fn run(program: &str, args: &[&str]) -> Result<String> {
    pin(&cpus()?)?;
    let output = Command::new(program).args(args).output();
    pin(&[0])?;
    let output = output.with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {args:?} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

mod apparmor {
    use super::*;

    const NAME: &str = "bench-measurer";
    const PROFILE: &str = "/run/profile";

    /// AppArmor cannot be off while it is there, so no block is without it: the whole of its
    /// hook is measured, by the times that the kernel's function tracer takes.
    pub(super) fn measure(bench: &mut Bench) -> Result<()> {
        // A call that does next to nothing: what tracing itself takes.
        let tracing = traced("__do_sys_getuid", || {
            for _ in 0..BLOCK {
                let _ = getuid();
            }
            Ok(())
        })?;
        for (row, confined) in [("exec/apparmor-idle", false), ("exec/apparmor", true)] {
            if confined {
                load()?;
            }
            bench.renew()?;
            check(bench, confined)?;
            let hook = traced("apparmor_bprm_creds_for_exec", || {
                bench.exec(STRANGER, Errno::ENOEXEC).map(drop)
            })?;
            bench.note(row, hook - tracing);
        }
        run("apparmor_parser", &["--remove", PROFILE])?;
        bench.renew()
    }

    fn load() -> Result<()> {
        let rules = "capability sys_nice,\nsignal,\n/** rwm,\n/usr/bin/* ix,\n";
        fs::write(
            PROFILE,
            format!("profile {NAME} /usr/bin/coregate-vm {{\n{rules}}}\n"),
        )?;
        run("apparmor_parser", &["--add", "--skip-cache", PROFILE]).map(drop)
    }

    /// Whether the profile is, or is not, in force for what launches.
    fn check(bench: &mut Bench, confined: bool) -> Result<()> {
        let (expected, end) = if confined {
            (format!("{NAME} (enforce)"), Errno::EACCES)
        } else {
            ("unconfined".to_owned(), Errno::ENOEXEC)
        };
        let current = format!("/proc/{}/attr/apparmor/current", bench.measurer.pid());
        let current = fs::read_to_string(current)?;
        let current = current.trim();
        ensure!(
            current == expected,
            "the measurer's profile is {current}, not {expected}"
        );
        bench
            .exec(FORBIDDEN, end)
            .context("AppArmor does not treat what no profile names as expected")
            .map(drop)
    }

    /// The instructions inside of a kernel function, with those of tracing, in the calls that
    /// `calls` makes.
    fn traced(function: &str, calls: impl FnOnce() -> Result<()>) -> Result<f64> {
        let set = |file: &str, text: &str| {
            // Without an end of the line it is looked at only when nobody hears of an error.
            fs::write(Path::new(TRACING).join(file), format!("{text}\n"))
                .with_context(|| format!("cannot write {text:?} to {file} of {TRACING}"))
        };
        set("set_ftrace_filter", function)?;
        set("current_tracer", "function_graph")?;
        let called = calls();
        let trace = fs::read_to_string(Path::new(TRACING).join("trace"));
        set("current_tracer", "nop")?;
        set("set_ftrace_filter", "")?;
        called?;
        let trace = trace?;
        //  3)   3.536 us    |  apparmor_bprm_creds_for_exec();
        let mut times: Vec<f64> = trace
            .lines()
            .filter(|line| line.contains(function))
            .filter_map(|line| {
                let (time, _) = line.split_once(" us ")?;
                time.rsplit(' ').next()?.parse().ok()
            })
            .collect();
        ensure!(
            times.len() >= BLOCK,
            "of {BLOCK} calls of {function} {} were traced",
            times.len()
        );
        times.sort_unstable_by(f64::total_cmp);
        Ok(times[times.len() / 10] * 1000.0 / NS_PER_INSTRUCTION)
    }
}

mod fapolicyd {
    use super::*;

    const PID: &str = "/run/fapolicyd.pid";

    /// Makes its folders as Debian's package does, and its trust database of all programs
    /// and libraries.
    pub(super) fn prepare() -> Result<()> {
        let user = User::from_name("fapolicyd")?.context("no user fapolicyd")?;
        for (dir, mode) in [("/run/fapolicyd", 0o770), ("/var/lib/fapolicyd", 0o755)] {
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
            chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        fs::create_dir_all("/etc/fapolicyd/trust.d")?;
        fs::write("/etc/fapolicyd/fapolicyd.trust", "")?;
        run("fapolicyd-cli", &["--file", "add", "/usr"]).map(drop)
    }

    pub(super) fn measure(bench: &mut Bench, permissive: bool) -> Result<f64> {
        let args: &[_] = if permissive { &["--permissive"] } else { &[] };
        run("fapolicyd", args)?;
        wait_for("fapolicyd watches", TIME, || daemon().is_some())?;
        bench.renew()?;
        let before = accesses("Denied")?;
        let denial = if permissive {
            Errno::ENOEXEC
        } else {
            Errno::EPERM
        };
        bench
            .exec(FORBIDDEN, denial)
            .context("fapolicyd does not treat an untrusted file as expected")?;
        let denied = accesses("Denied")? - before;
        ensure!(
            denied >= BLOCK,
            "of {BLOCK} execs fapolicyd judged {denied} as denied"
        );
        let before = accesses("Allowed")?;
        let cost = bench.exec(STRANGER, Errno::ENOEXEC)?;
        let allowed = accesses("Allowed")? - before;
        ensure!(
            allowed >= BLOCK,
            "of {BLOCK} execs fapolicyd judged {allowed} as allowed"
        );
        let pid = daemon().context("fapolicyd is gone")?;
        kill(pid, Signal::SIGTERM)?;
        let exe = format!("/proc/{pid}/exe");
        wait_for("fapolicyd ends", TIME, || fs::read_link(&exe).is_err())?;
        Ok(cost)
    }

    /// The daemon, if it watches a file system.
    fn daemon() -> Option<Pid> {
        let pid: i32 = fs::read_to_string(PID).ok()?.trim().parse().ok()?;
        let watches = fs::read_dir(format!("/proc/{pid}/fdinfo"))
            .ok()?
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .any(|text| text.contains("fanotify mnt_id:"));
        watches.then(|| Pid::from_raw(pid))
    }

    /// What it counted since its start.
    fn accesses(word: &str) -> Result<usize> {
        let status = run("fapolicyd-cli", &["--check-status"])?;
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix(word)?.strip_prefix(" accesses: "))
            .with_context(|| format!("fapolicyd does not count {word}: {status}"))?;
        Ok(count.parse()?)
    }
}

mod auditd {
    use super::*;

    const LOG: &str = "/var/log/audit/audit.log";

    /// Starts it with the rules of Debian's package, and one for every exec.
    pub(super) fn start() -> Result<()> {
        let dir = Path::new(LOG).parent().context("no folder")?;
        fs::create_dir_all(dir)?;
        run("auditd", &[])?;
        wait_for("auditd writes its log", TIME, || Path::new(LOG).exists())?;
        for rule in [
            "-D",
            "-b 8192",
            "--backlog_wait_time 60000",
            "-f 1",
            "-a always,exit -F arch=b64 -S execve",
        ] {
            run("auditctl", &rule.split(' ').collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// A block, each of whose execs is in the log.
    pub(super) fn measure(bench: &mut Bench) -> Result<f64> {
        bench.renew()?;
        let cost = bench.exec(STRANGER, Errno::ENOEXEC)?;
        let pid = format!(" pid={} ", bench.measurer.pid());
        let code = format!(" exit=-{} ", Errno::ENOEXEC as i32);
        let mut found = 0;
        let all = wait_for("records in the log", TIME, || {
            let log = fs::read_to_string(LOG).unwrap_or_default();
            let ours = |line: &&str| {
                line.starts_with("type=SYSCALL") && line.contains(&pid) && line.contains(&code)
            };
            found = log.lines().filter(ours).count();
            found >= BLOCK
        });
        if let Err(why) = all {
            bail!("of {BLOCK} execs audit.log has {found}: {why}");
        }
        Ok(cost)
    }
}
