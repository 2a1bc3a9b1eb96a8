// SPDX-License-Identifier: GPL-2.0-only
//! The commands of the docs, as they stand there.

#[path = "../../docs/commands.rs"]
pub(crate) mod commands;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Installed, POLICY, SYSTEMD, UNIT, run};
use crate::launch::{fails, script};
use crate::machine::{Load, cpus, node_cores, pin, wait_for};
use crate::{Needs, Test};
use commands::{Entry, drop_in, quick_start, table};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "the_commands_of_the_docs_work",
    needs: Needs::OfTheRelease,
    on: SYSTEMD,
    run: all,
}];

/// Where the commands are run.
const FOLDER: &str = "/tmp/docs";
/// Where `systemctl edit` puts what was edited.
const EDITED: &str = "/etc/systemd/system/coregate.service.d";
const SERVER: &str = "/usr/bin/redis-server";
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell to which commands are typed. What it started in the background goes with it.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.current_dir(FOLDER).process_group(0);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        writeln!(input, "exec 2>&1")?;
        Ok(Self {
            child,
            input,
            output,
        })
    }

    /// The exit code of a command, and all that it said.
    fn types(&mut self, command: &str) -> Result<(i32, String)> {
        const END: &str = "@@ ";
        eprintln!("$ {command}");
        writeln!(self.input, "{command}\necho \"{END}$?\"")?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.output.read_line(&mut line)? > 0,
                "the shell ended: {said}"
            );
            if let Some(code) = line.strip_prefix(END) {
                return Ok((code.trim().parse()?, said));
            }
            said += &line;
        }
    }

    /// The same once it says this: what is logged is there some moments later.
    fn reads(&mut self, command: &str, says: &str) -> Result<(i32, String)> {
        let mut answer = self.types(command)?;
        if command.starts_with("journalctl ") || command.starts_with("coregate events") {
            wait_for(says, PATIENCE, || {
                answer.1.contains(says) || self.types(command).map(|new| answer = new).is_err()
            })?;
        }
        ensure!(
            answer.1.contains(says),
            "{command}: {says} expected: {}",
            answer.1
        );
        Ok(answer)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Follows the quick start of README.md, from the installation of the package at `deb` on.
pub(crate) fn follow_quick_start(deb: &str) -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    fs::copy(deb, format!("{FOLDER}/coregate_0.1.0-1_amd64.deb"))?;
    let mut shell = Shell::start()?;
    let (mut modes, mut failed, mut denied) = (Vec::new(), Vec::new(), 0);
    for Entry { command, says, .. } in quick_start() {
        let (code, said) = shell.reads(&command, says)?;
        if command == "systemctl is-active coregate" {
            ensure!(said == "active\n", "{said}");
        } else if command == "coregate status" {
            // The name of the program and its version are before it.
            modes.extend(said.split_whitespace().nth(2).map(str::to_owned));
        } else if command.starts_with("journalctl ") {
            denied += said.matches(" denied rule=trial ").count();
        }
        if code != 0 {
            failed.push(said);
        }
    }
    ensure!(modes == ["observe", "enforce", "observe"], "{modes:?}");
    ensure!(denied == 1, "{denied} denied");
    let why = "Resource temporarily unavailable";
    ensure!(failed.len() == 1 && failed[0].contains(why), "{failed:?}");
    Ok(fs::remove_dir_all(FOLDER)?)
}

fn all() -> Result<()> {
    script(SERVER)?;
    let policy = "[gate]\nmode = \"enforce\"\non_unknown = \"admit\"\n\
                  [[rule]]\nname = \"cache\"\nexe = \"/usr/bin/redis-server\"\nuser = \"root\"\n";
    let _installed = Installed::with(policy)?;
    fs::create_dir_all("/etc/coregate/policy.d")?;
    fs::create_dir_all(FOLDER)?;
    let core = node_cores(0)?.remove(0);
    let load = Load::on(&core.cpus[..1])?;
    pin(&core.cpus)?;
    fails(SERVER, EAGAIN)?;
    pin(&cpus()?)?;
    drop(load);
    let worked = Shell::start().and_then(run_all);
    run(&["systemctl", "disable", UNIT, "coregate-companion"])?;
    run(&["rm", "-rf", EDITED, SERVER, FOLDER])?;
    worked
}

fn run_all(mut shell: Shell) -> Result<()> {
    fs::write(format!("{FOLDER}/drop-in"), drop_in())?;
    fs::write(
        format!("{FOLDER}/editor"),
        "for file; do :; done; cp drop-in \"$file\"\n",
    )?;
    shell.types("export SYSTEMD_EDITOR='sh editor'")?;
    for Entry { how, command, says } in table() {
        let (typed, expected) = match how {
            "guest" => (command.replace("USER", "games"), 0),
            "lacks" => (command, 3),
            "edit" => (format!("script -qec '{command}' /dev/null"), 0),
            "ends" => (ended(&command, says), 0),
            "test" => {
                let is_there = crate::tests().iter().any(|test| test.name == says);
                ensure!(is_there, "{command}: no test {says}");
                continue;
            }
            _ => continue,
        };
        let (code, said) = shell.reads(&typed, says)?;
        ensure!(code == expected, "{typed}: {code}: {said}");
    }
    ensure!(run(&["id", "games"])?.contains("(coregate)"));
    ensure!(fs::exists(format!("{FOLDER}/policy.toml"))?);
    // What was edited lets the daemon serve its metrics.
    fs::write(POLICY, "[metrics]\nlisten = \"127.0.0.1:9842\"\n")?;
    run(&["systemctl", "restart", UNIT])?;
    TcpStream::connect("127.0.0.1:9842")?;
    Ok(())
}

/// A command that is told to end once it has said this.
fn ended(command: &str, says: &str) -> String {
    format!(
        ": >said; {command} >said 2>&1 & while kill -0 $! && ! grep -qF '{says}' said; do sleep 0.1; done; \
         kill $!; wait $!; code=$?; cat said; (exit $code)"
    )
}
