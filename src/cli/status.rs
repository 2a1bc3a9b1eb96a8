// SPDX-License-Identifier: GPL-2.0-only
//! `coregate status`: how the gate stands.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::terminal::{ENDS, Interrupt, Interrupts, Screen, room};
use super::{Exit, Result, output};
use crate::daemon::{Question, ask};
use crate::kernel::SchedExt;
use crate::policy_file::{ThisHost, Warning, load, warnings};
use crate::report::{Status, Surroundings};

/// Say how the gate stands: what is wrong first, then mode, idle source, free cores, counts of rules
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say it in JSON
    #[arg(long)]
    json: bool,

    /// Say it again every so many seconds, until Ctrl-C; in JSON, one object a line
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
}

/// Runs `coregate status`.
pub(super) fn run(args: &Args) -> Result {
    let status: Status = ask(&Question::Status)?;
    match args.watch {
        Some(seconds) => watch(args, status, Duration::from_secs(seconds))?,
        None if args.json => output::json(&status)?,
        None => {
            let text = status.screen(&status.concerns(&surroundings(&status)), room());
            output::stdout(text.trim_end())?;
        }
    }
    Ok(Exit::Ok)
}

fn surroundings(status: &Status) -> Surroundings {
    Surroundings {
        sched_ext: SchedExt::read(Path::new("/")).is_some(),
        warnings: policy_warnings(Path::new(&status.policy)),
    }
}

/// What `coregate check` warns of. Who may not read the policy is told nothing of it, and what is
/// wrong in it now was said by the daemon, if it is to hold.
fn policy_warnings(path: &Path) -> Vec<Warning> {
    let host = ThisHost::new();
    load(path, &host).map_or_else(|_| Vec::new(), |policy| warnings(&policy, &host))
}

/// Says it again and again. On a terminal the daemon may go away meanwhile, and come back.
fn watch(args: &Args, first: Status, pause: Duration) -> anyhow::Result<()> {
    let interrupts = Interrupts::hold(&[&ENDS[..], &[Signal::SIGWINCH]].concat())?;
    let around = surroundings(&first);
    let screen = (!args.json && io::stdout().is_terminal()).then(Screen::open);
    let screen = screen.transpose()?;
    let mut answer = Ok(first);
    loop {
        let text = match &answer {
            Ok(status) if args.json => serde_json::to_string(status)?,
            Ok(status) => status.screen(&status.concerns(&around), room()),
            Err(error) => format!("{error:#}"),
        };
        let is_read = match &screen {
            Some(screen) => screen.show(&text)?,
            None => output::is_read(&text)?,
        };
        if !is_read {
            return Ok(());
        }
        match interrupts.wait(pause)? {
            Interrupt::End => return Ok(()),
            Interrupt::Resize => {}
            Interrupt::None => answer = ask(&Question::Status),
        }
        if screen.is_none() && answer.is_err() {
            return answer.map(drop);
        }
    }
}
