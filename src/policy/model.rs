// SPDX-License-Identifier: GPL-2.0-only
//! The validated policy: whoever holds one need not check it again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::words;
use super::{Companion, HostNode, Log, Metrics, Selectors};

words! {
    /// What the gate does with a verdict that is not `admit`.
    #[derive(Default)]
    pub enum Mode {
        /// Say what would be denied, deny nothing. The default: a policy that
        /// does not name its mode must not stop anything.
        #[default]
        Observe = "observe",
        /// Deny.
        Enforce = "enforce",
    }
}

words! {
    /// What the verdict `unknown` means for the launch.
    #[derive(Default)]
    pub enum OnUnknown {
        /// Let it start.
        #[default]
        Admit = "admit",
        /// Treat it as a launch for which no core is free.
        Deny = "deny",
    }
}

words! {
    /// What a launch is: an exec, or the creation of a process or of a thread.
    pub enum Hook {
        /// `execve(2)` and its kin.
        Exec = "exec",
        /// A new process: `fork(2)`, `vfork(2)`, or `clone(2)` without `CLONE_THREAD`.
        Fork = "fork",
        /// A new thread: `clone(2)` with `CLONE_THREAD`.
        Thread = "thread",
    }
}

words! {
    /// What a rule does with a launch for which too few cores are free.
    #[derive(Default)]
    pub enum Action {
        /// Let it fail with the rule's errno, if the mode is `enforce`.
        #[default]
        Deny = "deny",
        /// Let it start, and log it.
        Log = "log",
        /// Let it start as if no rule matched: no verdict, no claim, no event. An exception from
        /// the rules after this one.
        Exempt = "exempt",
    }
}

words! {
    /// The error that a denied launch gets.
    ///
    /// `EACCES` and `ENOEXEC` are missing on purpose: programs do not take
    /// them for a refusal. After `EACCES` `execvp(3)` searches on through
    /// `PATH`; after `ENOEXEC` it runs the file as a shell script.
    #[derive(Default)]
    pub enum Errno {
        /// Try again later. The default.
        #[default]
        Eagain = "EAGAIN",
        /// Device or resource busy.
        Ebusy = "EBUSY",
        /// Operation not permitted.
        Eperm = "EPERM",
    }
}

impl Errno {
    /// The number of this error on this architecture: positive, as in
    /// `errno(3)`.
    pub const fn number(self) -> i32 {
        match self {
            Self::Eagain => nix::errno::Errno::EAGAIN as i32,
            Self::Ebusy => nix::errno::Errno::EBUSY as i32,
            Self::Eperm => nix::errno::Errno::EPERM as i32,
        }
    }
}

/// How long an admitted launch holds its cores: meanwhile they count as taken
/// for every other launch, idle or not. The holder is the process that was
/// launched (of [`Hook::Thread`], the thread). It holds the cores of its last
/// admitted launch only, and none once it is gone. A launch that goes on
/// without being admitted holds none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Until the process or thread is gone.
    #[default]
    Exit,
    /// For this time after the launch was admitted; one of
    /// [`Hold::SETTLE_RANGE`].
    Settle(Duration),
    /// Not at all: two launches at one time can both be admitted to one core.
    None,
}

impl Hold {
    /// The words of a policy. After `settle` the time may be given.
    pub(super) const WORDS: &[(&str, Self)] = &[
        ("exit", Self::Exit),
        ("settle", Self::Settle(Self::DEFAULT_SETTLE)),
        ("none", Self::None),
    ];

    /// How long a launch that settles holds its cores when the rule does not
    /// say: long enough for a program to be seen running where it was put.
    pub const DEFAULT_SETTLE: Duration = Duration::from_millis(100);

    /// How long it may be: below, the program may not even have run; above,
    /// [`Hold::Exit`] is meant.
    pub const SETTLE_RANGE: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(3600);
}

words! {
    /// What the companion keeps away from the other hardware threads of a core on which a thread
    /// of a holder runs.
    #[derive(Default)]
    pub enum Isolation {
        /// All that is not the holder's. The default: a core that is shared is none.
        #[default]
        Strict = "strict",
        /// The same, unless there is nowhere else for it.
        Prefer = "prefer",
        /// Nothing.
        None = "none",
    }
}

