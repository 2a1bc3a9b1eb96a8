// SPDX-License-Identifier: GPL-2.0-only
//! From a launch to its rule.

use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use nix::libc::EAGAIN;

use crate::gate::Gate;
use crate::launch::{USER, command, fails, launch, program, starts};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "rules_with_lists_match_in_order_and_exempt",
    needs: Needs::AnyKernel,
    on: NUMA,
    run: lists,
}];

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
