// SPDX-License-Identifier: GPL-2.0-only
//! A process that launches what it is told to, as whom it is told to.

use std::ffi::CString;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::chroot;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// The word that makes this program a launcher; its place follows.
pub(crate) const WORD: &str = "launcher";

/// Said by a launcher that needs the maps of its user namespace, which it cannot write in full.
pub(crate) const MAPS: &str = "maps";

/// Where a launcher is, as paths go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where PID 1 is.
    Host,
    /// In a mount namespace of its own, as many services are.
    Service,
    /// In a user and a mount namespace of its own.
    Namespace,
    /// Below another root directory.
    Jail,
}

impl Place {
    pub(crate) const ALL: [Self; 4] = [Self::Host, Self::Service, Self::Namespace, Self::Jail];
    /// The root directory of [`Place::Jail`].
    pub(crate) const ROOT: &str = "/srv/jail";

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Service => "service",
            Self::Namespace => "namespace",
            Self::Jail => "jail",
        }
    }

    fn enter(self) -> Result<()> {
        match self {
            Self::Host => {}
            Self::Service => unshare(CloneFlags::CLONE_NEWNS)?,
            Self::Namespace => {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                println!("{MAPS}");
                io::stdin().read_line(&mut String::new())?;
            }
            Self::Jail => {
                chroot(Self::ROOT)?;
                std::env::set_current_dir("/")?;
            }
        }
        Ok(())
    }
}

/// A launch, and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) comm: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// Executes a file that no kernel can: this process stays.
    Exec {
        path: String,
        argv: Vec<String>,
    },
    Fork,
    Thread,
}

/// Does what it is told, line by line; answers an errno, or 0.
pub(crate) fn serve(place: &str) -> Result<()> {
    let place = Place::ALL.into_iter().find(|other| other.word() == place);
    place.context("no such place")?.enter()?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        println!("{}", obey(&order)?);
        io::stdout().flush()?;
    }
    Ok(())
}

fn obey(order: &Order) -> Result<i32> {
    let root = Uid::from_raw(0);
    setresuid(root, root, root)?;
    let gid = Gid::from_raw(order.gid);
    let groups: Vec<_> = order.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    let name = CString::new(order.comm.as_str())?;
    nix::sys::prctl::set_name(&name)?;
    setresuid(root, Uid::from_raw(order.uid), root)?;
    match &order.what {
        What::Exec { path, argv } => {
            let text = |text: &String| CString::new(text.as_str());
            let argv: Vec<_> = argv.iter().map(text).collect::<Result<_, _>>()?;
            match nix::unistd::execve(&text(path)?, &argv, &[] as &[CString]) {
                Err(errno) => Ok(errno as i32),
                Ok(never) => match never {},
            }
        }
        What::Fork => {
            // SAFETY: the child calls nothing but _exit.
            let pid = match Errno::result(unsafe { libc::fork() }) {
                Ok(pid) => pid,
                Err(errno) => return Ok(errno as i32),
            };
            if pid == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: waits for that child; its status is not asked for.
            Errno::result(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) })?;
            Ok(0)
        }
        What::Thread => match std::thread::spawn(|| {}).join() {
            Ok(()) => Ok(0),
            Err(_) => bail!("the thread panicked"),
        },
    }
}
