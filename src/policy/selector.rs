// SPDX-License-Identifier: GPL-2.0-only
//! Whom a rule matches: its selectors, and what each of them says to a launch.

use super::evaluate::Launch;
use super::words::words;
use super::{ARGV_LOOKED_AT, Rule};

words! {
    /// Which launches pass for the host's, and which for a container's.
    ///
    /// The host's are those of a task whose root directory is that of PID 1, in a mount
    /// namespace that belongs to the initial user namespace. So a service that systemd gave a
    /// mount namespace of its own is the host's; a container, a chroot, and what an unprivileged
    /// user mounted for itself are not, as a path means something else there.
    #[derive(Default)]
    pub enum Container {
        /// The host's only.
        #[default]
        Host = "host",
        /// Both.
        Any = "any",
        /// A container's only.
        Only = "only",
    }
}

words! {
    /// The selectors, by the keys that they have in a policy.
    pub enum Selector {
        /// The kind of launch.
        On = "on",
        /// The program.
        Exe = "exe",
        /// A name among the launcher's cgroup and its ancestors.
        Unit = "unit",
        /// The launcher's cgroup, or one of its ancestors, by its path.
        Cgroup = "cgroup",
        /// The launching user.
        User = "user",
        /// A group of the launcher.
        Group = "group",
        /// The launcher's name.
        Comm = "comm",
        /// Arguments.
        Argv = "argv",
        /// The launching program.
        Parent = "parent",
        /// Host or container.
        Container = "container",
    }
}

/// Whom a rule matches. A launch has to meet all of them; of a list, one entry (of `argv`, all).
/// An empty list is met by every launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// The program.
    pub exe: Vec<PathPattern>,
    /// Names of cgroups, without `/`; never [`Pattern::Folder`].
    pub unit: Vec<Pattern>,
    /// Paths of cgroups in the unified hierarchy: each begins with `/`, does not end with it, and
    /// stands for that cgroup and all below it.
    pub cgroup: Vec<String>,
    /// Users, by their effective number.
    pub user: Vec<User>,
    /// Groups, effective or supplementary.
    pub group: Vec<Group>,
    /// Names of tasks: at most 15 bytes, as the kernel keeps no more.
    pub comm: Vec<String>,
    /// Each has to stand among the first [`ARGV_LOOKED_AT`] arguments. For [`super::Hook::Exec`] only.
    pub argv: Vec<String>,
    /// The program that launches. For [`super::Hook::Exec`] only: of a fork it is the program itself.
    pub parent: Vec<PathPattern>,
    /// Host or container.
    pub container: Container,
}

/// A pattern over paths as it was written, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    /// As the policy has it.
    pub text: String,
    /// With symbolic links resolved, when the policy was read, as far as they could be. This is
    /// what a path is compared with.
    pub resolved: Pattern,
}

/// What a string can be compared with. Each part is at most [`super::MAX_PATTERN`] bytes long, and so
/// are both parts of a glob together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// This string.
    Exact(String),
    /// All paths below a folder, however deep; ends with `/`.
    Folder(String),
    /// What begins with the one and ends with the other, and has no `/` in between; they do not
    /// overlap.
    Glob {
        /// What stands before the `*`.
        prefix: String,
        /// What stands after it.
        suffix: String,
    },
}

impl Pattern {
    /// The pattern that `text` is, by its one `*` or its `/` at the end.
    pub fn new(text: &str) -> Self {
        if let Some((prefix, suffix)) = text.split_once('*') {
            return Self::Glob {
                prefix: prefix.into(),
                suffix: suffix.into(),
            };
        }
        if text.ends_with('/') {
            return Self::Folder(text.into());
        }
        Self::Exact(text.into())
    }

    /// Whether `string` is such a one.
    pub fn matches(&self, string: &[u8]) -> bool {
        match self {
            Self::Exact(whole) => whole.as_bytes() == string,
            Self::Folder(folder) => {
                string.len() > folder.len() && string.starts_with(folder.as_bytes())
            }
            Self::Glob { prefix, suffix } => string
                .strip_prefix(prefix.as_bytes())
                .and_then(|rest| rest.strip_suffix(suffix.as_bytes()))
                .is_some_and(|middle| !middle.contains(&b'/')),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) | Self::Folder(text) => f.write_str(text),
            Self::Glob { prefix, suffix } => write!(f, "{prefix}*{suffix}"),
        }
    }
}

