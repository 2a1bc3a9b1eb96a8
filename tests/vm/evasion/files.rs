// SPDX-License-Identifier: GPL-2.0-only
//! The same program by another name, or by none.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::fcntl::AtFlags;
use nix::mount::{MntFlags, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execveat;

use super::launchers::bind;
use super::{
    BELOW, BY_CGROUP, BY_UNIT, BY_USER, Denied, EXACT, FOLDER, GLOB, GetsAway, Outcome, SERVER,
    Way, at, before, launcher, load, probe, replace,
};
use crate::agreement::launcher::{Order, Place, WORD, What};
use crate::launch::{PROBE, USER, launch, program};
use crate::machine::{in_the_end, node_cpus, pin};
use crate::servant::Servant;

/// What closes the ways that lead around a path.
const CLOSED: [(&str, Outcome); 3] = [(BY_UNIT, Denied), (BY_CGROUP, Denied), (BY_USER, Denied)];

/// What is denied under some rules gets away under these, until it is closed.
fn away_under<'a>(rules: &[&'a str]) -> Vec<(&'a str, Outcome)> {
    let away = rules.iter().map(|rule| (*rule, GetsAway));
    away.chain(CLOSED).collect()
}

/// Makes room at `path`.
fn clear(path: &str) -> Result<()> {
    let _ = fs::remove_file(path);
    let folder = Path::new(path).parent().context("no folder")?;
    Ok(fs::create_dir_all(folder)?)
}

pub(super) fn symbolic_link() -> Result<()> {
    const LINK: &str = "/srv/probe/link";
    program(SERVER)?;
    clear(LINK)?;
    symlink(SERVER, LINK)?;
    let rules = [(EXACT, Denied), (BELOW, Denied), (GLOB, Denied)];
    probe(&[(&at(SERVER), &at(LINK), &rules)])
}

pub(super) fn hard_link() -> Result<()> {
    const OUTSIDE: &str = "/srv/probe/hard";
    const INSIDE: &str = "/opt/exchange/server-1";
    program(SERVER)?;
    for link in [OUTSIDE, INSIDE] {
        clear(link)?;
        fs::hard_link(SERVER, link)?;
    }
    let outside = away_under(&[EXACT, BELOW, GLOB]);
    let inside = [(EXACT, GetsAway), (GLOB, Denied), (BELOW, Denied)];
    let plain = at(SERVER);
    probe(&[
        (&plain, &at(OUTSIDE), &outside),
        (&plain, &at(INSIDE), &inside),
    ])
}

pub(super) fn copy() -> Result<()> {
    const OUTSIDE: &str = "/srv/probe/server";
    const INSIDE: &str = "/opt/exchange/server-2";
    for path in [SERVER, OUTSIDE, INSIDE] {
        program(path)?;
    }
    let outside = away_under(&[EXACT, BELOW, GLOB]);
    let inside = [(EXACT, GetsAway), (GLOB, Denied), (BELOW, Denied)];
    let plain = at(SERVER);
    probe(&[
        (&plain, &at(OUTSIDE), &outside),
        (&plain, &at(INSIDE), &inside),
    ])
}

