// SPDX-License-Identifier: GPL-2.0-only
//! Schedulers that other people make, as their crates build them: what the gate reads under each,
//! whether it judges right, and that it harms none. One line of JSON for each.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::gate::Gate;
use crate::idle::{SERVER, swap_under_storm};
use crate::launch::program;
use crate::machine::{is_guest, wait_for};
use crate::random::Launches;
use crate::schedulers::{Ends, KernelLog, settle, state, wait_until_none};

/// The word after the program's name for all of this.
pub(crate) const WORD: &str = "others";

/// Their programs, and what they are told: with more than one node the first two track idleness by
/// node, unless they are told not to.
const OTHERS: &[&[&str]] = &[
    &["scx_bpfland"],
    &["scx_bpfland", "--disable-numa"],
    &["scx_cosmos"],
    &["scx_cosmos", "--disable-numa"],
    &["scx_lavd"],
    &["scx_rusty"],
];

const LAUNCHES: usize = 300;
const LOG: &str = "/tmp/other.log";
/// Under emulation the largest of them is verified for half a minute, on a busy machine for longer.
const PATIENCE: Duration = Duration::from_secs(400);
/// How the kernel ends one that lets a task wait for too long, whoever else there is.
const STALL: &str = "runnable task stall";

/// A scheduler in force, with the program that loaded it.
struct Other(Child);

impl Other {
    fn start(words: &[&str]) -> Result<Self> {
        let log = File::create(LOG)?;
        let child = Command::new(format!("/bin/{}", words[0]))
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", words[0]))?;
        let mut other = Self(child);
        wait_for("the scheduler is in force, or gone", PATIENCE, || {
            state() == "enabled" || !other.lives()
        })?;
        ensure!(other.lives() && state() == "enabled", "{}", last_line()?);
        Ok(other)
    }

    fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// What it said last.
fn last_line() -> Result<String> {
    let log = fs::read_to_string(LOG)?;
    let line = log.lines().rfind(|line| !line.trim().is_empty());
    Ok(line
        .unwrap_or("it ended and said nothing")
        .trim()
        .to_owned())
}

/// Serves: prints `row JSON` for each scheduler, then `swaps JSON` for all of them in turn under a
/// storm of launches.
pub(crate) fn serve() -> Result<()> {
    ensure!(is_guest(), "this is no guest");
    let mut storage = MaybeUninit::uninit();
    let mut launches = Launches::start(&mut storage)?;
    let mut loadable = Vec::new();
    for words in OTHERS {
        println!("row {}", row(words, &mut launches, &mut loadable)?);
    }
    launches.end()?;

    program(SERVER)?;
    let _gate = Gate::start(&Gate::policy("observe", SERVER, ""))?;
    let ends = swap_under_storm(2 * loadable.len(), |swap| {
        Other::start(loadable[swap % loadable.len()])
    })?;
    println!(
        "swaps {}",
        json!({"ended": ends.unregistered, "harmed": ends.harmed})
    );
    ensure!(ends.harmed.iter().all(|line| line.contains(STALL)));
    ensure!(ends.unregistered + ends.harmed.len() == 2 * loadable.len());
    Ok(())
}

fn row(
    words: &'static [&'static str],
    launches: &mut Launches<'_>,
    loadable: &mut Vec<&'static [&'static str]>,
) -> Result<serde_json::Value> {
    let mut log = KernelLog::from_now()?;
    let mut other = match Other::start(words) {
        Ok(other) => other,
        Err(why) => {
            wait_until_none()?;
            return Ok(json!({"scheduler": words.join(" "), "fails": why.to_string()}));
        }
    };
    loadable.push(words);
    settle(launches.gate())?;
    let status = launches.gate().status()?;
    let wrong = launches.wrong();
    let mut count = 0;
    while count < LAUNCHES && other.lives() && state() == "enabled" {
        launches.one()?;
        count += 1;
    }
    drop(other);
    wait_until_none()?;
    let ends = Ends::read(&mut log)?;
    let stalls = ends.harmed.iter().all(|line| line.contains(STALL));
    ensure!(
        stalls && ends.harmed.len() + ends.unregistered == 1,
        "{words:?}: {ends:?}"
    );
    Ok(json!({
        "scheduler": words.join(" "),
        "source": status["source"],
        "launches": count,
        "stalled": !ends.harmed.is_empty(),
        "wrong": launches.wrong() - wrong,
    }))
}
