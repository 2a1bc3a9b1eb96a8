// SPDX-License-Identifier: GPL-2.0-only
//! `coregate run`: start a program when it is admitted.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, anyhow};
use humantime::format_duration;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execvp};

use super::explain::launch::Known;
use super::{Error, Exit, Result, mode, output};
use crate::daemon::{Holder, KEPT, News, NoRight, Place, Question, Wait, ask};
use crate::policy::{Action, Errno as Denial, Found, Policy, Rule, evaluate};
use crate::policy_file::{FOLDERS, ThisHost, load};
use crate::raw;

/// Start a program when it is admitted
///
/// coregate becomes the program: its arguments, files, signals and exit code are its own. If the gate
/// denies it, that is told with who holds the cores; with --wait, once the time is over.
///
/// Those who wait are started in the order in which they came, each rule for itself, as soon as the
/// gate admits the first of them. The daemon keeps the order; root and members of the group coregate
/// have a place in it, also while the daemon is restarted. Others try now and then, at pauses of up to
/// 1s, in no order.
///
/// Exit code 1: it was denied. 2: wrong usage. 126: it cannot be executed for another reason. 127: it
/// was not found. Any other, and these too, may be the program's own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait for so long until it is admitted, such as 30s or 2min
    #[arg(long, value_name = "TIME", value_parser = mode::time)]
    wait: Option<Duration>,

    /// The rule in whose queue to wait [default: the one that is for this launch, by the policy]
    #[arg(long)]
    rule: Option<String>,

    /// The policy
    #[arg(long, value_name = "FILE|DIR", default_value = FOLDERS.etc)]
    policy: PathBuf,

    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// A pause of who has no place in a queue, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked for a daemon that is not there.
const LOOK: Duration = Duration::from_millis(200);

/// How many of those who hold cores are named.
const NAMED: usize = 8;

/// Runs `coregate run`.
pub(super) fn run(args: &Args) -> Result {
    let program = Program::new(&args.command).map_err(Error::usage)?;
    let errno = program.execute();
    let gate = Gate::new(args, &program)?;
    if !gate.denies(errno) {
        return Ok(program.failed(errno));
    }
    let begin = Instant::now();
    if let Some(time) = args.wait
        && let Some(errno) = wait(&program, &gate, begin + time)?
    {
        return Ok(program.failed(errno));
    }
    let waited = args
        .wait
        .map(|time| format!(" in {}", format_duration(time)));
    let waited = waited.unwrap_or_default();
    let name = gate.rule.as_deref();
    let name = name.map_or("its rule".into(), |name| format!("rule {name}"));
    output::stderr(&format!(
        "coregate: {} was not started: the gate did not admit it by {name}{waited}",
        program.name
    ));
    output::stderr(&match ask(&Question::Holders) {
        Ok(holders) => told(holders),
        Err(error) => format!("who holds the cores is not known: {error:#}"),
    });
    Ok(Exit::Failed)
}

/// What is to be executed.
struct Program {
    name: String,
    words: Vec<CString>,
}

impl Program {
    fn new(command: &[OsString]) -> anyhow::Result<Self> {
        let words = command.iter().map(|word| CString::new(word.as_bytes()));
        let words = words.collect::<std::result::Result<Vec<_>, _>>();
        Ok(Self {
            name: command[0].to_string_lossy().into(),
            words: words.context("an argument has a NUL in it")?,
        })
    }

    /// Executes it; why that failed.
    fn execute(&self) -> Errno {
        let Err(errno) = raw::with_first_sigpipe(|| execvp(&self.words[0], &self.words));
        errno
    }

    fn failed(&self, errno: Errno) -> Exit {
        let Self { name, .. } = self;
        output::stderr(&format!(
            "coregate: cannot execute {name}: {}",
            errno.desc()
        ));
        match errno {
            Errno::ENOENT => Exit::NotFound,
            _ => Exit::NotExecutable,
        }
    }

    /// The file that is executed, as a rule names it.
    fn path(&self) -> Option<PathBuf> {
        let word = Path::new(OsStr::from_bytes(self.words[0].as_bytes()));
        let path = if word.as_os_str().as_bytes().contains(&b'/') {
            word.to_owned()
        } else {
            let folders = env::var_os("PATH").unwrap_or("/bin:/usr/bin".into());
            let found = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
            env::split_paths(&folders)
                .map(|folder| folder.join(word))
                .find(found)?
        };
        path.canonicalize().ok()
    }
}

/// What the policy says of the launch.
struct Gate {
    /// Which rule is for it.
    rule: Option<String>,
    /// What it fails with when the gate denies it; `None`: it does not.
    errno: Option<i32>,
    /// Why the policy was not asked.
    unasked: Option<anyhow::Error>,
}

