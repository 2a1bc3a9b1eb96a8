// SPDX-License-Identifier: GPL-2.0-only
//! Whom a rule matches: its selectors, and what they say to a launch.

use super::evaluate::Launch;

/// Whom a rule matches. A launch has to meet all of them; of a list, one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// The programs; at least one.
    pub exe: Vec<Exe>,
    /// The launching users; of an empty list every user is one.
    pub user: Vec<User>,
}

/// A program of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exe {
    /// Its path as the policy has it: absolute, 2 to [`super::MAX_EXE`] bytes, no NUL, no empty,
    /// `.` or `..` component.
    pub text: String,
    /// Where that path led when the policy was read; the same, if it led nowhere. This is what a
    /// launch's exe is compared with. Up to [`super::MAX_EXE`] bytes.
    pub file: String,
}

/// A user of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number in the initial user namespace; never `u32::MAX`,
    /// which the kernel reads as "no user".
    pub uid: u32,
    /// The name, if the policy gave one.
    pub name: Option<String>,
}

impl Selectors {
    /// How many pairs of a program and a user they name; every user counts as one.
    pub fn pairs(&self) -> usize {
        self.exe.len() * self.user.len().max(1)
    }

    /// Whether a launch meets all of them.
    pub fn meet(&self, launch: &Launch<'_>) -> bool {
        let exe = self.exe.iter().any(|exe| exe.file.as_bytes() == launch.exe);
        let user = self.user.is_empty() || self.user.iter().any(|user| user.uid == launch.uid);
        exe && user
    }
}
