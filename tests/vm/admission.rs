// SPDX-License-Identifier: GPL-2.0-only
//! A launch that a rule watches is admitted where a core is free, and denied where none is.

use anyhow::{Result, ensure};
use nix::libc::{EAGAIN, EBUSY, EPERM};
use std::os::unix::process::CommandExt;

use crate::gate::{Gate, Verdict};
use crate::launch::{self, USER, command, fails, launch, program, script, starts};
use crate::machine::{self, Load, in_the_end, node_cpus, pin};
use crate::{COUNTED, NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "admits_while_a_core_is_free_and_denies_when_none_is",
        needs: Needs::Nothing,
        on: COUNTED,
        run: admits_and_denies,
    },
    Test {
        name: "denies_with_the_errno_of_the_rule",
        needs: Needs::OneKernel,
        on: NUMA,
        run: errno,
    },
    Test {
        name: "a_launch_is_judged_by_its_own_node",
        needs: Needs::Nothing,
        on: NUMA,
        run: node,
    },
    Test {
        name: "a_script_matches_by_its_own_path",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: by_path,
    },
    Test {
        name: "a_rule_for_a_user_is_for_no_other",
        needs: Needs::OneKernel,
        on: NUMA,
        run: user,
    },
    Test {
        name: "the_first_rule_wins",
        needs: Needs::OneKernel,
        on: NUMA,
        run: first_rule,
    },
    Test {
        name: "an_action_log_only_logs",
        needs: Needs::OneKernel,
        on: NUMA,
        run: log_only,
    },
];

const SERVER: &str = "/opt/server";
const NEIGHBOUR: &str = "/opt/neighbour";

/// Starts a gate whose daemon keeps off node 0, and moves the calling thread there.
pub(crate) fn gate_on_node_0(policy: &str) -> Result<Gate> {
    pin(&machine::node_cores(1)?
        .pop()
        .map_or(machine::cpus()?, |core| core.cpus))?;
    let gate = Gate::start(policy)?;
    pin(&node_cpus(0)?)?;
    Ok(gate)
}

/// Launches until one is admitted.
pub(crate) fn admitted_in_the_end(gate: &Gate, path: &str) -> Result<Verdict> {
    in_the_end("a launch is admitted while a core is free", || {
        let found = launch(&mut command(path))?;
        let verdict = gate.verdict()?;
        ensure!(
            found.is_none() == (verdict.effect() == "admitted"),
            "launch ended with {found:?}, but the log says {verdict:?}"
        );
        Ok(found.is_none().then_some(verdict))
    })
}

fn admits_and_denies() -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    pin(&node_cpus(0)?)?;
    {
        let _load = Load::fill(0)?;
        starts(SERVER)?;
    }
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let verdict = admitted_in_the_end(&gate, SERVER)?;
    ensure!(verdict.number("cores_free")? >= 1 && verdict.get("verdict") == "admit");

    let load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    let verdict = gate.verdict()?;
    ensure!(
        verdict.effect() == "denied" && verdict.get("verdict") == "deny",
        "{verdict:?}"
    );
    ensure!(verdict.number("cores_free")? == 0 && verdict.number("cores_needed")? == 1);
    ensure!(
        verdict.get("exe") == SERVER && verdict.get("errno") == "EAGAIN",
        "{verdict:?}"
    );
    starts(NEIGHBOUR)?;
    let status = gate.status()?;
    ensure!(status["rules"][0]["denied"].as_u64() >= Some(1), "{status}");
    gate.stop()?;
    starts(SERVER)?;
    drop(load);
    Ok(())
}

