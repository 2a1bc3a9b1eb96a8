// SPDX-License-Identifier: GPL-2.0-only
//! `coregate mode`: another mode than the policy's, and another policy beside the one that holds.

use std::path::{PathBuf, absolute};
use std::time::Duration;

use anyhow::Context;
use clap::ArgGroup;
use humantime::parse_duration;
use nix::unistd::{Uid, User};

use super::{Error, Exit, Result, output};
use crate::daemon::{NoDaemon, Question, Turned, ask};
use crate::gate::kept;
use crate::gate::order::{self, Order, Step, now};
use crate::policy::Mode;
use crate::policy_file::read;
use crate::report::{Severity, Sinks};

/// Deny nothing for a while, or begin to; rehearse another policy before it holds
///
/// What is said here goes before the policy, over reloads and restarts of the daemon, until its time
/// is over or 'coregate mode policy'. It works without a daemon too.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub(super) struct Args {
    #[command(subcommand)]
    step: Words,
}

#[derive(Debug, clap::Subcommand)]
enum Words {
    /// Deny nothing, whatever the policy says
    Observe {
        /// How long, such as 10m; the gate ends it by itself [default: until 'coregate mode policy']
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        lasts: Option<Duration>,
        #[command(flatten)]
        why: Why,
    },
    /// Deny, though the policy only observes
    #[command(group = ArgGroup::new("end"))]
    Enforce {
        /// How long; then as the policy says [default: until 'coregate mode policy']
        #[arg(long = "for", value_name = "TIME", value_parser = time, group = "end")]
        lasts: Option<Duration>,
        /// Go back to observe after this time, unless 'coregate mode confirm' comes before
        #[arg(long, value_name = "TIME", value_parser = time, group = "end")]
        confirm: Option<Duration>,
        #[command(flatten)]
        why: Why,
    },
    /// Let the mode stand that goes back to observe otherwise
    Confirm,
    /// Go by the policy again
    Policy,
    /// Let each launch be judged by this policy too, without effect; 'coregate status' shows the
    /// differences
    Rehearse {
        /// The policy: a file, or a folder with policy.toml and drop-ins policy.d/*.toml
        #[arg(value_name = "FILE|DIR")]
        policy: PathBuf,
    },
    /// Let the rehearsed policy hold from now on, until the daemon reads its own again
    Promote,
    /// End the rehearsal; nothing changes
    Drop,
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Why, for the log and 'coregate status'
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
}

/// A time as it is given on the command line.
pub(super) fn time(text: &str) -> std::result::Result<Duration, String> {
    match parse_duration(text) {
        Ok(time) if time < Duration::from_secs(1) => Err("at least 1s".into()),
        Ok(time) if time > Duration::from_secs(366 * 24 * 3600) => Err("at most a year".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write a number and its unit, such as 10m")),
    }
}

/// Runs `coregate mode`.
pub(super) fn run(args: &Args) -> Result {
    match &args.step {
        Words::Observe { lasts, why } => give(Mode::Observe, *lasts, None, why)?,
        Words::Enforce {
            lasts,
            confirm: None,
            why,
        } => give(Mode::Enforce, *lasts, None, why)?,
        Words::Enforce { confirm, why, .. } => {
            give(Mode::Enforce, *confirm, Some(Mode::Observe), why)?;
        }
        Words::Confirm => order(&Step::Confirm)?,
        Words::Policy => order(&Step::End)?,
        Words::Rehearse { policy } => {
            let path = absolute(policy).context("cannot name the policy's place")?;
            let sources = read(&path).map_err(Error::usage)?;
            let turned: Turned = ask(&Question::Rehearse { sources })?;
            output::stdout(&format!(
                "rehearsed beside generation {}: mode {}, rules {}; see 'coregate status', then \
                 'coregate mode promote' or 'coregate mode drop'",
                turned.generation, turned.mode, turned.rules
            ))?;
        }
        Words::Promote => {
            let turned: Turned = ask(&Question::Promote)?;
            output::stdout(&format!(
                "promoted: {turned}; put it in place of the daemon's policy too, or the next \
                 reload goes back to that"
            ))?;
        }
        Words::Drop => {
            let turned: Turned = ask(&Question::Drop)?;
            output::stdout(&format!("rehearsal ended: {turned}"))?;
        }
    }
    Ok(Exit::Ok)
}

fn give(mode: Mode, lasts: Option<Duration>, after: Option<Mode>, why: &Why) -> anyhow::Result<()> {
    order(&Step::Give(Order {
        mode,
        left_ms: lasts.map(|time| time.as_millis() as u64),
        after,
        by: who(),
        reason: why.reason.clone(),
        since: now(),
    }))
}

/// The user who logged in, also behind sudo; else whoever this process runs for.
fn who() -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|uid| uid.trim().parse().ok());
    let uid = login.filter(|uid| *uid != u32::MAX).map(Uid::from_raw);
    let uid = uid.unwrap_or_else(Uid::current);
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

/// Asks the daemon or, if there is none, tells the gate that stands without one.
fn order(step: &Step) -> anyhow::Result<()> {
    let question = Question::Order { step: step.clone() };
    let error = match ask::<Turned>(&question) {
        Ok(turned) => return output::stdout(&turned.to_string()),
        Err(error) => error,
    };
    let kept = match kept::standing() {
        Some(kept) if error.is::<NoDaemon>() => kept,
        _ => return Err(error),
    };
    order::take(&kept, step)??;
    let said = match order::given(&kept)? {
        Some(order) => order.to_string(),
        None => "as the policy says".into(),
    };
    // Where the daemon's policy has it logged is not known here.
    Sinks::system().message(Severity::LOG_WARNING, &format!("mode by order: {said}"));
    output::stdout("no daemon runs; the gate goes by it all the same")
}
