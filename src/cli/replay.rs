// SPDX-License-Identifier: GPL-2.0-only
//! `coregate replay`: what would another policy change?

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::{Error, Exit, Result, output};
use crate::policy::{Host, HostNode};
use crate::policy_file::{ThisHost, load};
use crate::report::{Event, replay};

/// Say what another policy would change of recorded launches
///
/// Each launch is judged by what its event says of it and of the cores at that
/// moment; what cannot be told from that is told apart. It needs no daemon and
/// no privileges. Users, groups and links in paths are those of this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Launches as `coregate events --json` has them, one in a line; - for stdin
    #[arg(long, value_name = "FILE")]
    events: PathBuf,

    /// The other policy
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,

    /// Fail, with exit code 1, if anything changes or cannot be told
    #[arg(long)]
    check: bool,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs `coregate replay`.
pub(super) fn run(args: &Args) -> Result {
    let policy = load(&args.policy, &AnyCores(ThisHost::new())).map_err(Error::usage)?;
    let events = read(&args.events).map_err(Error::usage)?;
    let changes = replay(&policy, &events);
    if args.json {
        output::json(&changes)?;
    } else {
        output::stdout(&changes.to_string())?;
    }
    let differs = changes.count_changed() + changes.count_unknown() > 0;
    Ok(if args.check && differs {
        Exit::Failed
    } else {
        Exit::Ok
    })
}

/// The events in a file, or on stdin for `-`; blank lines are passed over.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let lines: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut events = Vec::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let place = || format!("{}:{number}", path.display());
        let line = line.with_context(|| format!("cannot read {}", place()))?;
        if line.trim().is_empty() {
            continue;
        }
        let event = serde_json::from_str(&line)
            .map_err(|error| anyhow!("{}: not an event: {error}", place()))?;
        events.push(event);
    }
    Ok(events)
}

/// This machine, but for its cores: the launches may be those of another one.
struct AnyCores(ThisHost);

impl Host for AnyCores {
    fn uid(&self, name: &str) -> std::result::Result<Option<u32>, String> {
        self.0.uid(name)
    }

    fn gid(&self, name: &str) -> std::result::Result<Option<u32>, String> {
        self.0.gid(name)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        self.0.resolve(path)
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        None
    }
}
