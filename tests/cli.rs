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
use std::process::{Command, Output};

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
fn check_prints_the_schema_that_is_shipped() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/policy.schema.json");
    let output = coregate(&["check", "--schema"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output) == fs::read_to_string(shipped).unwrap(),
        "run: coregate check --schema > policy.schema.json"
    );
}

#[test]
fn check_says_ok() {
    let gate = "[gate]\nmode = \"enforce\"\non_unknown = \"admit\"\n";
    let (_folder, path) = policy(&format!("{gate}{RULE}user = 0\n"));
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
    assert_eq!(answer["files"], serde_json::json!([path]));
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
        "file": path,
        "line": 2,
        "column": 3,
        "message": "unknown key `mod` in [gate]",
        "hint": "did you mean `mode`?",
    }]);
    assert_eq!(answer["errors"], expected);
}

/// The file itself is at fault: no place in it, one line on stderr.
fn assert_unfit(path: &Path, expected: &str) {
    assert_unfit_in(path.to_str().unwrap(), path, expected);
}

/// A file or folder of the policy is.
fn assert_unfit_in(policy: &str, path: &Path, expected: &str) {
    let path = path.to_str().unwrap();
    let output = coregate(&["check", policy]);
    assert_eq!(output.status.code(), Some(2), "{path}");
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("coregate: ") && text.contains(path),
        "{text}"
    );
    assert!(text.contains(expected), "{text}");

    let output = coregate(&["check", "--json", policy]);
    assert_eq!(output.status.code(), Some(2));
    let answer = json(&output);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["errors"][0]["file"], path);
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
    for mode in [0o664, 0o646] {
        set_mode(&path, mode);
        assert_unfit(&path, &format!("run: chmod go-w {}", path.display()));
    }
    set_mode(&path, 0o644);
    fs::write(&path, b"# \xe9t\xe9\n").unwrap();
    assert_unfit(&path, "is not UTF-8 in line 1");
}

