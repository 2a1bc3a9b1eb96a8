// SPDX-License-Identifier: GPL-2.0-only
//! What is allowed in a policy, and most likely not meant.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;

use serde::Serialize;

use crate::policy::{Action, Exe, Hold, Hook, Host, HostNode, Origin, Policy, Rule, Scope};

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

/// The oddities of `policy` on this machine, in file order.
pub fn warnings(policy: &Policy, host: &dyn Host) -> Vec<Warning> {
    let mut earlier = Earlier::default();
    let rules = policy.rules.iter();
    rules
        .flat_map(|rule| {
            let shadow = earlier.shadow(rule);
            of_rule(rule, shadow, host)
        })
        .collect()
}

fn of_rule<'r>(
    rule: &'r Rule,
    shadow: Option<(String, String)>,
    host: &dyn Host,
) -> impl Iterator<Item = Warning> + use<'r> {
    let exes = rule.selectors.exe.iter();
    let cores = host.nodes().and_then(|nodes| cores_oddity(rule, nodes));
    exes.flat_map(|exe| [exe_oddity(exe), script_oddity(rule, exe)])
        .chain([cores, anybody_oddity(rule), shadow])
        .flatten()
        .map(|(message, hint)| Warning {
            origin: Some(rule.origin.clone()),
            rule: Some(rule.name.clone()),
            message,
            hint,
        })
}

/// What the rules before one match.
#[derive(Default)]
struct Earlier<'p>(HashMap<(&'p str, Hook), Matched<'p>>);

/// Who is matched already for one program and kind of launch, and by which rule first.
#[derive(Default)]
struct Matched<'p> {
    anybody: Option<&'p Rule>,
    users: HashMap<u32, &'p Rule>,
}

impl<'p> Earlier<'p> {
    /// The oddity of a rule for which the earlier ones leave nothing; it is one of them then.
    fn shadow(&mut self, rule: &'p Rule) -> Option<(String, String)> {
        let mut by = Some(rule);
        let launches = rule.selectors.exe.iter();
        for launch in launches.flat_map(|exe| rule.on.iter().map(|on| (exe.file.as_str(), *on))) {
            let matched = self.0.entry(launch).or_default();
            let anybody = matched.anybody;
            if rule.selectors.user.is_empty() {
                matched.anybody.get_or_insert(rule);
                by = by.and(anybody);
            }
            for user in &rule.selectors.user {
                let first = *matched.users.entry(user.uid).or_insert(rule);
                let first = anybody.or((first.name != rule.name).then_some(first));
                by = by.and(first);
            }
        }
        by.map(|by| {
            (
                format!(
                    "it never matches: the rules before it match all of its launches, \"{}\" of \
                     {} for one",
                    by.name, by.origin
                ),
                "move it up, or take it out".into(),
            )
        })
    }
}

/// Whoever can start a program can have the cores held that a rule admits it to.
fn anybody_oddity(rule: &Rule) -> Option<(String, String)> {
    let held = rule.action != Action::Exempt && rule.hold != Hold::None;
    (rule.selectors.user.is_empty() && held).then(|| {
        (
            "any user can start it, and so hold cores that others then do not get".into(),
            "name its users with `user`, or write hold = \"none\"".into(),
        )
    })
}

fn exe_oddity(exe: &Exe) -> Option<(String, String)> {
    let Exe { text, file } = exe;
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some((
                format!("{text:?} cannot be found: {error}"),
                "correct the path, unless it is installed later".into(),
            ));
        }
    };
    if !metadata.is_file() {
        return Some((
            format!("{text:?} is not a file"),
            "name the program itself".into(),
        ));
    }
    (text != file).then(|| {
        (
            format!(
                "{text:?} leads to {file:?}, and the rule watches that file, by whichever name \
                 it is launched"
            ),
            "write that path if this is meant".into(),
        )
    })
}

/// A script forks as its interpreter, so no rule for the script sees it.
fn script_oddity(rule: &Rule, exe: &Exe) -> Option<(String, String)> {
    let hook = rule.on.iter().find(|hook| **hook != Hook::Exec)?;
    is_script(&exe.file).then(|| {
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
fn cores_oddity(rule: &Rule, nodes: &[HostNode]) -> Option<(String, String)> {
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
