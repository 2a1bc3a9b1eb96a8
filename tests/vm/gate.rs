// SPDX-License-Identifier: GPL-2.0-only
//! The gate under test: a real daemon, and what it logs.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub(crate) const COREGATE: &str = "/bin/coregate";
pub(crate) const POLICY: &str = "/run/policy.toml";
const DEV_LOG: &str = "/dev/log";

/// How long the daemon may take to load its programs: it does in 3 s, on a quiet machine.
pub(crate) const LOAD_TIME: Duration = Duration::from_secs(180);

/// A running daemon; dropping it stops it.
pub(crate) struct Gate {
    child: Child,
    log: Option<Log>,
    stderr: Receiver<String>,
}

/// One verdict, as the log has it.
#[derive(Debug)]
pub(crate) struct Verdict(HashMap<String, String>);

impl Verdict {
    /// The first word of the line: `admitted`, `denied` or `logged`.
    pub(crate) fn effect(&self) -> &str {
        self.get("effect")
    }

    /// A field; empty if it is missing.
    pub(crate) fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// A field that is a number.
    pub(crate) fn number(&self, field: &str) -> Result<u32> {
        self.get(field)
            .parse()
            .with_context(|| format!("{field} in {self:?}"))
    }

    fn parse(line: &str) -> Option<Self> {
        let (_, line) = line.split_once(": ")?;
        let mut words = line.split(' ');
        let effect = words
            .next()
            .filter(|word| ["admitted", "denied", "logged", ENDED].contains(word))?;
        let fields = words.filter_map(|word| word.split_once('='));
        let mut all: HashMap<_, _> = fields
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        all.insert("effect".into(), effect.into());
        Some(Self(all))
    }
}

/// What the line of a claim's end has in the place of an effect.
const ENDED: &str = "ended";

/// A log daemon that keeps the verdicts, and what it hears of ends of claims; dropping it ends it.
struct Log {
    lines: Receiver<Verdict>,
    ends: Receiver<Verdict>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    fn listen() -> Result<Self> {
        let _ = fs::remove_file(DEV_LOG);
        let socket = UnixDatagram::bind(DEV_LOG).context("cannot listen at /dev/log")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (sender, lines) = channel();
        let (end, ends) = channel();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                if let Some(verdict) = Verdict::parse(&String::from_utf8_lossy(&buffer[..len])) {
                    let ended = verdict.effect() == ENDED;
                    let _ = if ended { &end } else { &sender }.send(verdict);
                }
            }
        });
        Ok(Self {
            lines,
            ends,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Gate {
    /// Starts a daemon with this policy, and waits until it is ready. The gate goes with it.
    pub(crate) fn start(policy: &str) -> Result<Self> {
        Self::start_with(policy, &["--no-persist"])
    }

    /// Starts a daemon with this policy and these arguments, and waits until it is ready.
    pub(crate) fn start_with(policy: &str, more: &[&str]) -> Result<Self> {
        fs::write(POLICY, policy)?;
        let log = Log::listen()?;
        let mut child = Command::new(COREGATE)
            .args(["daemon", "--policy", POLICY])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let gate = Self {
            child,
            log: Some(log),
            stderr: lines,
        };
        let mut heard = Vec::new();
        loop {
            match gate.stderr.recv_timeout(LOAD_TIME) {
                Ok(line) if line.contains("ready: ") => return Ok(gate),
                Ok(line) => heard.push(line),
                Err(why) => bail!("the daemon is not ready ({why}):\n{}", heard.join("\n")),
            }
        }
    }

    /// A policy with one rule for one program, in this mode; each of its events is told.
    pub(crate) fn policy(mode: &str, exe: &str, more: &str) -> String {
        format!(
            "[gate]\nmode = \"{mode}\"\nevent_rate = 0\n[[rule]]\nname = \"probe\"\nexe = \"{exe}\"\n{more}\n"
        )
    }

    /// One by which all launches of this program on node 0 are denied: the core of the launching task
    /// does not count, so a node never has all of its cores free.
    pub(crate) fn denying(mode: &str, exe: &str) -> Result<String> {
        let cores = crate::machine::node_cores(0)?.len();
        let needs = format!("cores = {cores}\nown_core = false");
        Ok(Self::strict(&Self::policy(mode, exe, &needs)))
    }

    /// The same policy, by which what is unknown is denied too: in a storm it may be that no two looks
    /// see the same.
    pub(crate) fn strict(policy: &str) -> String {
        policy.replace("[gate]\n", "[gate]\non_unknown = \"deny\"\n")
    }

    /// The verdicts that were logged since the last call, once `count` of them are there.
    pub(crate) fn verdicts(&self, count: usize) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::new();
        crate::machine::wait_for("verdicts in the log", Duration::from_secs(20), || {
            verdicts.extend(self.log.iter().flat_map(|log| log.lines.try_iter()));
            verdicts.len() >= count
        })
        .with_context(|| format!("{count} expected, found {verdicts:?}"))?;
        ensure!(
            verdicts.len() == count,
            "{count} verdicts expected, found {verdicts:?}"
        );
        Ok(verdicts)
    }

    /// The one verdict that was logged since the last call.
    pub(crate) fn verdict(&self) -> Result<Verdict> {
        self.verdicts(1)?.pop().context("no verdict")
    }

    /// What was logged of the end of a claim, once that is there.
    pub(crate) fn end_of_claim(&self) -> Result<Verdict> {
        let log = self.log.as_ref().context("no log")?;
        let end = log.ends.recv_timeout(Duration::from_secs(20));
        end.context("no end of a claim in the log")
    }

    /// Waits until the daemon says a line with this in it.
    pub(crate) fn says(&self, words: &str) -> Result<()> {
        loop {
            match self.stderr.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(words) => return Ok(()),
                Ok(_) => {}
                Err(why) => bail!("the daemon does not say '{words}' ({why})"),
            }
        }
    }

    /// Makes room for a real log daemon.
    pub(crate) fn leave_the_log(&mut self) -> Result<()> {
        self.log = None;
        Ok(fs::remove_file(DEV_LOG)?)
    }

    /// What `coregate status --json` says.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = Command::new(COREGATE).args(["status", "--json"]).output()?;
        ensure!(
            output.status.success(),
            "status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The process of the daemon.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid()), signal)?)
    }

    /// Stops the daemon and expects that it ends well.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of coregate: its exit code, and all that it said.
pub(crate) fn coregate(words: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(COREGATE).args(words).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

/// Runs one that succeeds: all that it said.
pub(crate) fn succeeds(words: &[&str]) -> Result<String> {
    let (code, said) = coregate(words)?;
    ensure!(code == Some(0), "{words:?}: {code:?}, {said}");
    Ok(said)
}
