// SPDX-License-Identifier: GPL-2.0-only
//! Users who would take claims that lock others out.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coregate::gate::Gate;
use nix::libc::EAGAIN;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use super::launchers::{bind, mounted};
use super::{
    BELOW, BY_UNIT, BY_USER, Denied, EXACT, EXACT_ANYWHERE, GetsAway, NEIGHBOUR, SERVER, at,
    before, from_unit, launcher, load, probe, replace,
};
use crate::admission::gate_on_node_0;
use crate::claims::Running;
use crate::gate::{COREGATE, Gate as Daemon};
use crate::launch::{PROBE, SLEEPER, USER, command, fails, launch, program, starts};
use crate::machine::{Load, in_the_end, node_cores, node_cpus, pin};

/// Whose program it is.
const OWNER: u32 = USER + 1;
/// The system's unit, and one of the same name below what a user was given.
const OURS: &str = "/sys/fs/cgroup/system.slice/matcher.service";
const GIVEN: &str = "/sys/fs/cgroup/user.slice/user-1000.slice";

/// A launch by somebody.
type Launcher<'a> = &'a dyn Fn() -> Result<Command>;

/// As many sleeping programs as node 0 has cores.
fn sleepers(launcher: Launcher<'_>) -> Result<Vec<Running>> {
    let start = |_| {
        in_the_end("a program starts", || {
            let child = launcher()?.arg0(SLEEPER).stdin(Stdio::null()).spawn();
            match child {
                Err(error) if error.raw_os_error() == Some(EAGAIN) => Ok(None),
                child => Ok(Some(Running(child?))),
            }
        })
    };
    (0..node_cores(0)?.len()).map(start).collect()
}

fn claims(gate: &Gate<'_>) -> Result<u64> {
    let claims = gate.claims(&coregate::gate::names(["probe"].into_iter()))?;
    Ok(claims.get("probe").copied().unwrap_or(0))
}

/// Under the rule that is open, they hold all cores of the node, and the launches that it is for
/// are denied. Under the one that is closed they start, hold nothing, and those are admitted.
fn lock_out(open: &str, closed: &str, theirs: Launcher<'_>, ours: Launcher<'_>) -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    let mut storage = MaybeUninit::uninit();
    let mut gate = load(&mut storage)?;
    pin(&node_cpus(0)?)?;
    let all_start = || -> Result<()> {
        let _theirs = sleepers(theirs)?;
        let found = launch(&mut ours()?)?;
        ensure!(found.is_none(), "without a gate: {found:?}");
        Ok(())
    };
    all_start()?;
    gate.attach(false)?;
    replace(&mut gate, open)?;
    {
        let theirs = sleepers(theirs)?;
        ensure!(claims(&gate)? == theirs.len() as u64);
        let found = launch(&mut ours()?)?;
        ensure!(found == Some(EAGAIN), "they are not locked out: {found:?}");
        starts(NEIGHBOUR)?;
    }
    replace(&mut gate, closed)?;
    {
        let _theirs = sleepers(theirs)?;
        ensure!(gate.counters(0)?.launches == 0 && claims(&gate)? == 0);
        in_the_end("a launch is admitted", || {
            Ok(launch(&mut ours()?)?.is_none().then_some(()))
        })?;
        ensure!(gate.counters(0)?.admitted == 1);
    }
    drop(gate);
    all_start()
}

pub(super) fn anybody() -> Result<()> {
    let closed = format!("{EXACT}\nuser = {OWNER}");
    lock_out(EXACT, &closed, &|| launcher(SERVER), &|| {
        let mut command = command(SERVER);
        command.uid(OWNER);
        Ok(command)
    })
}

/// A user to whom a part of the hierarchy was given, as systemd does for each who logs in.
pub(super) fn unit() -> Result<()> {
    let start = format!("{GIVEN}/session.scope");
    fs::create_dir_all(&start)?;
    for path in [GIVEN.to_owned(), format!("{GIVEN}/cgroup.procs")] {
        chown(path, Some(USER), Some(USER))?;
    }
    let theirs = || {
        let mut command = from_unit(SERVER, &start)?;
        before(command.uid(USER).gid(USER), || {
            fs::create_dir_all(format!("{GIVEN}/matcher.service"))?;
            fs::write(format!("{GIVEN}/matcher.service/cgroup.procs"), "0")
        });
        Ok(command)
    };
    lock_out(
        "unit = \"matcher.service\"",
        "cgroup = \"/system.slice/matcher.service\"",
        &theirs,
        &|| from_unit(SERVER, OURS),
    )
}

/// What the user runs in the server's place.
const OWN: &str = "/srv/probe/own";
/// The user's folder, with a file that has the server's path there.
const TREE: &str = "/srv/probe/tree";
/// The descriptor of that file.
const FILE: i32 = 100;

/// A process of an unprivileged user who has mounted its own program over the server's; and who
/// has one open by a mount that is gone, from whose root on its path is the server's.
fn faker() -> Result<Running> {
    let mut command = Command::new("/bin/busybox");
    command.args(["sleep", "1000"]).uid(USER).gid(USER);
    let child = before(&mut command, || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        bind(OWN, SERVER)?;
        bind(TREE, TREE)?;
        let file = File::open(format!("{TREE}{SERVER}"))?.into_raw_fd();
        umount2(TREE, MntFlags::MNT_DETACH)?;
        // SAFETY: copies a descriptor that is open to a number that nobody uses.
        nix::errno::Errno::result(unsafe { nix::libc::dup2(file, FILE) })?;
        Ok(())
    })
    .spawn();
    child.map(Running).context("cannot fake a path")
}

pub(super) fn faked() -> Result<()> {
    program(SERVER)?;
    program(OWN)?;
    program(&format!("{TREE}{SERVER}"))?;
    let faker = faker()?;
    // From outside, by way of that process.
    let over = format!("/proc/{}/root{SERVER}", faker.pid());
    let nowhere = format!("/proc/{}/fd/{FILE}", faker.pid());
    let within = || launch(&mut mounted(OWN, SERVER, PROBE)?);
    let away = [(EXACT, GetsAway), (BELOW, GetsAway)];
    let closed = [
        (EXACT_ANYWHERE, GetsAway),
        (BY_UNIT, Denied),
        (BY_USER, Denied),
    ];
    let outside = [&away[..], &closed].concat();
    let plain = at(SERVER);
    probe(&[
        (
            &plain,
            &within,
            &[&away[..], &[(EXACT_ANYWHERE, Denied)]].concat(),
        ),
        (&plain, &at(over), &outside),
        (&plain, &at(nowhere), &outside),
    ])
}

/// What an unprivileged user can tell a gate.
pub(super) fn asked() -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    starts(SERVER)?;
    let gate = gate_on_node_0(&Daemon::policy("enforce", SERVER, ""))?;
    let _load = Load::fill(0)?;
    let pid = gate.pid().to_string();
    gate.status()?;
    for (program, words) in [
        (COREGATE, &["status", "--json"][..]),
        (COREGATE, &["detach"]),
        ("/bin/busybox", &["kill", &pid]),
    ] {
        let output = Command::new(program).args(words).uid(USER).output()?;
        ensure!(
            !output.status.success() && output.stdout.is_empty(),
            "{words:?}: {output:?}"
        );
        fails(SERVER, EAGAIN)?;
        starts(NEIGHBOUR)?;
    }
    gate.stop()?;
    starts(SERVER)
}