impl Gate {
    fn new(args: &Args, program: &Program) -> std::result::Result<Self, Error> {
        let host = ThisHost::new();
        let policy = match load(&args.policy, &host) {
            Ok(policy) => policy,
            Err(error) => {
                return Ok(Self {
                    rule: args.rule.clone(),
                    errno: Some(Denial::default().number()),
                    unasked: Some(error.into()),
                });
            }
        };
        let rule = match &args.rule {
            Some(name) => Some(named(&policy, name).map_err(Error::usage)?),
            None => found(&policy, program)?,
        };
        let denies = |rule: &&Rule| rule.action == Action::Deny;
        Ok(Self {
            rule: rule.map(|rule| rule.name.clone()),
            errno: rule.filter(denies).map(|rule| rule.errno().number()),
            unasked: None,
        })
    }

    /// Whether it is the gate that let the launch fail.
    fn denies(&self, errno: Errno) -> bool {
        self.errno == Some(errno as i32)
    }
}

fn named<'p>(policy: &'p Policy, name: &str) -> anyhow::Result<&'p Rule> {
    let rule = policy.rules.iter().find(|rule| rule.name == name);
    rule.with_context(|| format!("the policy has no rule {name}"))
}

/// The rule for the launch; what cannot be known of it is not held against a rule.
fn found<'p>(policy: &'p Policy, program: &Program) -> anyhow::Result<Option<&'p Rule>> {
    let Some(path) = program.path() else {
        return Ok(None);
    };
    let argv = program.words.iter().map(|word| word.as_bytes().to_vec());
    let known = Known::of_own_exec(path, argv.collect())?;
    Ok(match evaluate(policy, &known.launch()) {
        Found::Rule(index) | Found::Unknown(index, _) => Some(&policy.rules[index]),
        Found::Nothing => None,
    })
}

/// Waits until the program is started; what else it fails with. `None`: it was always denied.
fn wait(program: &Program, gate: &Gate, end: Instant) -> std::result::Result<Option<Errno>, Error> {
    let Some(rule) = gate.rule.clone() else {
        let why = gate
            .unasked
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why:#}"));
        return Err(Error::usage(anyhow!(
            "cannot tell in which rule's queue to wait{why}; say --rule"
        )));
    };
    let place = Wait::begin(rule)?;
    // Without a daemon for so long, or a right to ask it, there is no order to keep.
    let mut alone = Instant::now() + KEPT;
    let mut pause = FIRST_PAUSE;
    loop {
        match Place::take(&place) {
            Ok(mut place) => {
                if let Some(over) = wait_in(&mut place, program, gate, end)? {
                    return Ok(over.filter(|errno| !gate.denies(*errno)));
                }
                alone = Instant::now() + KEPT;
            }
            Err(error) if error.is::<NoRight>() => alone = Instant::now(),
            // No daemon, or one that is about to end.
            Err(_) => {}
        }
        let now = Instant::now();
        if alone <= now {
            let errno = program.execute();
            if !gate.denies(errno) {
                return Ok(Some(errno));
            }
        }
        if now >= end {
            return Ok(None);
        }
        let time = if alone <= now { pause } else { LOOK };
        pause = LAST_PAUSE.min(if alone <= now { 2 * pause } else { FIRST_PAUSE });
        sleep(time.min(end - now));
    }
}

/// Waits in a queue; what the program failed with last, if that is the end of it. `None`: the place
/// is lost.
fn wait_in(
    place: &mut Place,
    program: &Program,
    gate: &Gate,
    end: Instant,
) -> anyhow::Result<Option<Option<Errno>>> {
    loop {
        match place.news(end)? {
            News::Gone => return Ok(None),
            News::TooLate => return Ok(Some(None)),
            News::Now => {
                let errno = program.execute();
                if !gate.denies(errno) {
                    return Ok(Some(Some(errno)));
                }
                place.tried();
            }
        }
    }
}

/// Who holds cores, in words.
fn told(holders: Vec<Holder>) -> String {
    if holders.is_empty() {
        return "nobody holds cores: other programs keep them busy".into();
    }
    let more = holders.len().saturating_sub(NAMED);
    let mut lines: Vec<_> = holders.iter().take(NAMED).map(line).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// The name of a process is for whoever may see it.
fn line(holder: &Holder) -> String {
    let Holder { rule, pid, ms } = holder;
    let rule = rule
        .as_deref()
        .map_or(String::new(), |rule| format!(" by rule {rule}"));
    let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
    let comm = comm.map_or(String::new(), |comm| format!(" ({:?})", comm.trim_end()));
    let time = format_duration(Duration::from_secs(ms / 1000));
    format!("cores are held{rule}: process {pid}{comm}, for {time}")
}
