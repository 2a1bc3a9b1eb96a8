// SPDX-License-Identifier: GPL-2.0-only
//! What is allowed in a policy, and most likely not meant.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::policy::{Origin, Policy, Rule};

/// Something about one rule that is most likely a mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where the rule stands.
    pub origin: Origin,
    /// The rule's name.
    pub rule: String,
    /// What is odd about it, and what follows.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            rule,
            message,
            hint,
        } = self;
        write!(f, "{origin}: rule \"{rule}\": {message}; {hint}")
    }
}

/// The oddities of `policy` on this machine, in file order.
pub fn warnings(policy: &Policy) -> Vec<Warning> {
    policy
        .rules
        .iter()
        .filter_map(|rule| {
            let (message, hint) = exe_oddity(&rule.exe)?;
            let Rule { name, origin, .. } = rule;
            Some(Warning {
                origin: origin.clone(),
                rule: name.clone(),
                message,
                hint,
            })
        })
        .collect()
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
