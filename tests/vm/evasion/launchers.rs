// SPDX-License-Identifier: GPL-2.0-only
//! A launcher with another root directory, in a namespace of its own, or that is another user.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chroot as change_root};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, setresuid};

use super::{
    BELOW, BY_CGROUP_ANYWHERE, BY_UNIT, BY_UNIT_ANYWHERE, BY_USER, BY_USER_ANYWHERE, Denied, EXACT,
    EXACT_ANYWHERE, GetsAway, SERVER, UNIT, at, before, from_unit, launcher, probe,
};
use crate::launch::{USER, launch, program};

const JAIL: &str = "/srv/probe-jail";
/// In the jail, beside one at the server's path.
const OTHER: &str = "/srv/probe/other";

/// Lets the child be in a user namespace of its own, with these namespaces too.
fn apart(command: &mut Command, more: CloneFlags) -> &mut Command {
    before(command, move || {
        Ok(unshare(CloneFlags::CLONE_NEWUSER | more)?)
    })
}

/// Launches a program of the jail in it.
fn jailed(mut command: Command) -> Result<Option<i32>> {
    let enter = || {
        change_root(JAIL)?;
        std::env::set_current_dir("/")
    };
    launch(before(command.arg0("true"), enter))
}

pub(super) fn chroot() -> Result<()> {
    program(SERVER)?;
    for path in [SERVER, OTHER] {
        let path = format!("{JAIL}{path}");
        program(&path)?;
        // It needs no library.
        fs::copy("/bin/busybox", path)?;
    }
    let of_root = |path| move || jailed(from_unit(path, UNIT)?);
    let of_user = |path| {
        move || {
            let mut command = launcher(path)?;
            apart(&mut command, CloneFlags::empty());
            jailed(command)
        }
    };
    let same = [
        (EXACT, GetsAway),
        (BELOW, GetsAway),
        (BY_UNIT, GetsAway),
        (EXACT_ANYWHERE, Denied),
        (BY_UNIT_ANYWHERE, Denied),
        (BY_CGROUP_ANYWHERE, Denied),
    ];
    let other = [(EXACT_ANYWHERE, GetsAway), (BY_UNIT_ANYWHERE, Denied)];
    let user = [(BY_USER, GetsAway), (BY_USER_ANYWHERE, Denied)];
    let plain = at(SERVER);
    probe(&[
        (&plain, &of_root(SERVER), &same),
        (&plain, &of_root(OTHER), &other),
        (&plain, &of_user(SERVER), &[&same[..], &user].concat()),
        (&plain, &of_user(OTHER), &[&other[..], &user].concat()),
    ])
}

/// Launches what is at `path` for an unprivileged user who has mounted `what` there.
pub(super) fn mounted(what: &'static str, path: &'static str, name: &str) -> Result<Command> {
    let mut command = launcher(path)?;
    apart(command.arg0(name), CloneFlags::CLONE_NEWNS);
    before(&mut command, move || bind(what, path));
    Ok(command)
}

pub(super) fn bind(what: &str, on: &str) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(Some(what), on, none, MsFlags::MS_BIND, none)?)
}

pub(super) fn namespace() -> Result<()> {
    program(SERVER)?;
    program(OTHER)?;
    let with = |more| {
        move || {
            let mut command = launcher(SERVER)?;
            launch(apart(&mut command, more))
        }
    };
    let alias = || launch(&mut mounted(SERVER, OTHER, crate::launch::PROBE)?);
    let rules = [
        (EXACT, GetsAway),
        (BELOW, GetsAway),
        (BY_UNIT, GetsAway),
        (BY_USER, GetsAway),
        (BY_UNIT_ANYWHERE, Denied),
        (BY_USER_ANYWHERE, Denied),
        (BY_CGROUP_ANYWHERE, Denied),
    ];
    let plain = at(SERVER);
    probe(&[
        // In a user namespace alone a path means what it does outside.
        (
            &plain,
            &with(CloneFlags::empty()),
            &[(EXACT, Denied), (BY_UNIT, Denied), (BY_USER, Denied)],
        ),
        (
            &plain,
            &with(CloneFlags::CLONE_NEWNS),
            &[&rules[..], &[(EXACT_ANYWHERE, Denied)]].concat(),
        ),
        (
            &plain,
            &alias,
            &[&rules[..], &[(EXACT_ANYWHERE, GetsAway)]].concat(),
        ),
    ])
}

/// A user who goes through a program that is root, as sudo is.
pub(super) fn user_change() -> Result<()> {
    const BOTH: &str = "user = [0, 1000]\nexe = \"/opt/exchange/\"";
    program(SERVER)?;
    let as_root = || {
        let mut command = from_unit(SERVER, UNIT)?;
        launch(before(&mut command, || {
            let root = Uid::from_raw(0);
            Ok(setresuid(Uid::from_raw(USER), root, root)?)
        }))
    };
    let rules = [
        (BY_USER, GetsAway),
        (BOTH, Denied),
        (BY_UNIT, Denied),
        (EXACT, Denied),
    ];
    probe(&[(&at(SERVER), &as_root, &rules)])
}

/// A file that makes whoever executes it root.
pub(super) fn set_user_id() -> Result<()> {
    const BY_ROOT: &str = "user = 0\nexe = \"/opt/exchange/server\"";
    program(SERVER)?;
    fs::set_permissions(Path::new(SERVER), fs::Permissions::from_mode(0o4755))?;
    let of_user = at(SERVER);
    let of_root = || launch(&mut from_unit(SERVER, UNIT)?);
    probe(&[
        (&of_root, &of_user, &[(BY_ROOT, GetsAway)]),
        (&of_user, &of_user, &[(BY_USER, Denied)]),
        (&of_user, &of_root, &[(BY_USER, GetsAway)]),
    ])
}
