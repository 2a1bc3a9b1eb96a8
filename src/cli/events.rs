// SPDX-License-Identifier: GPL-2.0-only
//! `coregate events`: the verdicts that the daemon remembers, and those that come.

use std::time::SystemTime;

use anyhow::anyhow;

use super::{Exit, Result, output};
use crate::daemon::{PATIENCE, Question, ask_on};
use crate::report::Event;

/// Show verdicts: those that the daemon remembers, oldest first, and those that come
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with the events that come
    #[arg(long, short)]
    follow: bool,

    /// Show them in JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Of this rule only
    #[arg(long)]
    rule: Option<String>,

    /// Since this time only: RFC 3339, such as 2026-11-25T13:00:00Z, or so long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
}

/// Runs `coregate events`.
pub(super) fn run(args: &Args) -> Result {
    let question = Question::Events {
        follow: args.follow,
    };
    let patience = (!args.follow).then_some(PATIENCE);
    ask_on(&question, patience, |event: Event| {
        let of_rule = args.rule.as_ref().is_none_or(|rule| *rule == event.rule);
        let recent = args.since.is_none_or(|since| event.time >= since);
        if !(of_rule && recent) {
            return Ok(());
        }
        if args.json {
            output::stdout(&serde_json::to_string(&event)?)
        } else {
            output::stdout(&format!("{event}"))
        }
    })?;
    Ok(Exit::Ok)
}

/// The moment that `text` stands for.
fn moment(text: &str) -> anyhow::Result<SystemTime> {
    if let Ok(moment) = humantime::parse_rfc3339_weak(text) {
        return Ok(moment);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        anyhow!("this is no time: write 2026-11-25T13:00:00Z, or 5m for so long ago")
    })?;
    SystemTime::now()
        .checked_sub(ago)
        .ok_or_else(|| anyhow!("that is too long ago"))
}
