// SPDX-License-Identifier: GPL-2.0-only
//! The command line: one file per subcommand; this one maps arguments to them
//! and errors to exit codes.

mod check;
mod companion;
mod daemon;
mod detach;
mod doctor;
mod events;
mod explain;
mod metrics;
mod mode;
mod output;
mod reload;
mod replay;
mod run;
mod status;
mod suggest;
mod terminal;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::daemon::Refusal;

/// Exit codes of every subcommand.
///
/// `coregate run` alone differs: it passes the program's own code on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Yes, or done.
    Ok = 0,
    /// No, denied, or failed.
    Failed = 1,
    /// Wrong usage, or an invalid policy.
    Usage = 2,
    /// This kernel lacks what is needed.
    Kernel = 3,
    /// `coregate run` cannot execute the program, as env(1) says it.
    NotExecutable = 126,
    /// It has not found it.
    NotFound = 127,
}

/// An error on its way to the user: the text, and the exit code it means.
#[derive(Debug, thiserror::Error)]
#[error("{source:#}")]
pub struct Error {
    exit: Exit,
    source: anyhow::Error,
}

impl Error {
    /// Wrong usage or an invalid policy (exit code 2).
    pub fn usage(source: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Usage,
            source: source.into(),
        }
    }

    /// This kernel lacks what is needed (exit code 3).
    pub fn kernel(source: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Kernel,
            source: source.into(),
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(source: anyhow::Error) -> Self {
        let refusal = source.downcast_ref::<Refusal>();
        let exit = match refusal {
            Some(refusal) if refusal.invalid => Exit::Usage,
            _ => Exit::Failed,
        };
        Self { exit, source }
    }
}

/// What a subcommand answers.
pub type Result = std::result::Result<Exit, Error>;

/// Start programs only where a whole physical core is free.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = false)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Daemon(daemon::Args),
    Detach(detach::Args),
    Companion(companion::Args),
    Reload(reload::Args),
    Mode(mode::Args),
    Explain(Box<explain::Args>),
    Replay(replay::Args),
    Run(run::Args),
    Suggest(suggest::Args),
    Status(status::Args),
    Top(top::Args),
    Events(events::Args),
    Metrics(metrics::Args),
    Doctor(doctor::Args),
}

/// What the command line takes, for its manual pages and its completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Args::try_parse() {
        Ok(args) => run(&args.command),
        Err(error) if error.use_stderr() => error.exit(),
        // Help, or the version.
        Err(asked) => output::stdout(asked.render().ansi().to_string().trim_end())
            .map(|()| Exit::Ok)
            .map_err(Into::into),
    };
    let exit = result.unwrap_or_else(|error| {
        output::stderr(&format!("coregate: {error}"));
        error.exit
    });
    ExitCode::from(exit as u8)
}

fn run(command: &Command) -> Result {
    match command {
        Command::Check(args) => check::run(args),
        Command::Daemon(args) => daemon::run(args),
        Command::Detach(args) => detach::run(args),
        Command::Companion(args) => companion::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Mode(args) => mode::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Run(args) => run::run(args),
        Command::Suggest(args) => suggest::run(args),
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(args),
        Command::Events(args) => events::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Doctor(args) => doctor::run(args),
    }
}
