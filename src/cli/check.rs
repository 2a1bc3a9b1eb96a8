// SPDX-License-Identifier: GPL-2.0-only
//! `coregate check`: is this policy valid on this machine?

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Exit, Result, output};
use crate::policy::{Diagnostic, Policy};
use crate::policy_file::{LoadError, ThisHost, Warning, load, warnings};

/// Validate a policy against this machine: its users, its cores
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy file
    file: PathBuf,

    /// Answer in JSON, on stdout, errors too
    #[arg(long)]
    json: bool,

    /// Fail, with exit code 1, if there is a warning
    #[arg(long)]
    strict: bool,
}

/// One entry of `errors`; line and column are missing if the file itself, not
/// something in it, is wrong.
#[derive(Serialize)]
struct Fault {
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    hint: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    ok: bool,
    errors: Vec<Fault>,
    warnings: Vec<Warning>,
    rules: usize,
}

/// Runs `coregate check`.
pub(super) fn run(args: &Args) -> Result {
    let host = ThisHost::new();
    let loaded = load(&args.file, &host);
    let warnings = loaded
        .as_ref()
        .map_or_else(|_| Vec::new(), |policy| all_warnings(policy, &host));
    let exit = match &loaded {
        Err(_) => Exit::Usage,
        Ok(_) if args.strict && !warnings.is_empty() => Exit::Failed,
        Ok(_) => Exit::Ok,
    };
    if args.json {
        output::json(&answer(&args.file, loaded, warnings))?;
        return Ok(exit);
    }
    match loaded {
        Ok(policy) => {
            for warning in warnings {
                output::stderr(&format!("warning: {warning}"));
            }
            output::stdout(&summary(&args.file, &policy))?;
        }
        Err(LoadError::Invalid { errors, .. }) => {
            output::stderr(&errors.render(output::stderr_is_styled()));
        }
        Err(other) => output::stderr(&format!("coregate: {other}")),
    }
    Ok(exit)
}

fn all_warnings(policy: &Policy, host: &ThisHost) -> Vec<Warning> {
    host.warning()
        .into_iter()
        .chain(warnings(policy, host))
        .collect()
}

fn summary(file: &Path, policy: &Policy) -> String {
    let rules = policy.rules.len();
    let s = if rules == 1 { "" } else { "s" };
    format!(
        "{}: ok, {rules} rule{s}, mode {}",
        file.display(),
        policy.mode
    )
}

fn answer(
    file: &Path,
    loaded: std::result::Result<Policy, LoadError>,
    warnings: Vec<Warning>,
) -> Answer {
    let rules = loaded.as_ref().map_or(0, |policy| policy.rules.len());
    let ok = loaded.is_ok();
    let errors = loaded.err().map_or_else(Vec::new, faults);
    Answer {
        file: file.to_string_lossy().into(),
        ok,
        errors,
        warnings,
        rules,
    }
}

fn faults(error: LoadError) -> Vec<Fault> {
    let of_file = |message, hint| {
        vec![Fault {
            line: None,
            column: None,
            message,
            hint,
        }]
    };
    match error {
        LoadError::Invalid { errors, .. } => errors.list().iter().map(Fault::from).collect(),
        LoadError::Unfit { what, remedy, .. } => of_file(what, Some(remedy)),
        LoadError::Read { .. } => of_file(error.to_string(), None),
    }
}

impl From<&Diagnostic> for Fault {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            line: Some(diagnostic.line),
            column: Some(diagnostic.column),
            message: diagnostic.message.clone(),
            hint: Some(diagnostic.hint.clone()),
        }
    }
}
