// SPDX-License-Identifier: GPL-2.0-only
//! From a launch to its rule.

use std::fs;
use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use nix::libc::EAGAIN;

use crate::gate::Gate;
use crate::launch::{USER, command, fails, launch, program, starts};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "rules_with_lists_match_in_order_and_exempt",
        needs: Needs::OneKernel,
        on: NUMA,
        run: lists,
    },
    Test {
        name: "a_launch_meets_all_that_a_policy_can_have_for_it",
        needs: Needs::OneKernel,
        on: NUMA,
        run: many,
    },
];

const FIRST: &str = "/opt/first";
const SECOND: &str = "/opt/second";
const NEIGHBOUR: &str = "/opt/neighbour";
/// The users of the exception.
const EXEMPT: [u32; 2] = [USER, USER + 7];

/// No launch is admitted by the second rule: without its own core there is one on a node.
const POLICY: &str = r#"
[gate]
mode = "enforce"
[[rule]]
name = "exception"
exe = "/opt/first"
user = [1000, 1007]
action = "exempt"
[[rule]]
name = "both"
exe = ["/opt/first", "/opt/second"]
cores = 2
own_core = false
"#;

fn lists() -> Result<()> {
    let as_user = |path, user| launch(command(path).uid(user));
    for path in [FIRST, SECOND, NEIGHBOUR] {
        program(path)?;
        starts(path)?;
    }
    let gate = Gate::start(POLICY)?;
    fails(FIRST, EAGAIN)?;
    fails(SECOND, EAGAIN)?;
    starts(NEIGHBOUR)?;
    for user in EXEMPT {
        ensure!(as_user(FIRST, user)?.is_none(), "user {user} is exempt");
        let found = as_user(SECOND, user)?;
        ensure!(found == Some(EAGAIN), "not from the other: {found:?}");
    }
    let found = as_user(FIRST, EXEMPT[1] + 1)?;
    ensure!(found == Some(EAGAIN), "another user is not: {found:?}");

    // One event for each denial, none for those that are exempt.
    for verdict in gate.verdicts(5)? {
        ensure!(verdict.get("rule") == "both", "{verdict:?}");
    }
    let status = gate.status()?;
    let count = |rule: usize, what: &str| status["rules"][rule][what].as_u64();
    for (rule, launches, denied) in [(0, 2, 0), (1, 5, 5)] {
        ensure!(
            count(rule, "launches") == Some(launches) && count(rule, "denied") == Some(denied),
            "{status}"
        );
        ensure!(count(rule, "admitted") == Some(0), "{status}");
    }
    gate.stop()?;
    for path in [FIRST, SECOND] {
        starts(path)?;
    }
    Ok(())
}

/// The levels of the hierarchy of cgroups that are looked at, but its root.
const LEVELS: usize = 31;
/// The folders and patterns that can begin alike.
const ALIKE: usize = 32;

/// A cgroup so many levels below the root; its name is the number.
fn cgroup(levels: usize) -> String {
    (1..=levels).map(|level| format!("/{level}")).collect()
}

/// A folder, so many below another.
fn folder(depth: usize) -> String {
    format!("/opt{}/", "/d".repeat(depth))
}

/// The program meets as many strings as one can, and its launcher's cgroup. It is denied for the
/// last of each, by the folder, the name and the path.
fn many_policy() -> String {
    let deepest = folder(ALIKE);
    let mut exes: Vec<_> = (1..ALIKE).map(folder).collect();
    exes.push(deepest.clone() + "program");
    let units: Vec<_> = (1..=LEVELS).map(|level| format!("{level}")).collect();
    let patterns: Vec<_> = (1..=LEVELS).map(|level| format!("{level}*")).collect();
    let tops: Vec<_> = (1..=LEVELS).map(cgroup).collect();
    format!(
        "[gate]\nmode = \"enforce\"\n\
         [[rule]]\nname = \"others\"\nexe = {exes:?}\nuser = 1\n\
         [[rule]]\nname = \"places\"\nunit = {units:?}\ncgroup = {tops:?}\nuser = 1\n\
         [[rule]]\nname = \"patterns\"\nunit = {patterns:?}\nuser = 1\n\
         [[rule]]\nname = \"last\"\nexe = {deepest:?}\nparent = \"/bin/coregate-vm\"\n\
         unit = \"{LEVELS}\"\ncgroup = {:?}\ncores = 2\nown_core = false\n",
        cgroup(LEVELS)
    )
}

fn many() -> Result<()> {
    let deepest = folder(ALIKE) + "program";
    fs::create_dir_all(folder(ALIKE))?;
    program(&deepest)?;
    let enter = |levels| {
        let cgroup = format!("/sys/fs/cgroup{}", cgroup(levels));
        fs::create_dir_all(&cgroup)?;
        fs::write(cgroup + "/cgroup.procs", "0")
    };
    enter(LEVELS)?;
    starts(&deepest)?;
    let gate = Gate::start(&many_policy())?;
    let unread = || Ok::<_, anyhow::Error>(gate.status()?["failures"]["cgroups_unread"].as_u64());
    fails(&deepest, EAGAIN)?;
    ensure!(unread()? == Some(0), "{}", gate.status()?);
    enter(LEVELS - 1)?;
    starts(&deepest)?;
    ensure!(unread()? == Some(0), "{}", gate.status()?);
    // The levels above are looked at all the same.
    enter(LEVELS + 1)?;
    fails(&deepest, EAGAIN)?;
    ensure!(unread()? > Some(0), "{}", gate.status()?);
    gate.stop()?;
    enter(LEVELS)?;
    starts(&deepest)?;
    Ok(enter(0)?)
}
