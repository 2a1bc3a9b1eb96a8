// SPDX-License-Identifier: GPL-2.0-only
//! Debian's package, from its installation, as the quick start has it, to its purge.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;

use super::docs::follow_quick_start;
use super::{DROP_INS, POLICY, SYSTEMD, UNIT, becomes, main_pid, patient, property, run, status};
use crate::gate::{COREGATE, Gate};
use crate::launch::{fails, program, starts};
use crate::machine::{Load, node_cores, node_cpus, pin, repeat_during};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "the_package_is_installed_upgraded_and_purged",
    needs: Needs::OfTheRelease,
    on: SYSTEMD,
    run: package,
}];

const DEB: &str = "/packages/coregate.deb";
const NEXT: &str = "/packages/next.deb";
const SERVER: &str = "/opt/server";
const KEPT: &str = "/opt/coregate";
/// What the journal has said since it was asked like this before.
const SINCE: &[&str] = &["--quiet", "--cursor-file=/tmp/package.cursor"];
const PAUSE: Duration = Duration::from_millis(100);

/// What other tests put where the package has its files.
const STRAY: &[&str] = &[
    "/usr/bin/coregate",
    "/usr/lib/systemd/system/coregate.service",
    "/usr/lib/systemd/system/coregate-companion.service",
    "/usr/lib/sysusers.d/coregate.conf",
    "/usr/lib/tmpfiles.d/coregate.conf",
    "/etc/coregate",
    "/usr/share/coregate",
];

/// The machine without coregate, but for the program that other tests use, which comes back.
struct Bare;

impl Bare {
    fn new() -> Result<Self> {
        fs::copy(COREGATE, KEPT).context("cannot keep the program")?;
        run(&[&["rm", "-rf"], STRAY].concat())?;
        let _ = run(&["groupdel", "coregate"]);
        patient()?;
        Ok(Self)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let ended = [
            run(&["rm", "-rf", DROP_INS]),
            run(&["cp", KEPT, COREGATE]),
            run(&["rm", KEPT]),
            run(&["systemctl", "daemon-reload"]),
        ];
        for error in ended.into_iter().filter_map(Result::err) {
            eprintln!("cannot clear up: {error:?}");
        }
    }
}

/// What the package manager and the journal write for themselves.
const THEIRS: &[&str] = &[
    "/tmp",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/log/apt",
    "/var/log/dpkg.log",
    "/var/log/journal",
];

/// Every file and folder on the disk, but for those.
fn files() -> Result<BTreeSet<String>> {
    let found = run(&["find", "/", "-xdev"])?;
    let theirs = |path: &&str| THEIRS.iter().any(|its| path.starts_with(its));
    Ok(found
        .lines()
        .filter(|path| !theirs(path))
        .map(str::to_owned)
        .collect())
}

fn apt(words: &[&str]) -> Result<String> {
    run(&[
        &["apt-get", "--yes", "--quiet", "--no-install-recommends"],
        words,
    ]
    .concat())
}

/// How many launches of a program from these CPUs failed as they must, one after the other, while
/// `change` went on.
fn denied_throughout(cpus: &[u32], change: impl FnOnce() -> Result<()>) -> Result<u64> {
    let launch = || {
        pin(cpus)?;
        fails(SERVER, EAGAIN)?;
        // Else little of the machine is left for what changes.
        thread::sleep(PAUSE);
        Ok(())
    };
    let (denied, ()) = repeat_during(launch, change)?;
    Ok(denied)
}

fn package() -> Result<()> {
    program(SERVER)?;
    let _bare = Bare::new()?;
    let before = files()?;
    follow_quick_start(DEB)?;
    for (unit, expected) in [
        (UNIT, "enabled"),
        ("coregate-companion.service", "disabled"),
    ] {
        // It says so in its exit code, too.
        let said = std::process::Command::new("systemctl")
            .args(["is-enabled", unit])
            .output()?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        ensure!(said == expected, "{unit} is {said}");
    }
    run(&["getent", "group", "coregate"])?;

    eprintln!("installed");
    let core = node_cores(0)?.remove(0);
    let load = Load::on(&core.cpus[..1])?;
    pin(&core.cpus)?;
    starts(SERVER)?;
    fs::write(POLICY, Gate::policy("enforce", SERVER, ""))?;
    run(&["systemctl", "reload", UNIT])?;
    // Others have denied before.
    run(&[&["journalctl", "--lines=1"], SINCE].concat())?;
    fails(SERVER, EAGAIN)?;
    run(&["journalctl", "--sync"])?;
    let said = run(&[&["journalctl", "COREGATE_EFFECT=denied"], SINCE].concat())?;
    ensure!(said.lines().count() == 1 && said.contains(SERVER), "{said}");

    let daemon = main_pid();
    pin(&node_cpus(1)?)?;
    let denied = denied_throughout(&core.cpus, || {
        run(&["dpkg", "--install", NEXT])?;
        becomes("active")
    })?;
    pin(&core.cpus)?;
    ensure!(
        denied > 0 && main_pid() != daemon,
        "{denied} denied, and {daemon:?} is still it"
    );
    let version = run(&[
        "dpkg-query",
        "--show",
        "--showformat=${Version}",
        "coregate",
    ])?;
    ensure!(version.ends_with("-2"), "{version}");
    eprintln!("upgraded, {denied} launches denied meanwhile");
    ensure!(property("NRestarts")? == "0" && status()?["mode"] == "enforce");
    fails(SERVER, EAGAIN)?;

    apt(&["remove", "coregate"])?;
    starts(SERVER)?;
    ensure!(fs::exists(POLICY)? && !fs::exists("/usr/bin/coregate")?);
    ensure!(!fs::exists("/sys/fs/bpf/coregate")?);
    eprintln!("removed");
    apt(&["purge", "coregate"])?;
    drop(load);
    let left: Vec<_> = files()?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    ensure!(run(&["getent", "group", "coregate"]).is_err());
    Ok(())
}
