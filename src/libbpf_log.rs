// SPDX-License-Identifier: GPL-2.0-only
//! What libbpf says, kept back so that it reaches the user only as part of an error.

use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::PrintLevel;

/// How many lines an error quotes. They are the last ones: the verifier's log is long, and at
/// its end it says what it objects to.
const LINES: usize = 20;

/// What was heard; libbpf's callback can carry no state of its own.
static HEARD: Mutex<String> = Mutex::new(String::new());

/// Proof that libbpf is listened to.
pub(crate) struct Listening(());

impl Listening {
    /// Forgets what libbpf said, and listens from now on.
    pub(crate) fn begin() -> Self {
        heard().clear();
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| heard().push_str(&text))));
        Self(())
    }

    /// The end of what libbpf said, for an error: each line after a line break, indented.
    pub(crate) fn said(&self) -> String {
        end_of(&heard())
    }
}

fn heard() -> MutexGuard<'static, String> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_of(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect()
}

#[cfg(test)]
mod tests;
