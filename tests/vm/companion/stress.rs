// SPDX-License-Identifier: GPL-2.0-only
//! The companion, with holders, under all that stress-ng does to a scheduler and to memory, while tasks
//! change cgroups and CPUs go and come.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::sys::utsname::uname;

use super::process::{Companion, state};
use super::whole::{BUSY, WAKING, policy};
use super::work::{Crew, Job};
use super::{SOON, no_complaints, test};
use crate::claims::Running;
use crate::gate::Gate;
use crate::launch::{PERIODIC, WORKER};
use crate::machine::{cpus, let_programs_go, wait_for};
use crate::persist::TakenDown;
use crate::{NUMA, Test};

pub(crate) const TESTS: &[Test] = &[test("companion_outlives_stress", NUMA, outlives_stress)];

/// How long, in seconds, if nothing else is asked for.
const TIME: u64 = 15;

/// What stress-ng does, each with so many workers. The last two let kswapd and kcompactd work.
const STRESSORS: &[&str] = &[
    "--cpu=4",
    "--switch=4",
    "--fork=2",
    "--clone=1",
    "--affinity=2",
    "--schedpolicy=2",
    "--sched-prio=1",
    "--yield=2",
    "--nanosleep=1",
    "--futex=1",
    "--vm=2",
    "--vm-bytes=70%",
];

/// What becomes of cgroups in between.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/stress-a", "/sys/fs/cgroup/stress-b"];

struct Stress(Child);

impl Stress {
    fn start(time: Duration) -> Result<Self> {
        let child = Command::new("/usr/bin/stress-ng")
            .args(STRESSORS)
            .args(["--timeout", &time.as_secs().to_string(), "--temp-path=/tmp"])
            .args(["--oomable", "--quiet"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start stress-ng")?;
        Ok(Self(child))
    }

    /// Whether all its workers came to their end.
    fn ends(&mut self) -> Result<bool> {
        let ended = self.0.try_wait()?;
        if let Some(status) = ended {
            ensure!(status.success(), "stress-ng: {status}");
        }
        Ok(ended.is_some())
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Moves each worker of stress-ng into a cgroup that is made for it, or out of it.
fn move_about(round: usize) -> Result<()> {
    let group = GROUPS[round % GROUPS.len()];
    if !fs::exists(group)? {
        fs::create_dir(group)?;
    }
    fs::write(
        format!("{group}/cpu.weight"),
        (1 + 37 * round % 9_999).to_string(),
    )?;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("stress-ng") {
            // It may be gone by now.
            let _ = fs::write(format!("{group}/cgroup.procs"), name.as_encoded_bytes());
        }
    }
    let other = GROUPS[(round + 1) % GROUPS.len()];
    // It stays where a new worker came in between.
    let _ = fs::remove_dir(other);
    Ok(())
}

/// A CPU of those that can, which is not the same each time, goes and comes.
fn hotplug(companion: &mut Companion, round: usize, times: &mut usize) -> Result<()> {
    let all = cpus()?;
    let cpu = all[1 + round % (all.len() - 1)];
    for switch in ["0", "1"] {
        fs::write(format!("/sys/devices/system/cpu/cpu{cpu}/online"), switch)?;
        *times += 1;
        companion.wait_for_line("starts anew", *times)?;
        companion.wait_for_line("active", *times + 1)?;
    }
    Ok(())
}

fn outlives_stress() -> Result<()> {
    // These deadlock at times when a CPU goes under a scheduler, see docs/kernel-support.md.
    let release = uname()?.release().to_string_lossy().into_owned();
    let may_deadlock = ["6.16.", "6.18."]
        .iter()
        .any(|its| release.starts_with(its));
    let time = Duration::from_secs(crate::soak().unwrap_or(TIME));
    let _taken_down = TakenDown;
    let_programs_go();
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")?;
    let gate = Gate::start_with(&policy("")?, &[])?;
    let mut companion = Companion::start(&[])?;
    let mut holders = [
        Running::start(BUSY, WORKER)?,
        Running::start(WAKING, PERIODIC)?,
    ];
    let others = Crew::start([Job::hog(), Job::bursty(), Job::napping()])?;

    let mut stress = Stress::start(time)?;
    let (start, mut round, mut anew) = (Instant::now(), 0, 0);
    while !stress.ends()? {
        move_about(round)?;
        if !may_deadlock {
            hotplug(&mut companion, round, &mut anew)?;
        }
        round += 1;
        println!(
            "{:.0?}: {round} rounds, CPUs changed {anew} times",
            start.elapsed()
        );
        ensure!(state()? == "enabled", "{}", state()?);
        std::thread::sleep(Duration::from_secs(2));
        ensure!(
            start.elapsed() < time + 10 * SOON,
            "stress-ng does not come to its end"
        );
    }
    // Whoever was there is still there, and has its turns.
    for holder in &mut holders {
        ensure!(holder.0.try_wait()?.is_none(), "a holder is gone");
    }
    others.all_progress(SOON)?;
    drop((others, holders));
    for group in GROUPS {
        if fs::exists(group)? {
            wait_for("an empty cgroup goes", SOON, || {
                fs::remove_dir(group).is_ok()
            })?;
        }
    }
    let end = companion.stop(Signal::SIGTERM)?;
    ensure!(end.code == Some(0), "{end:?}");
    ensure!(
        end.said.matches("starts anew").count() == anew,
        "it left for other reasons too: {}",
        end.said
    );
    gate.stop()?;
    no_complaints()
}
