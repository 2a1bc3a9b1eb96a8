// SPDX-License-Identifier: GPL-2.0-only
//! `coregate check`: is this policy valid on this machine?

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Exit, Result, output};
use crate::policy::{Diagnostic, Policy, parse, schema};
use crate::policy_file::{
    FOLDERS, LoadError, ThisHost, Warning, counted, is_drop_in, read, warnings,
};

/// Validate a policy against this machine: its users, its cores
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy: a file, or a folder with policy.toml and drop-ins policy.d/*.toml
    #[arg(value_name = "FILE|DIR", default_value = FOLDERS.etc)]
    policy: PathBuf,

    /// Answer in JSON, on stdout, errors too
    #[arg(long)]
    json: bool,

    /// Fail, with exit code 1, if there is a warning
    #[arg(long)]
    strict: bool,

    /// Print the JSON Schema of policies instead, for editors
    #[arg(long, exclusive = true)]
    schema: bool,
}

/// One entry of `errors`; line and column are missing if the file itself, not
/// something in it, is wrong.
#[derive(Serialize)]
struct Fault {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    hint: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    /// The argument.
    file: String,
    /// What was read, in its order; none if that failed.
    files: Vec<String>,
    ok: bool,
    errors: Vec<Fault>,
    warnings: Vec<Warning>,
    rules: usize,
}

/// Runs `coregate check`.
pub(super) fn run(args: &Args) -> Result {
    if args.schema {
        output::json(&schema())?;
        return Ok(Exit::Ok);
    }
    let host = ThisHost::new();
    let mut files = Vec::new();
    let loaded = read(&args.policy).and_then(|sources| {
        let names = sources.iter().map(|source| source.name.clone());
        files.extend(names.filter(|name| !name.is_empty()));
        parse(&sources, &host).map_err(|errors| LoadError::Invalid {
            path: args.policy.clone(),
            errors,
        })
    });
    let warnings = loaded
        .as_ref()
        .map_or_else(|_| Vec::new(), |policy| all_warnings(policy, &host));
    let exit = match &loaded {
        Err(_) => Exit::Usage,
        Ok(_) if args.strict && !warnings.is_empty() => Exit::Failed,
        Ok(_) => Exit::Ok,
    };
    if args.json {
        output::json(&answer(args, files, loaded, warnings))?;
        return Ok(exit);
    }
    match loaded {
        Ok(policy) => {
            for warning in warnings {
                output::stderr(&format!("warning: {warning}"));
            }
            output::stdout(&summary(&args.policy, &files, &policy))?;
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

fn summary(path: &Path, files: &[String], policy: &Policy) -> String {
    let rules = counted(policy.rules.len(), "rule");
    let name = path.display();
    if is_drop_in(path) {
        return format!("{name}: ok as a drop-in, {rules}");
    }
    let files = match files.len() {
        1 => String::new(),
        many => format!(", {}", counted(many, "file")),
    };
    format!("{name}: ok{files}, {rules}, mode {}", policy.mode)
}

fn answer(
    args: &Args,
    files: Vec<String>,
    loaded: std::result::Result<Policy, LoadError>,
    warnings: Vec<Warning>,
) -> Answer {
    let rules = loaded.as_ref().map_or(0, |policy| policy.rules.len());
    let ok = loaded.is_ok();
    let errors = loaded.err().map_or_else(Vec::new, faults);
    Answer {
        file: args.policy.to_string_lossy().into(),
        files,
        ok,
        errors,
        warnings,
        rules,
    }
}

fn faults(error: LoadError) -> Vec<Fault> {
    let of_file = |path: &Path, message, hint| {
        vec![Fault {
            file: path.to_string_lossy().into(),
            line: None,
            column: None,
            message,
            hint,
        }]
    };
    match error {
        LoadError::Invalid { errors, .. } => errors.list().iter().map(Fault::from).collect(),
        LoadError::Unfit { path, what, remedy } => of_file(&path, what, Some(remedy)),
        LoadError::Read { ref path, .. } => of_file(path, error.to_string(), None),
    }
}

impl From<&Diagnostic> for Fault {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            file: diagnostic.file.clone(),
            line: Some(diagnostic.line),
            column: Some(diagnostic.column),
            message: diagnostic.message.clone(),
            hint: Some(diagnostic.hint.clone()),
        }
    }
}
