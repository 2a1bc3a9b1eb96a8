// SPDX-License-Identifier: GPL-2.0-only
//! What is allowed in a policy, and most likely not meant.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::policy::{Origin, Policy, Rule};

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
pub fn warnings(policy: &Policy) -> Vec<Warning> {
    policy.rules.iter().filter_map(of_rule).collect()
}

fn of_rule(rule: &Rule) -> Option<Warning> {
    let (message, hint) = exe_oddity(&rule.exe)?;
    Some(Warning {
        origin: Some(rule.origin.clone()),
        rule: Some(rule.name.clone()),
        message,
        hint,
    })
}

fn exe_oddity(exe: &str) -> Option<(String, String)> {
    let path = Path::new(exe);
    let resolved = match fs::canonicalize(path) {
        Ok(resolved) => resolved,
        Err(error) => {
            let message = format!("{exe:?} cannot be found: {error}");
            return Some((
                message,
                "correct the path, unless it is installed later".into(),
            ));
        }
    };
    if resolved != path {
        let message = format!("{exe:?} goes through a symbolic link, which the gate never sees");
        return Some((message, format!("write the path it leads to, {resolved:?}")));
    }
    if !resolved.is_file() {
        return Some((
            format!("{exe:?} is not a file"),
            "name the program itself".into(),
        ));
    }
    None
}