fn errno() -> Result<()> {
    let rules = [("EAGAIN", EAGAIN), ("EBUSY", EBUSY), ("EPERM", EPERM)];
    let mut policy = "[gate]\nmode = \"enforce\"\nevent_rate = 0\n".to_owned();
    for (name, _) in rules {
        program(&format!("/opt/{name}"))?;
        policy +=
            &format!("[[rule]]\nname = \"{name}\"\nexe = \"/opt/{name}\"\nerrno = \"{name}\"\n");
    }
    let gate = gate_on_node_0(&policy)?;
    let _load = Load::fill(0)?;
    for (name, errno) in rules {
        fails(&format!("/opt/{name}"), errno)?;
        ensure!(gate.verdict()?.get("errno") == name);
    }
    gate.stop()?;
    rules
        .iter()
        .try_for_each(|(name, _)| starts(&format!("/opt/{name}")))
}

fn node() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    for full in [0, 1] {
        let empty = 1 - full;
        let _load = Load::fill(full)?;
        pin(&node_cpus(full)?)?;
        fails(SERVER, EAGAIN)?;
        let verdict = gate.verdict()?;
        ensure!(verdict.number("node")? == full && verdict.number("cores_free")? == 0);
        pin(&node_cpus(empty)?)?;
        let verdict = admitted_in_the_end(&gate, SERVER)?;
        ensure!(verdict.number("node")? == empty, "{verdict:?}");
    }
    gate.stop()
}

fn by_path() -> Result<()> {
    const SCRIPT: &str = "/opt/run.sh";
    script(SCRIPT)?;
    std::os::unix::fs::symlink(SCRIPT, "/opt/link.sh").or_else(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    let _load = Load::fill(0)?;
    pin(&node_cpus(0)?)?;
    starts(SCRIPT)?;
    // The rule names the link: it is for the file that the link leads to.
    let gate = gate_on_node_0(&Gate::policy("enforce", "/opt/link.sh", ""))?;
    for path in [SCRIPT, "/opt/link.sh", "/opt/../opt/run.sh"] {
        fails(path, EAGAIN)?;
        ensure!(gate.verdict()?.get("exe") == SCRIPT);
    }
    let mut relative = command("./run.sh");
    relative.current_dir("/opt");
    ensure!(launch(&mut relative)? == Some(EAGAIN));
    ensure!(gate.verdict()?.get("exe") == SCRIPT);
    // Its interpreter is another program.
    let mut by_shell = std::process::Command::new("/bin/sh");
    ensure!(launch(by_shell.arg(SCRIPT))?.is_none());
    gate.stop()?;
    starts(SCRIPT)
}

fn user() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, &format!("user = {USER}")))?;
    let _load = Load::fill(0)?;
    starts(SERVER)?;
    let mut as_user = launch::command(SERVER);
    as_user.uid(USER);
    ensure!(launch(&mut as_user)? == Some(EAGAIN));
    ensure!(gate.verdict()?.number("uid")? == USER);
    gate.stop()?;
    ensure!(launch(&mut as_user)?.is_none());
    Ok(())
}

fn first_rule() -> Result<()> {
    program(SERVER)?;
    let rule = |name: &str, more: &str| {
        format!("[[rule]]\nname = \"{name}\"\nexe = \"{SERVER}\"\n{more}\n")
    };
    let policy = "[gate]\nmode = \"enforce\"\nevent_rate = 0\n".to_owned()
        + &rule("theirs", &format!("user = {USER}\nerrno = \"EBUSY\""))
        + &rule("all", "")
        + &rule("never", "user = 0\nerrno = \"EPERM\"");
    let gate = gate_on_node_0(&policy)?;
    let _load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    ensure!(gate.verdict()?.get("rule") == "all");
    ensure!(launch(command(SERVER).uid(USER))? == Some(EBUSY));
    ensure!(gate.verdict()?.get("rule") == "theirs");
    gate.stop()
}

fn log_only() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, "action = \"log\""))?;
    let _load = Load::fill(0)?;
    starts(SERVER)?;
    let verdict = gate.verdict()?;
    ensure!(
        verdict.effect() == "logged" && verdict.get("verdict") == "deny",
        "{verdict:?}"
    );
    ensure!(gate.status()?["rules"][0]["would_deny"] == 1);
    gate.stop()
}
