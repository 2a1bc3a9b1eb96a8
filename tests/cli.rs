// SPDX-License-Identifier: GPL-2.0-only
//! The command line as a user meets it: the built binary, its exit codes and
//! its two streams.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const RULE: &str = "[[rule]]\nname = \"a\"\nexe = \"/proc/version\"\n";

fn coregate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coregate"))
        .args(args)
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A policy file with this text that only its owner can write.
fn policy(text: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().canonicalize().unwrap().join("policy.toml");
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o644);
    (folder, path.to_str().unwrap().into())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn wrong_usage_exits_with_2_and_writes_to_stderr() {
    let usages: &[&[&str]] = &[
        &[],
        &["chek"],
        &["--no-such-flag"],
        &["check"],
        &["check", "--no-such-flag", "p.toml"],
        &["check", "a.toml", "b.toml"],
        &["doctor", "extra"],
        &["doctor", "--no-such-flag"],
    ];
    for args in usages {
        let output = coregate(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(
            stderr(&output).contains("Usage"),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    assert!(stderr(&coregate(&["chek"])).contains("'check'"));
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["check", "--help"],
        &["doctor", "--help"],
    ] {
        let output = coregate(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains("coregate"), "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn check_says_ok() {
    let (_folder, path) = policy(&format!("[gate]\nmode = \"enforce\"\n{RULE}user = 0\n"));
    let output = coregate(&["check", "--strict", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        format!("{path}: ok, 1 rule, mode enforce\n")
    );
    assert_eq!(stderr(&output), "");

    let (_folder, path) = policy("");
    let output = coregate(&["check", &path]);
    assert_eq!(
        stdout(&output),
        format!("{path}: ok, 0 rules, mode observe\n")
    );
}

#[test]
fn check_shows_errors_on_stderr_without_colours() {
    let (_folder, path) = policy(&format!("[gate]\nmod = 1\n{RULE}cores = 0\n"));
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(text.contains(&format!("{path}:2:1\n")), "{text}");
    assert!(text.contains("\n2 | mod = 1\n  | ^^^\n"), "{text}");
    assert!(text.contains("help: did you mean `mode`?"), "{text}");
    assert!(text.contains(&format!("{path}:6:9\n")), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn check_names_what_this_machine_lacks() {
    let other = "[[rule]]\nname = \"b\"\nexe = \"/proc/version\"\nscope = [65535]\n";
    let (_folder, path) = policy(&format!(
        "{RULE}user = \"no-such-user\"\ncores = 65536\n{other}"
    ));
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("this machine has no user \"no-such-user\""));
    assert!(stderr(&output).contains("the largest node of this machine has"));
    assert!(stderr(&output).contains("this machine has no node 65535 with an online CPU"));
}

#[test]
fn check_warns_and_says_ok() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().canonicalize().unwrap().join("link");
    symlink("/proc/version", &link).unwrap();
    let text = format!(
        "[[rule]]\nname = \"l\"\nexe = {link:?}\nuser = 0\n\
         [[rule]]\nname = \"m\"\nexe = \"/missing\"\nuser = 0\n"
    );
    let (_folder, path) = policy(&text);
    let output = coregate(&["check", "--strict", &path]);
    assert_eq!(output.status.code(), Some(1));
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains(": ok, 2 rules"));
    let warnings: Vec<_> = stderr(&output).lines().collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("warning: {path}:1: rule \"l\": ")));
    assert!(
        warnings[0].contains("leads to \"/proc/version\""),
        "{warnings:?}"
    );
    assert!(warnings[1].contains(":5: rule \"m\": \"/missing\" cannot be found"));
}

#[test]
fn check_warns_of_a_script_that_is_to_fork() {
    let folder = TempDir::new().unwrap();
    let script = folder.path().canonicalize().unwrap().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let (_folder, path) = policy(&format!(
        "[[rule]]\nname = \"s\"\nexe = {script:?}\non = [\"exec\", \"fork\"]\n"
    ));
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(0));
    let text = stderr(&output);
    assert!(
        text.starts_with(&format!("warning: {path}:1: rule \"s\": ")),
        "{text}"
    );
    assert!(text.contains("on = \"fork\" never matches"), "{text}");
}

#[test]
fn check_answers_in_json() {
    let (_folder, path) = policy("[[rule]]\nname = \"m\"\nexe = \"/missing\"\n");
    let output = coregate(&["check", "--json", "--strict", &path]);
    assert_eq!(output.status.code(), Some(1));
    let output = coregate(&["check", "--json", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    let answer = json(&output);
    assert_eq!(answer["file"], path);
    assert_eq!(
        (&answer["ok"], &answer["rules"]),
        (&Value::Bool(true), &1.into())
    );
    assert_eq!(answer["errors"], Value::Array(Vec::new()));
    assert_eq!(answer["warnings"][0]["rule"], "m");
    assert_eq!(answer["warnings"][0]["origin"], format!("{path}:1"));

    let (_folder, path) = policy("[gate]\n  mod = 1\n");
    let output = coregate(&["check", "--json", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "");
    let answer = json(&output);
    assert_eq!(answer["ok"], false);
    let expected = serde_json::json!([{
        "line": 2,
        "column": 3,
        "message": "unknown key `mod` in [gate]",
        "hint": "did you mean `mode`?",
    }]);
    assert_eq!(answer["errors"], expected);
}

/// The file itself is at fault: no place in it, one line on stderr.
fn assert_unfit(path: &Path, expected: &str) {
    let path = path.to_str().unwrap();
    let output = coregate(&["check", path]);
    assert_eq!(output.status.code(), Some(2), "{path}");
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("coregate: ") && text.contains(path),
        "{text}"
    );
    assert!(text.contains(expected), "{text}");

    let output = coregate(&["check", "--json", path]);
    assert_eq!(output.status.code(), Some(2));
    let answer = json(&output);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["errors"][0]["line"], Value::Null);
    assert!(answer["errors"][0]["message"].is_string());
}

#[test]
fn check_refuses_files_that_cannot_be_trusted_or_read() {
    let (folder, path) = policy(RULE);
    let path = PathBuf::from(path);
    assert_unfit(
        &folder.path().join("missing.toml"),
        "No such file or directory",
    );
    assert_unfit(folder.path(), "is not a regular file");
    for mode in [0o664, 0o646] {
        set_mode(&path, mode);
        assert_unfit(&path, &format!("run: chmod go-w {}", path.display()));
    }
    set_mode(&path, 0o644);
    fs::write(&path, b"# \xe9t\xe9\n").unwrap();
    assert_unfit(&path, "is not UTF-8 in line 1");
}

#[test]
fn check_tells_what_is_no_toml() {
    let (_folder, path) = policy("[gate\n");
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("error: not valid TOML: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_names_the_limit_of_rules() {
    let rules: String = (0..16_385)
        .map(|n| format!("[[rule]]\nname=\"{n}\"\nexe=\"/{n}\"\n"))
        .collect();
    let (_folder, path) = policy(&rules);
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("16385 rules, and the gate's maps hold 16384"));
}

/// A reader that goes away early is no failure, and nothing panics.
#[test]
fn a_closed_pipe_changes_nothing() {
    let (_folder, good) = policy(RULE);
    let (_folder, bad) = policy("x = 1\n");
    for (args, code) in [
        (&["check", &good][..], Some(0)),
        (&["check", &bad], Some(2)),
        (&["check", "--json", &bad], Some(2)),
        (&["check", "/missing"], Some(2)),
        (&["--help"], Some(0)),
        (&["doctor"], coregate(&["doctor"]).status.code()),
        (&["doctor", "--json"], coregate(&["doctor"]).status.code()),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coregate"));
        let status = command
            .args(args)
            .stdout(closed())
            .stderr(closed())
            .status()
            .unwrap();
        assert_eq!(status.code(), code, "{args:?}");
    }
}

/// The writing end of a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn doctor_answers_for_this_machine() {
    let human = coregate(&["doctor"]);
    assert!(
        matches!(human.status.code(), Some(0 | 1 | 3)),
        "{:?}",
        human.status
    );
    assert_eq!(stderr(&human), "");
    assert!(!stdout(&human).contains('\x1b'));
    for line in stdout(&human).lines() {
        let is_command = line.starts_with("             ");
        assert!(line.chars().count() <= 80 || is_command, "{line:?}");
    }

    let output = coregate(&["doctor", "--json"]);
    assert_eq!(output.status.code(), human.status.code());
    let answer = json(&output);
    let needs = answer["needs"].as_array().unwrap();
    assert!(needs.len() >= 8);
    for need in needs {
        let status = need["status"].as_str().unwrap();
        assert!(
            ["ok", "limited", "missing", "unknown"].contains(&status),
            "{need}"
        );
        assert_eq!(need["remedy"].is_null(), status == "ok", "{need}");
    }
    assert_eq!(answer["exit"], human.status.code().unwrap());
    assert_eq!(answer["ok"], human.status.success());
    assert!(
        ["node", "flat", "runqueue"].contains(&answer["idle_source"]["best"].as_str().unwrap())
    );
}
