// SPDX-License-Identifier: GPL-2.0-only
//! What each subcommand answers at once: help, wrong usage, bad values and files, no daemon, no
//! rights. Short, on the right stream, with the right exit code, and whether anybody reads it or not.
//!
//! All of it is asked without rights, whoever runs the tests: so nothing can be loaded or taken down.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::unistd::Uid;
use tempfile::TempDir;

/// The stream that has the answer; nothing is on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Out,
    Err,
}
use On::{Err, Out};

/// Words of the command line, after `<` the file that is stdin; the exit codes that are right; the
/// stream, what it says, and in how many lines at most.
type Row = (&'static str, &'static [i32], On, &'static str, usize);

/// 3 where the kernel lacks something, which is found out first.
const NOT_HERE: &[i32] = &[1, 3];

const NO_DAEMON: &str = "start one with 'coregate daemon'";
const WRONG: &str = "2 errors in the policy";
const MISSING: &str = "No such file or directory (os error 2); name one that is there";
const SECRET: &str = "Permission denied (os error 13); try with sudo";
const LOOSE: &str = "run: chmod go-w";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("", &[2], Err, "requires a subcommand", 6),
    ("chek", &[2], Err, "similar subcommand exists: 'check'", 7),
    ("--version", &[0], Out, "coregate ", 1),
    ("help", &[0], Out, "Usage: coregate <COMMAND>", 30),
    ("help check", &[0], Out, "Usage: coregate check", 20),
    ("help chek", &[2], Err, "unrecognized subcommand 'chek'", 7),

    ("check good.toml", &[0], Out, "good.toml: ok, 1 rule", 1),
    ("check --strict good.toml", &[0], Out, "good.toml: ok, 1 rule", 1),
    ("check --json good.toml", &[0], Out, "\"ok\": true", 20),
    ("check --schema", &[0], Out, "\"$schema\"", 2000),
    ("check --schema good.toml", &[2], Err, "cannot be used with", 6),
    ("check good.toml bad.toml", &[2], Err, "unexpected argument 'bad.toml'", 6),
    ("check bad.toml", &[2], Err, "did you mean `mode`?", 20),
    ("check --json bad.toml", &[2], Out, "\"ok\": false", 40),
    ("check missing.toml", &[2], Err, MISSING, 1),
    ("check .", &[2], Err, MISSING, 1),
    ("check secret.toml", &[2], Err, SECRET, 1),
    ("check loose.toml", &[2], Err, LOOSE, 1),
    ("check coregate", &[2], Err, "is larger than 16 MiB", 1),
    ("check /dev/null", &[2], Err, "put a TOML file in its place", 1),

    ("daemon extra", &[2], Err, "unexpected argument 'extra'", 6),
    ("daemon --policy bad.toml", &[2], Err, WRONG, 20),
    ("daemon --policy missing.toml", &[2], Err, MISSING, 1),
    ("daemon --policy secret.toml", &[2], Err, SECRET, 1),
    ("daemon --policy good.toml", NOT_HERE, Err, "coregate: the gate cannot stand here", 20),
    ("companion extra", &[2], Err, "unexpected argument 'extra'", 6),
    ("companion --policy bad.toml", &[2], Err, WRONG, 20),
    ("companion --policy missing.toml", &[2], Err, MISSING, 1),
    ("companion --policy secret.toml", &[2], Err, SECRET, 1),
    ("companion --policy good.toml", NOT_HERE, Err, "scheduler", 2),
    ("detach", &[1], Err, "only root may take the gate down; try with sudo", 1),
    ("detach extra", &[2], Err, "unexpected argument 'extra'", 6),
    ("doctor extra", &[2], Err, "unexpected argument 'extra'", 6),
    ("doctor", NOT_HERE, Out, "Idle source: ", 60),
    ("doctor --json", NOT_HERE, Out, "\"ok\": false", 200),

    ("suggest", &[2], Err, "--observe <TIME>", 7),
    ("suggest --observe 5", &[2], Err, "write a number and its unit, such as 10m", 4),
    ("suggest --observe 1ms", &[2], Err, "at least 1s", 4),
    ("suggest --observe 1s", NOT_HERE, Err, "coregate: the gate cannot stand here", 20),

    ("status", &[1], Err, NO_DAEMON, 1),
    ("status --json", &[1], Err, NO_DAEMON, 1),
    ("status --watch", &[1], Err, NO_DAEMON, 1),
    ("status --watch=0", &[2], Err, "invalid value '0'", 4),
    ("status --watch=soon", &[2], Err, "invalid value 'soon'", 4),
    ("top", &[2], Err, "'coregate top --json'", 1),
    ("top --json", &[1], Err, NO_DAEMON, 1),
    ("events", &[1], Err, NO_DAEMON, 1),
    ("events --follow --json --rule a --since 5m", &[1], Err, NO_DAEMON, 1),
    ("events --since yesterday", &[2], Err, "write 2026-11-25T13:00:00Z, or 5m", 4),
    ("metrics", &[1], Err, NO_DAEMON, 1),
    ("reload", &[1], Err, NO_DAEMON, 1),
    ("reload --json", &[1], Err, NO_DAEMON, 1),

    ("mode", &[2], Err, "requires a subcommand", 6),
    ("mode obsrve", &[2], Err, "similar subcommand exists: 'observe'", 7),
    ("mode help", &[0], Out, "Usage: coregate mode <COMMAND>", 30),
    ("mode observe", &[1], Err, NO_DAEMON, 1),
    ("mode observe --for 0s", &[2], Err, "at least 1s", 4),
    ("mode observe --for 5", &[2], Err, "write a number and its unit, such as 10m", 4),
    ("mode observe --for 2years", &[2], Err, "at most a year", 4),
    ("mode enforce --for 1m", &[1], Err, NO_DAEMON, 1),
    ("mode enforce --for 1m --confirm 1m", &[2], Err, "cannot be used with", 6),
    ("mode confirm", &[1], Err, NO_DAEMON, 1),
    ("mode policy", &[1], Err, NO_DAEMON, 1),
    ("mode rehearse", &[2], Err, "<FILE|DIR>", 7),
    ("mode rehearse missing.toml", &[2], Err, MISSING, 1),
    ("mode rehearse secret.toml", &[2], Err, SECRET, 1),
    ("mode rehearse good.toml", &[1], Err, NO_DAEMON, 1),
    ("mode promote", &[1], Err, NO_DAEMON, 1),
    ("mode drop", &[1], Err, NO_DAEMON, 1),

    ("explain", &[2], Err, "required arguments", 7),
    ("explain --policy good.toml --exe /bin/sh", &[0], Out, "No rule is for this launch", 30),
    ("explain --policy good.toml --exe /proc/version --user 0", &[0], Out, NO_DAEMON, 30),
    ("explain --policy good.toml --exe /proc/version --user 0 --json", &[0], Out, "\"rule\": \"a\"", 200),
    ("explain --policy bad.toml --exe /bin/sh", &[2], Err, WRONG, 20),
    ("explain --policy missing.toml --exe /bin/sh", &[2], Err, MISSING, 1),
    ("explain --policy good.toml --exe /bin/sh --user nobody-known", &[2], Err, "give its number", 1),
    ("explain --policy good.toml --exe /bin/sh --on boot", &[2], Err, "one of exec, fork, thread", 4),
    ("explain --policy good.toml --exe /bin/sh --container=perhaps", &[2], Err, "true, false", 5),
    ("explain --policy good.toml --pid one", &[2], Err, "invalid value 'one'", 4),
    ("explain --policy good.toml --pid 4194305", &[2], Err, "cannot read what process 4194305 is", 1),
    ("explain --policy good.toml --event 0", &[2], Err, "say with --events in which file", 1),
    ("explain --policy good.toml --event 999999 --events events", &[2], Err, "has no event 999999", 1),
    ("explain --policy good.toml --event 0 --events missing", &[2], Err, "cannot read missing", 1),
    ("explain --policy good.toml --event 0 --events .", &[2], Err, "Is a directory", 1),

    ("replay", &[2], Err, "--events <FILE>", 8),
    ("replay --events events --policy good.toml", &[0], Out, "launches: ", 40),
    ("replay --events - --policy good.toml <events", &[0], Out, "launches: ", 40),
    ("replay --events - --policy good.toml", &[0], Out, "0 launches: 0 would change", 1),
    ("replay --events - --policy good.toml <.", &[2], Err, "cannot read -:1: Is a directory", 1),
    ("replay --events events --policy good.toml --check", &[1], Out, "launches: ", 40),
    ("replay --events events --policy good.toml --json", &[0], Out, "\"launches\"", 2000),
    ("replay --events events --policy bad.toml", &[2], Err, WRONG, 20),
    ("replay --events events --policy missing.toml", &[2], Err, MISSING, 1),
    ("replay --events missing --policy good.toml", &[2], Err, "cannot read missing", 1),
    ("replay --events secret.toml --policy good.toml", &[2], Err, "cannot read secret.toml", 1),
    ("replay --events . --policy good.toml", &[2], Err, "cannot read .:1: Is a directory", 1),
    ("replay --events good.toml --policy good.toml", &[2], Err, "good.toml:1: not an event", 1),

    ("run", &[2], Err, "<CMD>...", 7),
    ("run --wait soon true", &[2], Err, "write a number and its unit, such as 10m", 4),
    ("run --wait 1ms true", &[2], Err, "at least 1s", 4),
    ("run --rule b --policy good.toml no-such-program", &[2], Err, "the policy has no rule b", 1),
    ("run true", &[0], Out, "", 0),
    ("run false", &[1], Out, "", 0),
    ("run --policy secret.toml true", &[0], Out, "", 0),
    ("run no-such-program", &[127], Err, "cannot execute no-such-program: No such file", 1),
    ("run missing/program", &[127], Err, "cannot execute missing/program: No such file", 1),
    ("run /proc/version", &[126], Err, "cannot execute /proc/version: Permission denied", 1),
    ("run /", &[126], Err, "cannot execute /: Permission denied", 1),
];