/// Where the cores of a launch may lie. Of these, cores that the launcher may
/// not run on never count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Scope {
    /// All on the node where the launcher runs.
    #[default]
    Node,
    /// All on one node, whichever: the launcher's if they are there, else
    /// another.
    Any,
    /// Anywhere on the machine, spread over its nodes.
    Spread,
    /// Anywhere on these nodes, spread over them: at least one, each once,
    /// ascending. The launcher's own need not be among them.
    Nodes(Vec<u32>),
}

impl Scope {
    /// The words of a policy; for [`Scope::Nodes`] it has a list.
    pub(super) const WORDS: &[(&str, Self)] = &[
        ("node", Self::Node),
        ("any", Self::Any),
        ("spread", Self::Spread),
    ];

    /// The most cores that a launch can have within this scope on a machine
    /// of these nodes.
    pub fn most_cores(&self, nodes: &[HostNode]) -> u32 {
        let cores = nodes
            .iter()
            .filter(|node| match self {
                Self::Nodes(list) => list.contains(&node.number),
                _ => true,
            })
            .map(|node| node.cores);
        match self {
            Self::Node | Self::Any => cores.max().unwrap_or(0),
            Self::Spread | Self::Nodes(_) => cores.fold(0, u32::saturating_add),
        }
    }
}

/// A scope as a policy has it, and an event.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Nodes(Vec<u32>),
}

impl From<Scope> for Written {
    fn from(scope: Scope) -> Self {
        if let Scope::Nodes(list) = scope {
            return Self::Nodes(list);
        }
        let word = Scope::WORDS.iter().find(|(_, value)| *value == scope);
        Self::Word(word.map_or_else(String::new, |(word, _)| (*word).into()))
    }
}

impl TryFrom<Written> for Scope {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Nodes(list) => Ok(Self::Nodes(list)),
            Written::Word(word) => {
                let known = Self::WORDS.iter().find(|(known, _)| *known == word);
                let (_, scope) = known.ok_or_else(|| format!("{word:?} is no scope"))?;
                Ok(scope.clone())
            }
        }
    }
}

words! {
    /// What the gate does by itself when its lease has ended.
    #[derive(Default)]
    pub enum LeaseEnd {
        /// Go on. The default: a dead daemon changes no verdict.
        #[default]
        Keep = "keep",
        /// Deny nothing.
        Observe = "observe",
        /// Judge nothing, as if it were detached.
        Detach = "detach",
    }
}

/// How long the gate does what the policy says when nobody looks after it: the daemon does several
/// times in that time. The clock stands still while the machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long; one of [`Lease::RANGE`].
    pub time: Duration,
    /// What it does then.
    pub end: LeaseEnd,
}

impl Lease {
    /// How long it may be: a daemon is started anew within seconds, and may be busy for one.
    pub const RANGE: RangeInclusive<Duration> =
        Duration::from_secs(5)..=Duration::from_secs(24 * 3600);
}

/// As `status` says it.
impl std::fmt::Display for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, then {}",
            humantime::format_duration(self.time),
            self.end
        )
    }
}

/// A whole policy. Its rules are in file order, and the first that matches
/// decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether denials take effect.
    pub mode: Mode,
    /// What happens to a launch when idleness cannot be known; `None` if the policy does not say. See [`Policy::on_unknown`].
    pub on_unknown: Option<OnUnknown>,
    /// `None`: the gate does what the policy says for ever.
    pub lease: Option<Lease>,
    /// How many events a second a rule may have of launches that go on, and how many of the others;
    /// 0 to [`Policy::MOST_EVENT_RATE`], where 0 is for no limit.
    pub event_rate: u32,
    /// Where verdicts are logged.
    pub log: Log,
    /// Where metrics are to be had.
    pub metrics: Metrics,
    /// How the companion shares the CPUs.
    pub companion: Companion,
    /// At most [`super::MAX_RULES`]; their names differ.
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            on_unknown: None,
            lease: None,
            event_rate: 100,
            log: Log::default(),
            metrics: Metrics::default(),
            companion: Companion::default(),
            rules: Vec::new(),
        }
    }
}

