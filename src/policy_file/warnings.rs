// SPDX-License-Identifier: GPL-2.0-only
//! What is allowed in a policy, and most likely not meant.

mod shadow;

use std::fmt;
use std::fs::{self, File};
use std::io::Read;

use serde::Serialize;

use shadow::Earlier;

use crate::policy::{
    Action, Errno, Hold, Hook, Host, HostNode, Listen, Mode, Origin, PathPattern, Pattern, Policy,
    Rule, Scope, Selectors,
};

/// Something that is most likely a mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where the rule stands; `None` if it is about the whole policy.
    pub origin: Option<Origin>,
    /// The rule's name; `None` likewise.
    pub rule: Option<String>,
    /// What is odd, and what follows.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(origin), Some(rule)) = (&self.origin, &self.rule) {
            write!(f, "{origin}: rule \"{rule}\": ")?;
        }
        write!(f, "{}; {}", self.message, self.hint)
    }
}

/// What is odd, and what to do about it.
type Oddity = (String, String);

/// The oddities of `policy` on this machine: of the whole policy, then of the rules in file order.
pub fn warnings(policy: &Policy, host: &dyn Host) -> Vec<Warning> {
    let mut earlier = Earlier::default();
    let rules = policy.rules.iter();
    let of_rules: Vec<_> = rules
        .flat_map(|rule| {
            let shadow = earlier.shadow(rule).map(shadow_oddity);
            of_rule(rule, shadow, host)
        })
        .collect();
    let of_policy = [
        unknown_oddity(policy),
        listen_oddity(policy),
        unsearched_oddity(&earlier),
    ];
    let of_policy = of_policy.into_iter().flatten();
    of_policy
        .map(|(message, hint)| Warning {
            origin: None,
            rule: None,
            message,
            hint,
        })
        .chain(of_rules)
        .collect()
}

fn of_rule<'r>(
    rule: &'r Rule,
    shadow: Option<Oddity>,
    host: &dyn Host,
) -> impl Iterator<Item = Warning> + use<'r> {
    let Selectors {
        exe, parent, unit, ..
    } = &rule.selectors;
    let cores = host.nodes().and_then(|nodes| cores_oddity(rule, nodes));
    let paths = exe.iter().chain(parent).map(path_oddity);
    let scripts = exe.iter().map(|exe| script_oddity(rule, exe));
    paths
        .chain(scripts)
        .chain(unit.iter().map(unit_oddity))
        .chain([cores, errno_oddity(rule), anybody_oddity(rule), shadow])
        .flatten()
        .map(|(message, hint)| Warning {
            origin: Some(rule.origin.clone()),
            rule: Some(rule.name.clone()),
            message,
            hint,
        })
}

/// Whoever enforces should have decided what happens when nothing is known.
fn unknown_oddity(policy: &Policy) -> Option<Oddity> {
    (policy.mode == Mode::Enforce && policy.on_unknown.is_none()).then(|| {
        (
            "`mode` is \"enforce\" and `on_unknown` is not given: a launch starts when it cannot \
             be known which cores are free"
                .into(),
            "write on_unknown = \"admit\" if this is meant, or on_unknown = \"deny\"".into(),
        )
    })
}

/// Metrics name the rules, and are not for everybody.
fn listen_oddity(policy: &Policy) -> Option<Oddity> {
    let Some(Listen::Port(address)) = policy.metrics.listen else {
        return None;
    };
    (!address.ip().to_canonical().is_loopback()).then(|| {
        (
            format!(
                "`listen` is {address}: whoever reaches that address can read the metrics, with \
                 the names of the rules and how often they deny"
            ),
            "listen on 127.0.0.1 or [::1], or let a firewall say who gets there".into(),
        )
    })
}

fn unsearched_oddity(earlier: &Earlier<'_>) -> Option<Oddity> {
    earlier.gave_up().then(|| {
        (
            "there are too many entries to find every rule that never matches".into(),
            "shorten the longest lists, with a folder or a `*` for several entries".into(),
        )
    })
}

fn shadow_oddity(by: &Rule) -> Oddity {
    (
        format!(
            "it never matches: the rules before it match all of its launches, \"{}\" of {} for one",
            by.name, by.origin
        ),
        "move it up, or take it out".into(),
    )
}