/// A folder with the program and files of all kinds, which everybody may enter.
struct Place(TempDir);

/// Where stdout and stderr go.
enum To {
    /// To this test.
    Pipes,
    /// Nobody reads any more.
    Nobody,
    /// Stdout to a full disk.
    Full,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let put = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let rule = "[[rule]]\nname = \"a\"\nexe = \"/proc/version\"\nuser = 0\n";
        put("good.toml", rule, 0o644);
        put("loose.toml", rule, 0o666);
        put("secret.toml", rule, 0);
        put("bad.toml", "[gate]\nmod = 1\nerrno = 0\n", 0o644);
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/launches.jsonl");
        put("events", &fs::read_to_string(recorded).unwrap(), 0o644);
        // Where it was built others may not come.
        let program = folder.path().join("coregate");
        // Not by this process: a child of another thread would have the file open for writing, and it
        // could not be executed meanwhile.
        let copied = Command::new("install")
            .args(["--mode=755", env!("CARGO_BIN_EXE_coregate")])
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn ask(&self, line: &str, to: &To) -> Output {
        let (words, stdin) = line.split_once('<').unwrap_or((line, "/dev/null"));
        let mut command = Command::new(self.0.path().join("coregate"));
        command
            .args(words.split_whitespace())
            .current_dir(&self.0)
            .env_remove("NO_COLOR")
            .env("PATH", "/usr/bin:/bin")
            .stdin(File::open(self.0.path().join(stdin)).unwrap());
        match to {
            To::Pipes => {}
            To::Nobody => {
                command.stdout(closed()).stderr(closed());
            }
            To::Full => {
                command.stdout(File::create("/dev/full").unwrap());
            }
        }
        if Uid::effective().is_root() {
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    }

    /// The subcommands of a subcommand, or of the program, by its help, and theirs.
    fn subcommands(&self, of: &str) -> Vec<String> {
        let output = self.ask(&format!("{of} --help"), &To::Pipes);
        let help = str::from_utf8(&output.stdout).unwrap();
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        let words = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let words = words.filter(|word| !word.is_empty());
        words
            .flat_map(|word| {
                let name = format!("{of} {word}").trim_start().to_owned();
                let below = if word == "help" {
                    Vec::new()
                } else {
                    self.subcommands(&name)
                };
                [name].into_iter().chain(below)
            })
            .collect()
    }

    /// Asks it so that the answer is read, so that it is not, and, if it is for stdout, on a full disk.
    fn expect(&self, line: &str, codes: &[i32], on: On, says: &str, most: usize) {
        let output = self.ask(line, &To::Pipes);
        let out = str::from_utf8(&output.stdout).unwrap();
        let err = str::from_utf8(&output.stderr).unwrap();
        let told = format!("coregate {line}: {}\n{out}\n{err}", output.status);
        let code = output.status.code().unwrap();
        assert!(codes.contains(&code), "{told}");
        let (answer, other) = if on == Out { (out, err) } else { (err, out) };
        assert_eq!(other, "", "{told}");
        assert!(answer.contains(says), "not {says:?}: {told}");
        assert!(answer.lines().count() <= most, "more than {most}: {told}");
        assert!(!answer.contains('\x1b'), "{told}");
        if on == Err {
            let begins = ["coregate: ", "error: "].iter();
            assert!(
                begins.clone().any(|word| answer.starts_with(word)),
                "{told}"
            );
            let repeats = |line: &str| line.matches("(os error").count() > 1;
            assert!(!answer.lines().any(repeats), "{told}");
        }

        let unread = self.ask(line, &To::Nobody);
        assert_eq!(unread.status.code(), Some(code), "unread: {told}");
        if on == Out && most > 0 {
            let full = self.ask(line, &To::Full);
            let err = str::from_utf8(&full.stderr).unwrap();
            assert_eq!(full.status.code(), Some(1), "on a full disk: {told}");
            assert!(
                err.contains("cannot write to stdout: No space left"),
                "{told}"
            );
        }
    }
}

/// The writing end of a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn each_answer_is_short_and_in_its_place() {
    let place = Place::new();
    for (line, codes, on, says, most) in ROWS {
        place.expect(line, codes, *on, says, *most);
    }
}

#[test]
fn each_subcommand_has_help_and_a_row() {
    let place = Place::new();
    let subcommands = place.subcommands("");
    assert!(
        subcommands.contains(&"mode observe".to_owned()),
        "{subcommands:?}"
    );
    for name in &subcommands {
        let asks = |row: &&Row| format!("{} ", row.0).starts_with(&format!("{name} "));
        assert!(
            ROWS.iter().any(|row| asks(&row)),
            "no row asks for {name:?}"
        );
        if name.ends_with("help") {
            continue;
        }
        let usage = format!("Usage: coregate {name}");
        place.expect(&format!("{name} --help"), &[0], Out, &usage, 70);
        let unknown = "unexpected argument '--no-such-flag'";
        place.expect(&format!("{name} --no-such-flag"), &[2], Err, unknown, 7);
    }
}
