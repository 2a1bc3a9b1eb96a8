// SPDX-License-Identifier: GPL-2.0-only
//! Ways around a rule: each is tried, and what comes of it is in docs/threat-model.md.

mod claims;
mod files;
mod launchers;

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coregate::gate::Gate;
use coregate::policy::{NoHost, Policy, Source, parse};
use coregate::topology::{SYSFS, Topology};
use nix::libc::EAGAIN;

use crate::launch::{USER, command, launch, program, starts};
use crate::machine::{Load, node_cpus, pin};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    test("evasion_symbolic_link", files::symbolic_link),
    test("evasion_hard_link", files::hard_link),
    test("evasion_copy", files::copy),
    test("evasion_bind_mount", files::bind_mount),
    test("evasion_script", files::script),
    test("evasion_script_without_interpreter", files::bare_script),
    test("evasion_loader", files::loader),
    test("evasion_memory_file", files::memory_file),
    test("evasion_descriptor", files::descriptor),
    test("evasion_proc_self_exe", files::self_exe),
    test("evasion_deleted_file", files::deleted),
    test("evasion_deleted_program", files::deleted_program),
    test("evasion_long_path", files::long_path),
    test("evasion_chroot", launchers::chroot),
    test("evasion_namespace", launchers::namespace),
    test("evasion_user_change", launchers::user_change),
    test("evasion_user_change_by_the_file", launchers::set_user_id),
    test("i10_anybody_holds_cores_without_user", claims::anybody),
    test("i10_anybody_can_give_a_unit_its_name", claims::unit),
    test("i10_a_faked_path_takes_no_claim", claims::faked),
    test("i10_nobody_but_root_asks_or_ends_the_gate", claims::asked),
];

const fn test(name: &'static str, run: fn() -> Result<()>) -> Test {
    Test {
        name,
        needs: Needs::AnyKernel,
        on: NUMA,
        run,
    }
}

/// What the rules are for, and its folder.
const FOLDER: &str = "/opt/exchange";
const SERVER: &str = "/opt/exchange/server";
const NEIGHBOUR: &str = "/opt/neighbour";
/// From where the probes are launched.
const UNIT: &str = "/sys/fs/cgroup/probes.slice/probe.service";

/// Rules for the server, by what it is,
const EXACT: &str = "exe = \"/opt/exchange/server\"";
const BELOW: &str = "exe = \"/opt/exchange/\"";
const GLOB: &str = "exe = \"/opt/exchange/server*\"";
const EXACT_ANYWHERE: &str = "exe = \"/opt/exchange/server\"\ncontainer = \"any\"";
/// and by who launches it, which is how the others are closed.
const BY_UNIT: &str = "unit = \"probe.service\"";
const BY_CGROUP: &str = "cgroup = \"/probes.slice\"";
const BY_USER: &str = "user = 1000";
const BY_UNIT_ANYWHERE: &str = "unit = \"probe.service\"\ncontainer = \"any\"";
const BY_USER_ANYWHERE: &str = "user = 1000\ncontainer = \"any\"";
const BY_CGROUP_ANYWHERE: &str = "cgroup = \"/probes.slice\"\ncontainer = \"any\"";

/// What comes of a probe under a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Denied,
    GetsAway,
}
use Outcome::{Denied, GetsAway};

/// A gate in this process, not yet attached.
fn load(storage: &mut MaybeUninit<libbpf_rs::OpenObject>) -> Result<Gate<'_>> {
    let topology = Topology::read(Path::new(SYSFS))?;
    Ok(Gate::load(storage, &Policy::default(), &topology)?)
}

fn replace(gate: &mut Gate<'_>, rule: &str) -> Result<()> {
    let text = format!("[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"probe\"\n{rule}\n");
    let policy = parse(&[Source::new("p.toml", &text)], &NoHost).with_context(|| text)?;
    gate.replace(&policy)?;
    Ok(())
}

/// A way to launch something: `None` if it started, else the errno.
type Way<'a> = &'a dyn Fn() -> Result<Option<i32>>;

/// What a rule is for, a way around it, and what comes of that under which rules.
type Attempt<'a> = (Way<'a>, Way<'a>, &'a [(&'a str, Outcome)]);

/// On a node without a free core: everything starts without a gate. Under each rule of an attempt
/// what it is for is denied, the attempt comes to what is said, and a neighbour starts. Without the
/// gate everything starts again.
fn probe(attempts: &[Attempt<'_>]) -> Result<()> {
    let all_start = || -> Result<()> {
        for way in attempts.iter().flat_map(|(plain, way, _)| [plain, way]) {
            let found = way()?;
            ensure!(found.is_none(), "without a gate: {found:?}");
        }
        Ok(())
    };
    program(NEIGHBOUR)?;
    let mut storage = MaybeUninit::uninit();
    let mut gate = load(&mut storage)?;
    pin(&node_cpus(0)?)?;
    let load = Load::fill(0)?;
    all_start()?;
    gate.attach(false)?;
    for (number, (plain, way, rules)) in attempts.iter().enumerate() {
        for (rule, outcome) in *rules {
            let what = || format!("attempt {number}, {rule}");
            replace(&mut gate, rule)?;
            comes_to(&gate, plain, Denied).with_context(what)?;
            comes_to(&gate, way, *outcome).with_context(what)?;
            starts(NEIGHBOUR).with_context(what)?;
        }
    }
    drop(gate);
    all_start()?;
    drop(load);
    Ok(())
}

fn comes_to(gate: &Gate<'_>, attempt: Way<'_>, outcome: Outcome) -> Result<()> {
    let before = gate.counters(0)?.launches;
    let found = attempt()?;
    let matched = gate.counters(0)?.launches - before;
    let expected = match outcome {
        Denied => (Some(EAGAIN), 1),
        GetsAway => (None, 0),
    };
    ensure!(
        (found, matched) == expected,
        "{outcome:?} expected; errno {found:?}, {matched} launches matched"
    );
    Ok(())
}

/// Launches what is at `path` as [`launcher`] does.
fn at(path: impl Into<String>) -> impl Fn() -> Result<Option<i32>> {
    let path = path.into();
    move || launch(&mut launcher(&path)?)
}

/// The way for an unprivileged user to launch what is at `path`, from the unit of the probes.
fn launcher(path: &str) -> Result<Command> {
    let mut command = from_unit(path, UNIT)?;
    command.uid(USER).gid(USER);
    Ok(command)
}

/// The way to launch what is at `path` from this cgroup.
fn from_unit(path: &str, unit: &str) -> Result<Command> {
    fs::create_dir_all(unit)?;
    let procs = File::options()
        .write(true)
        .open(format!("{unit}/cgroup.procs"))?;
    let mut command = command(path);
    before(&mut command, move || (&procs).write_all(b"0"));
    Ok(command)
}

/// Lets the child do this too before its exec.
pub(crate) fn before(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: the steps here are system calls, and allocations, which glibc makes safe in a child.
    unsafe { command.pre_exec(step) }
}
