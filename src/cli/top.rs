// SPDX-License-Identifier: GPL-2.0-only
//! `coregate top`: the cores as a picture, who holds them, and what is denied.

mod draw;
mod picture;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use nix::time::{ClockId, clock_gettime};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use serde::Serialize;

use super::terminal::{ENDS, Interrupt, Interrupts};
use super::{Error, Exit, Result, output};
use crate::daemon::{PATIENCE, Question, ask, ask_on};
use crate::report::{Cores, Event, Status};
use view::{Next, View};

/// Show what each core does, who holds cores, and what is denied
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say it once, in JSON
    #[arg(long)]
    json: bool,
}

/// So many denials are asked for.
const DENIALS: usize = 50;

/// The time from one look to the next: at least this, and so long that a look takes a hundredth of
/// it, of which the daemon has half.
const PAUSE: Duration = Duration::from_secs(1);
const SHARE: u32 = 200;

/// What the daemon says at one moment.
#[derive(Clone, Debug, Serialize)]
struct Sight {
    #[serde(skip)]
    time: SystemTime,
    #[serde(skip)]
    moment: Instant,
    status: Status,
    #[serde(flatten)]
    cores: Cores,
    denials: Vec<Event>,
}

impl Sight {
    fn ask() -> anyhow::Result<Self> {
        let mut denials = Vec::new();
        let question = Question::Denials { last: DENIALS };
        ask_on(&question, Some(PATIENCE), |event| {
            denials.push(event);
            Ok(())
        })?;
        Ok(Self {
            status: ask(&Question::Status)?,
            cores: ask(&Question::Cores)?,
            denials,
            time: SystemTime::now(),
            moment: Instant::now(),
        })
    }
}

/// Runs `coregate top`.
pub(super) fn run(args: &Args) -> Result {
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.json && !is_terminal {
        return Err(Error::usage(anyhow!(
            "'coregate top' needs a terminal; 'coregate top --json' and 'coregate status --watch' \
             do not"
        )));
    }
    let sight = Sight::ask()?;
    if args.json {
        output::json(&sight)?;
        return Ok(Exit::Ok);
    }
    let ends = Interrupts::hold(&ENDS)?;
    let mut terminal = ratatui::try_init().context("cannot draw on the terminal")?;
    let mut view = View::new(output::stdout_is_styled());
    view.see(sight);
    let shown = show(&mut terminal, &mut view, &ends);
    ratatui::restore();
    shown?;
    Ok(Exit::Ok)
}

/// Looks and draws until it is told to end. The daemon may go away meanwhile, and come back.
fn show(terminal: &mut DefaultTerminal, view: &mut View, ends: &Interrupts) -> anyhow::Result<()> {
    let mut spent = cpu_time()?;
    let mut next_look = Instant::now() + PAUSE;
    loop {
        terminal.draw(|frame| draw::draw(frame, view))?;
        if wait(view, ends, next_look)? == Next::End {
            return Ok(());
        }
        if Instant::now() < next_look {
            continue;
        }
        if !view.is_paused() {
            match Sight::ask() {
                Ok(sight) => view.see(sight),
                Err(error) => view.miss(format!("{error:#}")),
            }
        }
        let before = std::mem::replace(&mut spent, cpu_time()?);
        next_look = Instant::now() + PAUSE.max(SHARE * (spent - before));
    }
}

/// Waits for an input, or until this moment.
fn wait(view: &mut View, ends: &Interrupts, until: Instant) -> anyhow::Result<Next> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Signals do not end a poll.
        if event::poll(left.min(PAUSE))? {
            return Ok(view.take(&event::read()?));
        }
        if ends.wait(Duration::ZERO)? == Interrupt::End {
            return Ok(Next::End);
        }
        if left.is_zero() {
            return Ok(Next::GoOn);
        }
    }
}

/// How long this process has run on CPUs.
fn cpu_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Ok(time.context("cannot read a clock")?.into())
}