/// The user of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number in the initial user namespace; never `u32::MAX`,
    /// which the kernel reads as "no user".
    pub uid: u32,
    /// The name, if the policy gave one.
    pub name: Option<String>,
}

/// The group of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's number in the initial user namespace; never `u32::MAX`.
    pub gid: u32,
    /// The name, if the policy gave one.
    pub name: Option<String>,
}

words! {
    /// What one selector says to a launch.
    pub enum Answer {
        /// It is met, or not given.
        Met = "met",
        /// It is not met.
        Missed = "missed",
        /// What it asks for is not known of the launch.
        Unknown = "unknown",
    }
}

impl Rule {
    /// What `selector` of this rule says to `launch`.
    pub fn ask(&self, selector: Selector, launch: &Launch<'_>) -> Answer {
        let s = &self.selectors;
        match selector {
            Selector::On => given(true, Some(self.on.contains(&launch.hook))),
            Selector::Exe => given(!s.exe.is_empty(), one_path(&s.exe, launch.exe)),
            Selector::Unit => given(
                !s.unit.is_empty(),
                launch.names().map(|mut names| {
                    names.any(|name| s.unit.iter().any(|unit| unit.matches(name)))
                }),
            ),
            Selector::Cgroup => given(
                !s.cgroup.is_empty(),
                launch
                    .cgroup
                    .map(|path| s.cgroup.iter().any(|top| is_below(path, top.as_bytes()))),
            ),
            Selector::User => given(
                !s.user.is_empty(),
                launch.uid.map(|uid| s.user.iter().any(|u| u.uid == uid)),
            ),
            Selector::Group => given(!s.group.is_empty(), launch.is_of_one(&s.group)),
            Selector::Comm => given(
                !s.comm.is_empty(),
                launch
                    .comm
                    .map(|comm| s.comm.iter().any(|name| name.as_bytes() == comm)),
            ),
            Selector::Argv => given(
                !s.argv.is_empty(),
                launch.argv.as_ref().map(|argv| {
                    let first = &argv[..argv.len().min(ARGV_LOOKED_AT)];
                    s.argv.iter().all(|arg| first.contains(&arg.as_bytes()))
                }),
            ),
            Selector::Parent => given(!s.parent.is_empty(), one_path(&s.parent, launch.parent)),
            Selector::Container => given(
                s.container != Container::Any,
                launch
                    .container
                    .map(|inside| inside == (s.container == Container::Only)),
            ),
        }
    }
}

impl Launch<'_> {
    /// The names of the launcher's cgroup and of those above it; the root has none.
    pub(super) fn names(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let path = self.cgroup.unwrap_or_default();
        let names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        let units = self.units.as_deref().filter(|_| self.cgroup.is_none());
        (self.cgroup.is_some() || units.is_some())
            .then(|| names.chain(units.unwrap_or_default().iter().copied()))
    }

    /// Whether the launcher is of one of these groups, by its effective one or another.
    fn is_of_one(&self, of: &[Group]) -> Option<bool> {
        let is = |gid: &u32| of.iter().any(|group| group.gid == *gid);
        if self.gid.as_ref().is_some_and(is) || self.groups.is_some_and(|all| all.iter().any(is)) {
            return Some(true);
        }
        (self.gid.is_some() && self.groups.is_some()).then_some(false)
    }
}

fn given(is_given: bool, met: Option<bool>) -> Answer {
    match met {
        _ if !is_given => Answer::Met,
        Some(true) => Answer::Met,
        Some(false) => Answer::Missed,
        None => Answer::Unknown,
    }
}

fn one_path(patterns: &[PathPattern], path: Option<&[u8]>) -> Option<bool> {
    path.map(|path| {
        patterns
            .iter()
            .any(|pattern| pattern.resolved.matches(path))
    })
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
