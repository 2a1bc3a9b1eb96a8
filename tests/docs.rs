// SPDX-License-Identifier: GPL-2.0-only
//! What the docs quote is what they quote it from, and each command that they have is run by a test.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "docs/commands.rs"]
mod commands;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::error::ErrorKind;
use tempfile::TempDir;

use commands::{DOCS, commands, is_usage, table, variants};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_excerpts_are_of_the_program() {
    let docs = repository().join("docs");
    let read = |name| fs::read_to_string(docs.join(name)).unwrap();
    let (text, program) = (read("idle-smtmask.md"), read("examples/idle_smtmask.bpf.c"));
    let excerpts = text.split("```c\n").skip(1);
    let excerpts: Vec<_> = excerpts.map(|part| part.split("```").next()).collect();
    assert!(excerpts.len() > 3);
    for excerpt in excerpts.into_iter().flatten() {
        assert!(program.contains(excerpt), "it has not:\n{excerpt}");
    }
}

#[test]
fn each_command_of_the_docs_is_run() {
    for file in fs::read_dir(repository().join("docs")).unwrap() {
        let path = file.unwrap().path();
        let is_doc = path.extension().is_some_and(|extension| extension == "md");
        let is_known = || DOCS.contains(&&*fs::read_to_string(&path).unwrap());
        assert!(
            !is_doc || is_known(),
            "tests/docs/commands.rs lacks {path:?}"
        );
    }
    let mut found = commands();
    let is_own_usage = |command: &str| command.starts_with("coregate ") && is_usage(command);
    found.retain(|command| !command.starts_with("cargo ") && !is_own_usage(command));
    let listed: BTreeSet<_> = table().map(|entry| entry.command).collect();
    let unknown: Vec<_> = found.difference(&listed).collect();
    assert!(
        unknown.is_empty(),
        "tests/docs/commands.rs lacks {unknown:#?}"
    );
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "the docs lack {gone:#?}");
}

#[test]
fn usages_in_the_docs_are_those_of_the_program() {
    let read = |words: &[String]| coregate::cli::command().try_get_matches_from(words);
    let found = commands();
    let usages = found
        .iter()
        .filter(|it| it.starts_with("coregate ") && is_usage(it));
    let usages: Vec<_> = usages.flat_map(|usage| variants(usage)).collect();
    assert!(usages.len() > 8, "{usages:?}");
    for words in usages {
        if let Err(error) = read(&words) {
            panic!("{words:?}: {error}");
        }
    }
    for entry in table().filter(|entry| entry.how == "name") {
        let words = entry
            .command
            .split(' ')
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let kind = read(&words).map_err(|error| error.kind()).map(drop);
        let lacks_words = [
            ErrorKind::InvalidValue,
            ErrorKind::MissingRequiredArgument,
            ErrorKind::MissingSubcommand,
        ];
        assert!(
            kind.is_err_and(|kind| lacks_words.contains(&kind)),
            "{words:?}: {kind:?}"
        );
    }
}

#[test]
fn commands_of_the_docs_that_need_no_gate_work() {
    // The repository may be checked out so that others can write it.
    let copy = "mkdir docs && cp -r \"$0\" docs/examples && chmod -R go-w docs";
    let program = Path::new(env!("CARGO_BIN_EXE_coregate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    for entry in table().filter(|entry| entry.how == "host") {
        let folder = TempDir::new().unwrap();
        let output = Command::new("sh")
            .args(["-ec", &format!("{copy}\n{}", entry.command)])
            .arg(repository().join("docs/examples"))
            .current_dir(&folder)
            .env("PATH", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(entry.says),
            "{output:?}"
        );
    }
}
