// SPDX-License-Identifier: GPL-2.0-only
//! What is allowed in a policy, and most likely not meant.

use std::fmt;
use std::fs;

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
    let (message, hint) = exe_oddity(rule)?;
    Some(Warning {
        origin: Some(rule.origin.clone()),
        rule: Some(rule.name.clone()),
        message,
        hint,
    })
}

fn exe_oddity(rule: &Rule) -> Option<(String, String)> {
    let Rule { exe, file, .. } = rule;
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Some((
                format!("{exe:?} cannot be found: {error}"),
                "correct the path, unless it is installed later".into(),
            ));
        }
    };
    if !metadata.is_file() {
        return Some((
            format!("{exe:?} is not a file"),
            "name the program itself".into(),
        ));
    }
    (exe != file).then(|| {
        (
            format!(
                "{exe:?} leads to {file:?}, and the rule watches that file, by whichever name \
                 it is launched"
            ),
            "write that path if this is meant".into(),
        )
    })
}
