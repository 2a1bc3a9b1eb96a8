// SPDX-License-Identifier: GPL-2.0-only
//! Cgroups share by `cpu.weight`, whatever runs in each.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::on_newest;
use super::process::Companion;
use crate::{NUMA, Test};

pub(crate) const TESTS: &[Test] = &[on_newest(
    "companion_shares_by_weight_of_cgroups",
    NUMA,
    shares_by_weight_of_cgroups,
)];

/// A cgroup that wants CPUs. Dropped, it is gone.
struct Group {
    path: &'static str,
    hogs: Vec<Child>,
}

impl Group {
    fn new(path: &'static str, weight: u32) -> Result<Self> {
        fs::create_dir(path)?;
        let group = Self {
            path,
            hogs: Vec::new(),
        };
        group.weigh(weight)?;
        Ok(group)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = format!("{}/{file}", self.path);
        fs::write(&path, value).with_context(|| format!("cannot write {value} into {path}"))
    }

    fn weigh(&self, weight: u32) -> Result<()> {
        self.set("cpu.weight", &weight.to_string())
    }

    /// Lets so many programs run in it that never sleep.
    fn fill(mut self, count: usize) -> Result<Self> {
        for _ in 0..count {
            let hog = Command::new("/bin/sh")
                .args(["-c", "while :; do :; done"])
                .spawn()?;
            let pid = hog.id().to_string();
            self.hogs.push(hog);
            self.set("cgroup.procs", &pid)?;
        }
        Ok(self)
    }

    /// The time that it had so far, in seconds.
    fn ran(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("{}/cpu.stat", self.path))?;
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Ok(usage.context("no usage_usec")?.parse::<f64>()? / 1e6)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for hog in &mut self.hogs {
            let _ = hog.kill();
            let _ = hog.wait();
        }
        let _ = fs::remove_dir(self.path);
    }
}

/// The part of all that each has in the next seconds.
fn shares(groups: &[&Group; 3]) -> Result<[f64; 3]> {
    let mut ran = [0.0; 3];
    for (ran, group) in ran.iter_mut().zip(groups) {
        *ran = -group.ran()?;
    }
    std::thread::sleep(Duration::from_secs(8));
    for (ran, group) in ran.iter_mut().zip(groups) {
        *ran += group.ran()?;
    }
    let all: f64 = ran.iter().sum();
    Ok(ran.map(|ran| ran / all))
}

/// Asserts that they have what is theirs by weight, within a part of it.
fn compare(groups: &[&Group; 3], expected: [f64; 3]) -> Result<()> {
    // What they had before has to be made up for, and the averages to follow.
    std::thread::sleep(Duration::from_secs(3));
    let shares = shares(groups)?;
    println!("shares {shares:.3?}, by weight {expected:.3?}");
    for (share, expected) in shares.iter().zip(expected) {
        ensure!(
            (share / expected - 1.0).abs() < 0.15,
            "{share:.3} instead of {expected:.3}"
        );
    }
    Ok(())
}

/// Many tasks have no more than few, and groups divide what the one above them has; a weight that
/// changes is followed.
fn shares_by_weight_of_cgroups() -> Result<()> {
    const ABOVE: &str = "/sys/fs/cgroup/shares";
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")?;
    let above = Group::new(ABOVE, 100)?;
    above.set("cgroup.subtree_control", "+cpu")?;
    let companion = Companion::start(&[])?;
    let few = Group::new("/sys/fs/cgroup/few", 100)?.fill(6)?;
    let light = Group::new("/sys/fs/cgroup/shares/light", 100)?.fill(4)?;
    // It is there only since the companion is.
    let heavy = Group::new("/sys/fs/cgroup/shares/heavy", 300)?.fill(14)?;
    let groups = [&few, &light, &heavy];
    compare(&groups, [0.5, 0.125, 0.375])?;
    few.weigh(300)?;
    light.weigh(300)?;
    compare(&groups, [0.75, 0.125, 0.125])?;
    drop((few, light, heavy, above));
    ensure!(companion.stop(Signal::SIGTERM)?.code == Some(0));
    Ok(())
}