/// A folder with this policy file and these drop-ins.
fn policies(policy_file: &str, drop_ins: &[(&str, &str)]) -> (TempDir, String) {
    let (folder, path) = policy(policy_file);
    let top = Path::new(&path).parent().unwrap();
    fs::create_dir(top.join("policy.d")).unwrap();
    set_mode(&top.join("policy.d"), 0o755);
    for (name, text) in drop_ins {
        let path = top.join("policy.d").join(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
    }
    let top = top.to_str().unwrap().into();
    (folder, top)
}

#[test]
fn check_reads_a_folder_as_one_policy() {
    let rule = |name: &str| RULE.replace("\"a\"", &format!("{name:?}")) + "user = 7\n";
    let gate = "[gate]\nmode = \"enforce\"\non_unknown = \"deny\"\n";
    let drop_ins = [("20-c.toml", rule("c")), ("10-b.toml", rule("b"))];
    let drop_ins = drop_ins
        .each_ref()
        .map(|(name, text)| (*name, text.as_str()));
    let (_folder, top) = policies(gate, &drop_ins);
    let output = coregate(&["check", &top]);
    assert_eq!(output.status.code(), Some(0));
    let ok = format!("{top}: ok, 3 files, 2 rules, mode enforce\n");
    assert_eq!(stdout(&output), ok);
    let shadowed = format!(
        "warning: {top}/policy.d/20-c.toml:1: rule \"c\": it never matches: the rules before it \
         match all of its launches, \"b\" of {top}/policy.d/10-b.toml:1 for one; move it up, or \
         take it out\n"
    );
    assert_eq!(stderr(&output), shadowed);

    let answer = json(&coregate(&["check", "--json", &top]));
    let files = ["policy.toml", "policy.d/10-b.toml", "policy.d/20-c.toml"];
    let files = files.map(|file| format!("{top}/{file}"));
    assert_eq!(answer["file"], top);
    assert_eq!(answer["files"], serde_json::json!(files));
    assert_eq!(answer["rules"], 2);
    assert_eq!(answer["warnings"][0]["origin"], files[2].clone() + ":1");
}

#[test]
fn check_tells_in_which_file_a_mistake_is() {
    let gate = "[gate]\nmode = \"enforce\"\n";
    let drop_ins = [("b.toml", gate), ("a.toml", RULE)];
    let (_folder, top) = policies(&format!("[gate]\nmod = 1\n{RULE}"), &drop_ins);
    let output = coregate(&["check", &top]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let places = [
        "policy.toml:2:1",
        "policy.d/a.toml:2:8",
        "policy.d/b.toml:1:1",
    ];
    let found = stderr(&output)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--> "));
    assert_eq!(
        found.collect::<Vec<_>>(),
        places.map(|place| format!("{top}/{place}"))
    );

    let answer = json(&coregate(&["check", "--json", &top]));
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["files"].as_array().unwrap().len(), 3);
    let errors = answer["errors"].as_array().unwrap();
    let found = errors.iter().map(|error| {
        let file = error["file"].as_str().unwrap();
        format!("{file}:{}:{}", error["line"], error["column"])
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        places.map(|place| format!("{top}/{place}"))
    );
}

#[test]
fn check_takes_a_file_in_policy_d_for_a_drop_in() {
    let gate = "[gate]\nmode = \"enforce\"\n";
    let (_folder, top) = policies("", &[("a.toml", RULE), ("b.toml", gate)]);
    let drop_ins = format!("{top}/policy.d");
    for (folder, name) in [(&top, "policy.d/a.toml"), (&drop_ins, "a.toml")] {
        let output = Command::new(env!("CARGO_BIN_EXE_coregate"))
            .args(["check", name])
            .current_dir(folder)
            .output()
            .unwrap();
        assert_eq!(
            stdout(&output),
            format!("{name}: ok as a drop-in, 1 rule\n")
        );
    }
    let path = format!("{drop_ins}/b.toml");
    let output = coregate(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    let refused = "error: [gate] stands in the policy file only, and this is a drop-in";
    assert!(stderr(&output).starts_with(refused), "{}", stderr(&output));
    let answer = json(&coregate(&["check", "--json", &path]));
    assert_eq!(answer["files"], serde_json::json!([path]));
    assert_eq!(answer["errors"][0]["file"], path);

    // As Ansible has it: the new text, in a file that is somewhere else.
    let (_folder, path) = policy(gate);
    assert_eq!(coregate(&["check", &path]).status.code(), Some(0));
}

#[test]
fn check_refuses_folders_that_cannot_be_trusted_or_read() {
    let (_folder, top) = policies("", &[("a.toml", RULE)]);
    let drop_ins = PathBuf::from(&top).join("policy.d");
    set_mode(&drop_ins, 0o775);
    let written = "can be written by others than its owner (mode 0775)";
    assert_unfit_in(&top, &drop_ins, written);
    set_mode(&drop_ins, 0o755);
    symlink("/dev/zero", drop_ins.join("b.toml")).unwrap();
    assert_unfit_in(&top, &drop_ins.join("b.toml"), "is not a regular file");
    fs::remove_file(drop_ins.join("b.toml")).unwrap();
    symlink("/dev/null", drop_ins.join("b.toml")).unwrap();
    assert_eq!(coregate(&["check", &top]).status.code(), Some(0));
    let policy_file = Path::new(&top).join("policy.toml");
    fs::remove_file(&policy_file).unwrap();
    assert_unfit_in(&top, &policy_file, "No such file or directory");
}

#[test]
fn check_takes_the_policy_of_this_machine_if_it_is_not_told_which() {
    let [default, named] = [
        &["check", "--json"][..],
        &["check", "--json", "/etc/coregate"],
    ]
    .map(coregate);
    assert_eq!(json(&default)["file"], "/etc/coregate");
    assert_eq!(
        (default.status, json(&default)),
        (named.status, json(&named))
    );
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

/// An event of a launch that was denied for want of a core, as `coregate events --json` has it.
fn event(id: u64, exe: &str) -> Value {
    serde_json::json!({
        "time": "2026-03-01T12:00:00.250000Z", "id": id, "verdict": "deny", "effect": "denied",
        "rule": "a", "origin": "p.toml:1", "hook": "exec", "pid": 117, "uid": 0, "gid": 0,
        "groups": [], "comm": "sh", "exe": exe, "argv": null, "parent": null,
        "unit": "a.service", "cgroup": "/system.slice/a.service", "container": false, "cpu": 5,
        "node": 1, "cores_needed": 1, "scope": "node", "own_core": true, "cores_free": 0,
        "cores_claimed": 0, "source": "node", "errno": "EAGAIN", "mode": "enforce",
        "generation": 1, "suppressed": 0,
    })
}

/// A file of such events, with blank lines.
fn events(folder: &TempDir, events: &[Value]) -> String {
    let path = folder.path().join("events.jsonl");
    let lines: String = events.iter().map(|event| format!("{event}\n\n")).collect();
    fs::write(&path, lines).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn replay_tells_what_would_change() {
    let gate = "[gate]\nmode = \"enforce\"\n";
    let (folder, same) = policy(&format!("{gate}{RULE}"));
    let recorded = [event(0, "/proc/version"), event(1, "/proc/version")];
    let file = events(&folder, &recorded);
    let replay = |policy: &str, more: &[&str]| {
        coregate(&[&["replay", "--events", &file, "--policy", policy], more].concat())
    };
    let output = replay(&same, &["--check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "2 launches: 0 would change\n");

    // No machine has so many cores: what counts is where the launches were recorded.
    let (_other, other) = policy(&RULE.replace("\"a\"", "\"b\"\ncores = 65536"));
    let output = replay(&other, &[]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "\
launches  before     after      for example
       2  a: denied  b: logged  /proc/version (user 0, id 0)

2 launches: 2 would change
";
    assert_eq!(stdout(&output), expected);
    assert_eq!(replay(&other, &["--check"]).status.code(), Some(1));

    let (_asks, asks) = policy(&format!("{RULE}argv = \"-x\"\n"));
    let output = replay(&asks, &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let answer = json(&output);
    assert_eq!(
        (&answer["compared"], &answer["changed"]),
        (&2.into(), &Value::Array(vec![]))
    );
    assert_eq!(answer["unknown"][0]["after"]["effect"], "unknown");
    let note = answer["unknown"][0]["note"].as_str().unwrap();
    assert!(note.contains("\"a\" asks for `argv`"), "{note}");
    assert_eq!(replay(&asks, &["--check"]).status.code(), Some(1));
}

/// The recorded launches that are shipped: what judged them changes nothing, and what another
/// policy would change is in the file beside.
#[test]
fn replay_works_on_the_example() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let replay = |name: &str| {
        // The repository may be checked out so that others can write it.
        let (_folder, path) = policy(&fs::read_to_string(examples.join(name)).unwrap());
        let file = examples.join("launches.jsonl");
        let output = coregate(&[
            "replay",
            "--events",
            file.to_str().unwrap(),
            "--policy",
            &path,
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output).to_owned()
    };
    assert_eq!(replay("recorded.toml"), "288 launches: 0 would change\n");
    let expected = fs::read_to_string(examples.join("changes.txt")).unwrap();
    assert_eq!(replay("new.toml"), expected);
}

#[test]
fn replay_names_the_line_that_is_no_event() {
    let (folder, path) = policy(RULE);
    let mut cut = event(1, "/proc/version");
    cut.as_object_mut().unwrap().remove("uid");
    let good = event(0, "/proc/version");
    for (bad, why) in [
        (cut, "missing field `uid`"),
        (Value::from(7), "invalid type"),
    ] {
        let file = events(&folder, &[good.clone(), bad]);
        let output = coregate(&["replay", "--events", &file, "--policy", &path]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        let expected = format!("coregate: {file}:3: not an event: {why}");
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

const RULES: &str = r#"
[gate]
mode = "enforce"
[[rule]]
name = "of-a-user"
exe = "/proc/version"
user = 1000
[[rule]]
name = "elsewhere"
exe = "/proc/uptime"
[[rule]]
name = "of-a-unit"
exe = "/proc/version"
unit = "a@*.service"
group = [6, 0]
cores = 1
[[rule]]
name = "later"
exe = "/proc/version"
"#;

#[test]
fn explain_tells_the_way_to_a_rule() {
    let (_folder, path) = policy(RULES);
    let explain = |more: &[&str]| {
        let output = coregate(&[&["explain", "--policy", &path], more].concat());
        assert_eq!(
            output.status.code(),
            Some(0),
            "{more:?}: {}",
            stderr(&output)
        );
        output
    };
    let whole = [
        "--exe",
        "/proc/version",
        "--user",
        "root",
        "--group",
        "0",
        "--unit",
        "a@1.service",
    ];
    let output = explain(&whole);
    let expected = format!(
        "\
launch
  on        exec
  exe       /proc/version
  unit      a@1.service
  user      0
  group     0
  container host
  not known: cgroup, comm, argv, parent

missed by of-a-user ({path}:4)
  user      asks for 1000; the launch has 0

met by of-a-unit ({path}:11)
  on        asks for exec
  exe       asks for /proc/version
  unit      asks for a@*.service
  group     asks for 6, 0
  container asks for host

missed by 1 other rule: 1 by exe
"
    );
    let text = stdout(&output);
    assert!(text.starts_with(&expected), "{text}");
    assert!(
        text.contains("The rule after it was not looked at."),
        "{text}"
    );
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let conclusion = format!("Rule of-a-unit ({path}:11) is for this launch: it ");
    assert!(flat.contains(&conclusion), "{text}");

    let answer = json(&explain(&[&whole[..], &["--json"]].concat()));
    assert_eq!(
        (&answer["rule"], &answer["unknown"]),
        (&"of-a-unit".into(), &Value::Null)
    );
    assert_eq!(answer["origin"], format!("{path}:11"));
    assert_eq!(answer["rules"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer["others"],
        serde_json::json!([{"selector": "exe", "rules": 1}])
    );
    assert_eq!(answer["need"]["cores"], 1);
    let all = json(&explain(&[&whole[..], &["--json", "--all"]].concat()));
    assert_eq!(all["rules"].as_array().unwrap().len(), 3);

    let text = stdout(&explain(&["--exe", "/proc/version", "--user", "root"])).to_owned();
    assert!(text.contains("add --unit or --cgroup"), "{text}");
    let unit = [
        "--exe",
        "/proc/version",
        "--user",
        "0",
        "--unit",
        "a@1.service",
    ];
    let text = stdout(&explain(&unit)).to_owned();
    assert!(text.contains("add --group and --groups"), "{text}");
    let answer = json(&explain(
        &[&unit[..], &["--group", "1", "--groups", "5,6", "--json"]].concat(),
    ));
    assert_eq!(answer["rule"], "of-a-unit");
    let answer = json(&explain(
        &[&unit[..], &["--group", "1", "--groups", "", "--json"]].concat(),
    ));
    assert_eq!(answer["rule"], "later");
    let text = stdout(&explain(&["--exe", "/proc/stat"])).to_owned();
    assert!(
        text.ends_with("No rule is for this launch: the gate does not touch it.\n"),
        "{text}"
    );
}

#[test]
fn explain_takes_processes_and_events() {
    let (folder, path) = policy(RULES);
    let mut of_unit = event(7, "/proc/version");
    of_unit["cgroup"] = "/system.slice/a@2.service".into();
    let file = events(&folder, &[event(3, "/proc/uptime"), of_unit]);
    let explain = |more: &[&str]| {
        let output = coregate(&[&["explain", "--json", "--policy", &path], more].concat());
        assert_eq!(
            output.status.code(),
            Some(0),
            "{more:?}: {}",
            stderr(&output)
        );
        json(&output)["rule"].clone()
    };
    let of_event = |id: &'static str| ["--events", file.as_str(), "--event", id];
    assert_eq!(explain(&of_event("3")), "elsewhere");
    assert_eq!(explain(&of_event("7")), "of-a-unit");
    assert_eq!(
        explain(&[&of_event("7")[..], &["--user", "1000"]].concat()),
        "of-a-user"
    );
    assert_eq!(
        explain(&[&of_event("7")[..], &["--container"]].concat()),
        Value::Null
    );

    let me = std::process::id().to_string();
    let mine = format!(
        "[[rule]]\nname = \"me\"\nexe = {:?}\n",
        std::env::current_exe().unwrap()
    );
    let (_folder, path) = policy(&(mine + "container = \"any\""));
    let output = coregate(&["explain", "--json", "--policy", &path, "--pid", &me]);
    assert_eq!(json(&output)["rule"], "me");
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

/// Where no gate stands.
#[test]
fn run_becomes_the_program() {
    let script = "echo $0 $1; exit 7";
    let output = coregate(&["run", "--wait", "1s", "--", "sh", "-c", script, "-a", "b"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((stdout(&output), stderr(&output)), ("-a b\n", ""));
}

/// Signals that whoever starts it ignores, the program ignores too, and no others: not those that
/// the runtime of Rust does.
#[test]
fn run_hands_signals_on() {
    let ignored = |trap: &str| {
        let script = format!("{trap} exec \"$0\" run -- grep SigIgn: /proc/self/status");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_coregate")])
            .output()
            .unwrap();
        stdout(&output).to_owned()
    };
    let direct = Command::new("sh")
        .args(["-c", "grep SigIgn: /proc/self/status"])
        .output()
        .unwrap();
    assert_eq!(ignored(""), stdout(&direct));
    let pipe = ignored("trap '' PIPE;");
    let mask = u64::from_str_radix(pipe.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 1 << 12, 1 << 12, "{pipe}");
}