impl Policy {
    /// Events that are closer than a microsecond are not told apart.
    pub const MOST_EVENT_RATE: u32 = 1_000_000;

    /// What happens to a launch when idleness cannot be known.
    pub fn on_unknown(&self) -> OnUnknown {
        self.on_unknown.unwrap_or_default()
    }
}

/// One rule: whom it matches, what the launch needs, what happens otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// 1 to [`super::MAX_NAME`] bytes out of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Whom it matches.
    pub selectors: Selectors,
    /// The kinds of launches that the rule watches: at least one, each once,
    /// in the order of [`Hook`].
    pub on: Vec<Hook>,
    /// The free cores that the launch needs: at least 1, and no more than its
    /// scope has on this machine.
    pub cores: u32,
    /// Where these may lie.
    pub scope: Scope,
    /// Whether the core that the launcher runs on counts as free when nothing
    /// else runs there; `None` if the rule does not say. See
    /// [`Rule::own_core`].
    pub own_core: Option<bool>,
    /// How long the launch holds them once it is admitted.
    pub hold: Hold,
    /// What is kept away from them meanwhile.
    pub isolation: Isolation,
    /// How long a core stays the launch's own after its last thread there went to sleep: zero, or
    /// one of [`Rule::KEEP_RANGE`].
    pub keep: Duration,
    /// What happens when they are not there.
    pub action: Action,
    /// With which error a launch is denied; `None` if the rule does not say.
    /// See [`Rule::errno`].
    pub errno: Option<Errno>,
    /// Where the rule stands.
    pub origin: Origin,
}

impl Rule {
    /// What a rule watches when it does not say.
    pub const DEFAULT_ON: &[Hook] = &[Hook::Exec];

    /// The cores that a rule needs when it does not say.
    pub const DEFAULT_CORES: u32 = 1;

    /// How long a core is kept when the rule does not say: longer than the period of most programs
    /// that have to be in time.
    pub const DEFAULT_KEEP: Duration = Duration::from_millis(4);

    /// How long it may be kept, if at all: below, its end is noticed too late; above, a program
    /// that sleeps so long does not need it.
    pub const KEEP_RANGE: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(10);

    /// Whether the core that the launcher runs on counts as free for a launch
    /// of this kind when nothing else runs there. Without a word on it in the
    /// rule it does for an exec, since the program stays on that core; not for
    /// a fork or a thread, since the launcher itself stays there.
    pub fn own_core(&self, hook: Hook) -> bool {
        self.own_core.unwrap_or(hook == Hook::Exec)
    }

    /// Whether the companion keeps anything away from the cores that its launches hold.
    pub fn is_isolated(&self) -> bool {
        self.hold != Hold::None && self.isolation != Isolation::None
    }

    /// With which error a launch is denied.
    pub fn errno(&self) -> Errno {
        self.errno.unwrap_or_default()
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named to the parser.
    pub file: Arc<str>,
    /// The line of the `[[rule]]` header, from 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// As `file:line`, the way every report names a rule's place.
impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
impl Rule {
    /// A rule for tests: it denies execs of this program, of this user or of all, with EBUSY.
    pub(crate) fn sample(name: &str, exe: super::PathPattern, uid: Option<u32>) -> Self {
        let user = uid.map(|uid| super::User { uid, name: None });
        Self {
            name: name.into(),
            selectors: Selectors {
                exe: vec![exe],
                user: user.into_iter().collect(),
                ..Selectors::default()
            },
            on: vec![Hook::Exec],
            cores: 1,
            scope: Scope::Node,
            own_core: None,
            hold: Hold::Exit,
            isolation: Isolation::Strict,
            keep: Self::DEFAULT_KEEP,
            action: Action::Deny,
            errno: Some(Errno::Ebusy),
            origin: Origin {
                file: "p.toml".into(),
                line: 1,
            },
        }
    }
}