/// Whoever can start a program can have the cores held that a rule admits it to.
fn anybody_oddity(rule: &Rule) -> Option<Oddity> {
    let Selectors {
        cgroup,
        user,
        group,
        unit,
        ..
    } = &rule.selectors;
    let named = !(cgroup.is_empty() && user.is_empty() && group.is_empty());
    let held = rule.action != Action::Exempt && rule.hold != Hold::None;
    (held && !named).then(|| {
        let why = if unit.is_empty() {
            ""
        } else {
            ", as anybody can give a unit of their own that name"
        };
        (
            format!("any user can start it{why}, and so hold cores that others then do not get"),
            "name its users with `user`, `group` or `cgroup`, or write hold = \"none\"".into(),
        )
    })
}

fn path_oddity(path: &PathPattern) -> Option<Oddity> {
    let PathPattern { text, resolved } = path;
    // Of a pattern, its folder has to be there.
    let there = match resolved {
        Pattern::Exact(file) => file,
        Pattern::Folder(folder) => folder,
        Pattern::Glob { prefix, .. } => &prefix[..=prefix.rfind('/')?],
    };
    let metadata = match fs::metadata(there) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some((
                format!("{text:?} cannot be found: {error}"),
                "correct the path, unless it is installed later".into(),
            ));
        }
    };
    if matches!(resolved, Pattern::Exact(_)) && !metadata.is_file() {
        return Some((
            format!("{text:?} is not a file"),
            "name the program itself, or write `/` at its end for all that is below a folder"
                .into(),
        ));
    }
    let resolved = resolved.to_string();
    (*text != resolved).then(|| {
        (
            format!(
                "{text:?} leads to {resolved:?}, and that is what the rule watches, by whichever \
                 name it is launched"
            ),
            "write that path if this is meant".into(),
        )
    })
}

/// A unit's name has its kind behind a dot; other cgroups may have any name.
fn unit_oddity(unit: &Pattern) -> Option<Oddity> {
    let Pattern::Exact(name) = unit else {
        return None;
    };
    (!name.contains('.')).then(|| {
        (
            format!("no unit of systemd is named {name:?}: their names have a suffix"),
            format!("write unit = \"{name}.service\", or give another cgroup's path with `cgroup`"),
        )
    })
}

fn errno_oddity(rule: &Rule) -> Option<Oddity> {
    let errno = rule.errno?;
    if rule.action != Action::Deny {
        return Some((
            format!(
                "`errno` has no effect, as action = \"{}\" denies nothing",
                rule.action
            ),
            "take `errno` out, or write action = \"deny\"".into(),
        ));
    }
    let hook = rule.on.iter().find(|hook| **hook != Hook::Exec)?;
    (errno != Errno::Eagain).then(|| {
        (
            format!(
                "errno = \"{errno}\" for a {hook}: programs try it again after EAGAIN, and take \
                 another error for one that stays"
            ),
            "write errno = \"EAGAIN\", or leave it out".into(),
        )
    })
}

/// A script forks as its interpreter, so no rule for the script sees it.
fn script_oddity(rule: &Rule, exe: &PathPattern) -> Option<Oddity> {
    let hook = rule.on.iter().find(|hook| **hook != Hook::Exec)?;
    let Pattern::Exact(file) = &exe.resolved else {
        return None;
    };
    is_script(file).then(|| {
        (
            format!(
                "{:?} is a script, and on = \"{hook}\" never matches: it is its interpreter \
                 that runs",
                exe.text
            ),
            "name the interpreter, or watch \"exec\" only".into(),
        )
    })
}

fn is_script(file: &str) -> bool {
    let mut head = [0; 2];
    // To open what is no regular file may do something, or take for ever.
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file())
        && File::open(file).is_ok_and(|mut file| file.read_exact(&mut head).is_ok())
        && head == *b"#!"
}

/// All cores of the scope are never free where the launcher stays on one.
fn cores_oddity(rule: &Rule, nodes: &[HostNode]) -> Option<Oddity> {
    let stays = rule.on.iter().find(|hook| !rule.own_core(**hook))?;
    let inside = match &rule.scope {
        Scope::Node | Scope::Spread => true,
        Scope::Any => nodes.len() == 1,
        Scope::Nodes(numbers) => numbers.len() == nodes.len(),
    };
    (inside && rule.cores == rule.scope.most_cores(nodes)).then(|| {
        (
            format!(
                "no {stays} can ever be admitted: `cores` is {}, which is all that there are, \
                 and the core that it is launched from does not count as free",
                rule.cores
            ),
            "lower `cores`, or write own_core = true if that core is to count".into(),
        )
    })
}