/// Something that is mounted on this path until dropped.
struct Bound(&'static str);

impl Bound {
    fn new(what: &str, on: &'static str) -> Result<Self> {
        bind(what, on)?;
        Ok(Self(on))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

pub(super) fn bind_mount() -> Result<()> {
    const FILE: &str = "/srv/probe/alias";
    const DIR: &str = "/srv/exchange";
    const OTHER: &str = "/srv/probe/other";
    const COVERED: &str = "/opt/exchange/covered";
    const BY_COVERED: &str = "exe = \"/opt/exchange/covered\"";
    for path in [SERVER, FILE, OTHER, COVERED] {
        program(path)?;
    }
    fs::create_dir_all(DIR)?;
    let _bound = [(SERVER, FILE), (FOLDER, DIR), (OTHER, COVERED)]
        .into_iter()
        .map(|(what, on)| Bound::new(what, on))
        .collect::<Result<Vec<_>>>()?;
    let away = away_under(&[EXACT, BELOW]);
    let plain = at(SERVER);
    probe(&[
        (&plain, &at(FILE), &away),
        (&plain, &at("/srv/exchange/server"), &away),
        // The path is what counts, whatever file is there.
        (&at(COVERED), &at(OTHER), &away_under(&[BY_COVERED])),
    ])
}

/// Launches a shell in the server's folder.
fn shell(argument: Option<&str>, input: Stdio) -> Result<Option<i32>> {
    let mut command = launcher("/bin/sh")?;
    command.arg0("sh").args(argument);
    launch(command.stdin(input).current_dir(FOLDER))
}

/// A rule for the program that a link leads to.
fn rule_for(link: &str) -> Result<String> {
    Ok(format!("exe = {:?}", fs::canonicalize(link)?))
}

pub(super) fn script() -> Result<()> {
    const SCRIPT: &str = "/opt/exchange/run.sh";
    const BY_PATH: &str = "exe = \"/opt/exchange/run.sh\"";
    clear(SCRIPT)?;
    crate::launch::script(SCRIPT)?;
    let itself: Way<'_> = &at(SCRIPT);
    let named: Way<'_> = &|| shell(Some(SCRIPT), Stdio::null());
    let relative: Way<'_> = &|| shell(Some("./run.sh"), Stdio::null());
    let read: Way<'_> = &|| shell(None, File::open(SCRIPT)?.into());
    let by_interpreter = &rule_for("/bin/sh")?;
    let by_argument = &format!("{by_interpreter}\nargv = \"{SCRIPT}\"");
    let away: &[_] = &away_under(&[BY_PATH, BELOW]);
    let by_argument_away: &[(&str, Outcome)] = &[(by_argument, GetsAway), (by_interpreter, Denied)];
    probe(&[
        (itself, named, away),
        (itself, relative, away),
        (itself, read, away),
        // The interpreter can be named, with the script as an argument.
        (named, relative, by_argument_away),
        (named, read, by_argument_away),
        (
            named,
            itself,
            &[(by_argument, GetsAway), (by_interpreter, GetsAway)],
        ),
    ])
}

/// A file that no kernel can execute; the shell takes it for a script, and so does execvp(3).
pub(super) fn bare_script() -> Result<()> {
    clear(SERVER)?;
    crate::launch::script(SERVER)?;
    fs::write(SERVER, "read _\nexit 0\n")?;
    let by_name = at(SERVER);
    probe(&[(&by_name, &by_name, &[(EXACT, Denied)])])?;

    // Where a core is free, the exec is admitted, and fails. What follows is one of the shell.
    let mut storage = MaybeUninit::uninit();
    let mut gate = load(&mut storage)?;
    gate.attach(false)?;
    pin(&node_cpus(0)?)?;
    replace(&mut gate, EXACT)?;
    let mut running = in_the_end("a script is admitted", || {
        Ok(launcher(SERVER)?.stdin(Stdio::piped()).spawn().ok())
    })?;
    let exe = fs::read_link(format!("/proc/{}/exe", running.id()))?;
    let claims = gate.claims(&coregate::gate::names(["probe"].into_iter()))?;
    drop(running.stdin.take());
    running.wait()?;
    ensure!(gate.counters(0)?.admitted == 1);
    ensure!(
        exe == fs::canonicalize("/bin/sh")? && claims.is_empty(),
        "{exe:?}, {claims:?}"
    );
    Ok(())
}

/// The dynamic loader, told to run a program.
pub(super) fn loader() -> Result<()> {
    const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
    program(SERVER)?;
    let by_loader: Way<'_> = &|| launch(launcher(LOADER)?.args(["--argv0", PROBE, SERVER]));
    let by_argument = &format!("{}\nargv = \"{SERVER}\"", rule_for(LOADER)?);
    probe(&[
        (&at(SERVER), by_loader, &away_under(&[EXACT, BELOW])),
        (by_loader, by_loader, &[(by_argument, Denied)]),
    ])
}

/// Launches what this descriptor is of.
fn execute(file: File) -> Result<Option<i32>> {
    const ARGV: &[&CStr] = &[c"coregate-probe"];
    const ENV: &[&CStr] = &[];
    let mut command = launcher("/none")?;
    launch(before(&mut command, move || {
        match execveat(&file, c"", ARGV, ENV, AtFlags::AT_EMPTY_PATH) {
            Err(errno) => Err(errno.into()),
            Ok(never) => match never {},
        }
    }))
}

/// What fexecve(3) does with a file that has no path. Its name cannot be made one.
pub(super) fn memory_file() -> Result<()> {
    program(SERVER)?;
    let from_memory = || {
        let name = c"../opt/exchange/server";
        let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
        io::copy(&mut File::open(SERVER)?, &mut file)?;
        execute(file)
    };
    let away = away_under(&[
        EXACT,
        BELOW,
        GLOB,
        "exe = [\"/*\", \"/opt/exchange/server\"]",
    ]);
    probe(&[(&at(SERVER), &from_memory, &away)])
}

pub(super) fn descriptor() -> Result<()> {
    program(SERVER)?;
    let rules = [(EXACT, Denied), (BELOW, Denied)];
    let by_descriptor = || execute(File::open(SERVER)?);
    probe(&[(&at(SERVER), &by_descriptor, &rules)])
}

/// Programs that run from the server's file: each executes or forks once.
struct Programs(RefCell<Vec<Servant>>);

impl Programs {
    /// So many, on the node on which they are then denied.
    fn start(count: usize) -> Result<Self> {
        pin(&node_cpus(0)?)?;
        let start = || -> Result<Servant> {
            let mut servant = Servant::start_as(SERVER, &[WORD, Place::Host.word()])?;
            ensure!(servant.answer()?.trim() == "ready");
            Ok(servant)
        };
        let programs = (0..count).map(|_| start()).collect::<Result<_>>()?;
        Ok(Self(RefCell::new(programs)))
    }

    /// Lets one of them do this.
    fn tell(&self, what: What) -> Result<Option<i32>> {
        let order = Order {
            comm: "server".into(),
            uid: USER,
            gid: USER,
            groups: Vec::new(),
            what,
        };
        let mut servant = self.0.borrow_mut().pop().context("none is left")?;
        let answer = servant.ask(&serde_json::to_string(&order)?)?;
        // One that has executed another program answers no more.
        if answer.is_empty() {
            return Ok(None);
        }
        let errno: i32 = answer.trim().parse().context(answer.clone())?;
        Ok((errno != 0).then_some(errno))
    }

    fn execute_themselves(&self) -> Result<Option<i32>> {
        self.tell(What::Exec {
            path: "/proc/self/exe".into(),
            argv: vec![PROBE.into()],
        })
    }
}

pub(super) fn self_exe() -> Result<()> {
    program(SERVER)?;
    let rules = [(EXACT, Denied), (BELOW, Denied), (BY_USER, Denied)];
    let programs = Programs::start(2 + rules.len())?;
    let again = || programs.execute_themselves();
    probe(&[(&at(SERVER), &again, &rules)])
}

/// A file that was replaced, and one whose name only looks like it.
pub(super) fn deleted() -> Result<()> {
    const LIKE: &str = "/opt/exchange/server (deleted)";
    program(SERVER)?;
    let file = File::open(SERVER)?;
    program(SERVER)?;
    program(LIKE)?;
    let old = || execute(file.try_clone()?);
    let rules = [(EXACT, Denied), (GLOB, Denied), (BELOW, Denied)];
    let like = [(EXACT, GetsAway), (GLOB, Denied), (BELOW, Denied)];
    let plain = at(SERVER);
    probe(&[(&plain, &old, &rules), (&plain, &at(LIKE), &like)])
}

/// A program that runs on when its file was replaced, as by an update.
pub(super) fn deleted_program() -> Result<()> {
    const FORKS: &str = "exe = \"/opt/exchange/server\"\non = [\"fork\"]";
    program(SERVER)?;
    let old = Programs::start(6)?;
    program(SERVER)?;
    let new = Programs::start(3)?;
    probe(&[
        (
            &at(SERVER),
            &|| old.execute_themselves(),
            &[(EXACT, Denied)],
        ),
        (
            &|| new.tell(What::Fork),
            &|| old.tell(What::Fork),
            &[(FORKS, Denied)],
        ),
    ])
}

pub(super) fn long_path() -> Result<()> {
    program(SERVER)?;
    let path = |len: usize| {
        let folder = format!("{FOLDER}/{}", "d".repeat(200));
        let name = "s".repeat(len - folder.len() - 1);
        format!("{folder}/{name}")
    };
    let (longest, longer) = (path(255), path(256));
    program(&longest)?;
    program(&longer)?;
    let away = away_under(&[EXACT, BELOW]);
    let plain = at(SERVER);
    probe(&[
        (&plain, &at(longest), &[(BELOW, Denied)]),
        (&plain, &at(longer), &away),
    ])
}
