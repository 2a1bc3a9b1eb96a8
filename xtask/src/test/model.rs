// SPDX-License-Identifier: GPL-2.0-only
//! The model of the claims protocol: spin tries every order of events, and must
//! find each of the faults that the model can be given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::report::Report;
use crate::{build, command};

/// One walk through all states.
struct Walk {
    name: &'static str,
    /// What is defined for the preprocessor: the case, then the fault.
    defines: &'static [&'static str],
    must: Must,
}

/// How a walk has to end.
enum Must {
    Hold,
    /// And no line of the model may be out of reach, or it proves less than it says.
    HoldAndReachAll,
    /// In the violation of the assertion that names this.
    Violate(&'static str),
}

/// The longest first.
const WALKS: &[Walk] = &[
    Walk {
        name: "model_claims_reload",
        defines: &["RELOAD"],
        must: Must::HoldAndReachAll,
    },
    Walk {
        name: "model_claims_races",
        defines: &["RACES"],
        must: Must::Hold,
    },
    Walk {
        name: "model_finds_missing_second_look",
        defines: &["RACES", "WITHOUT_SECOND_LOOK", "ONLY_OVER_ADMITTED"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_brief_look_beside_claims",
        defines: &["RACES", "BRIEF_BESIDE_CLAIMS"],
        must: Must::Violate("denied_wrongly"),
    },
    Walk {
        name: "model_finds_print_without_switches",
        defines: &["RACES", "WITHOUT_SWITCHES", "ONLY_OVER_ADMITTED"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_two_readings",
        defines: &["RACES", "TWO_READINGS"],
        must: Must::Violate("denied_wrongly"),
    },
    Walk {
        name: "model_finds_missing_ticket",
        defines: &["RACES", "WITHOUT_TICKET", "ONLY_OVER_ADMITTED"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_release_without_bump",
        defines: &["RACES", "WITHOUT_BUMP_ON_RELEASE"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_bump_before_release",
        defines: &["RACES", "BUMP_FIRST"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_late_mark",
        defines: &["RACES", "MARK_LATER"],
        must: Must::Violate("denied_wrongly"),
    },
    Walk {
        name: "model_finds_denial_without_lock",
        defines: &["RACES", "DENY_WITHOUT_LOCK"],
        must: Must::Violate("denied_wrongly"),
    },
    Walk {
        name: "model_finds_core_that_counts_on_both_nodes",
        defines: &["RELOAD", "COUNTED_TWICE"],
        must: Must::Violate("over_admitted"),
    },
    Walk {
        name: "model_finds_exec_that_counts_twice",
        defines: &["RELOAD", "BOOK_BOTH"],
        must: Must::Violate("denied_wrongly"),
    },
    Walk {
        name: "model_finds_release_of_the_next_claim",
        defines: &["RACES", "RELEASE_BY_SLOT"],
        must: Must::Violate("claim_lost"),
    },
];

/// Where a walk leaves the way to a violation.
const TRAIL: &str = "claims.pml.trail";

/// Takes the walks whose name holds `filter`, `jobs` of them at a time; each
/// counts as one test.
pub(super) fn run(report: &Report, filter: Option<&str>, jobs: usize) {
    let chosen = |walk: &&Walk| filter.is_none_or(|filter| walk.name.contains(filter));
    let walks: Vec<_> = WALKS.iter().filter(chosen).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(walk) = walks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let result = take(walk);
                    report.ended("host", walk.name, start.elapsed(), &result);
                }
            });
        }
    });
}

fn take(walk: &Walk) -> Result<()> {
    let dir = build::target_dir().join("model").join(walk.name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut generate = spin(walk, &dir);
    command::output(generate.arg("-a").arg(model()))?;
    let mut compile = Command::new("gcc");
    compile.args(["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=1024"]);
    // The order in which steps are tried: this way the faults are found soon.
    compile.args(["-DP_REVERSE", "-DT_REVERSE"]);
    command::output(compile.args(["-o", "pan", "pan.c"]).current_dir(&dir))?;
    let said = command::output(Command::new(dir.join("pan")).arg("-w22").current_dir(&dir))?;
    judge(&walk.must, &said).map_err(|why| anyhow!("{why}\n{}", story(walk, &dir)))
}

/// Whether the walk that said this ended as it must.
fn judge(must: &Must, said: &str) -> Result<()> {
    let violation = said.lines().find(|line| line.starts_with("pan:1: "));
    if let Must::Violate(what) = must {
        let found = violation.is_some_and(|line| line.contains(what));
        ensure!(found, "{what} was not found:\n{said}");
        return Ok(());
    }
    if let Some(violation) = violation {
        bail!("{violation}");
    }
    let whole = said.lines().any(|line| line.ends_with(", errors: 0"))
        && !said.contains("Search not completed")
        && !said.contains("search depth too small");
    ensure!(whole, "not all states were seen:\n{said}");
    if let Must::HoldAndReachAll = must {
        let missed: Vec<_> = said.lines().filter(|line| is_missed(line)).collect();
        ensure!(missed.is_empty(), "out of reach:\n{}", missed.join("\n"));
    }
    Ok(())
}

/// The end of a process that never ends is out of reach by design.
fn is_missed(line: &str) -> bool {
    line.starts_with('\t') && line.contains(", state ") && !line.contains("\"-end-\"")
}

/// What led to a violation, told by the model.
fn story(walk: &Walk, dir: &Path) -> String {
    let mut replay = spin(walk, dir);
    replay.args(["-T", "-k", TRAIL]).arg(model());
    if !dir.join(TRAIL).exists() {
        return String::new();
    }
    match command::output(&mut replay) {
        Ok(mut text) => {
            // What follows is the value of each variable.
            text.truncate(text.find("#processes").unwrap_or(text.len()));
            text
        }
        Err(why) => format!("{why:#}"),
    }
}

fn spin(walk: &Walk, dir: &Path) -> Command {
    let mut command = Command::new("spin");
    command.args(walk.defines.iter().map(|name| format!("-D{name}")));
    command.current_dir(dir);
    command
}

fn model() -> PathBuf {
    build::repository().join("tests/model/claims.pml")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "State-vector 116 byte, depth reached 258, errors: 0\n\
                         unreached in proctype launch\n\
                         \t/x/claims.pml:436, state 483, \"-end-\"\n\t(1 of 483 states)\n";
    const VIOLATION: &str = "pan:1: assertion violated  !(over_admitted) (at depth 137)\n";

    #[test]
    fn a_whole_walk_holds() {
        assert!(judge(&Must::Hold, WHOLE).is_ok());
        assert!(judge(&Must::HoldAndReachAll, WHOLE).is_ok());
        assert!(judge(&Must::Violate("over_admitted"), WHOLE).is_err());
    }

    #[test]
    fn a_violation_counts_by_its_name() {
        assert!(judge(&Must::Hold, VIOLATION).is_err());
        assert!(judge(&Must::Violate("over_admitted"), VIOLATION).is_ok());
        assert!(judge(&Must::Violate("denied_wrongly"), VIOLATION).is_err());
    }

    #[test]
    fn a_walk_that_saw_less_does_not_hold() {
        let cut = format!("{WHOLE}Warning: Search not completed\n");
        assert!(judge(&Must::Hold, &cut).is_err());
        assert!(judge(&Must::Hold, "").is_err());
        let unreached = format!("{WHOLE}\t/x/claims.pml:239, state 453, \"lock = 1\"\n");
        assert!(judge(&Must::Hold, &unreached).is_ok());
        assert!(judge(&Must::HoldAndReachAll, &unreached).is_err());
    }
}
