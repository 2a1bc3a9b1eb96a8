// SPDX-License-Identifier: GPL-2.0-only
//! What is said over the control socket: a client asks one question, in a line, and gets an answer
//! in lines; each is a JSON object.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gate::order::Step;
use crate::policy::Source;
use crate::policy_file::{MAX_SIZE, counted};

/// The longest question, in bytes: a policy of the greatest size, each byte of it escaped.
pub(super) const MAX_QUESTION: usize = 2 * MAX_SIZE as usize + (1 << 20);

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// How the gate stands: one answer, a [`crate::report::Status`].
    Status,
    /// What each core does, and who holds cores: one answer, a [`crate::report::Cores`].
    Cores,
    /// The last events of launches that were denied, or would be: so many at most, one a line.
    Denials {
        /// How many.
        last: usize,
    },
    /// The events that are remembered, one a line; with `follow` also those that come.
    Events {
        /// Whether to go on.
        follow: bool,
    },
    /// To read the policy again: one answer, a [`Turned`].
    Reload,
    /// To rehearse a policy: one answer, a [`Turned`].
    Rehearse {
        /// The texts of the policy.
        sources: Vec<Source>,
    },
    /// To let the rehearsed policy judge: one answer, a [`Turned`].
    Promote,
    /// To end the rehearsal: one answer, a [`Turned`].
    Drop,
    /// Who holds cores: one answer, a list of [`Holder`]s.
    Holders,
    /// To be told when it is time to try a launch that was denied: a [`Turn`] each time. Whoever has
    /// tried in vain says so with an empty line; who starts, or waits no longer, goes.
    Wait(Wait),
    /// To go by another mode than the policy's, or by that again: one answer, a [`Turned`].
    Order {
        /// The change.
        step: Step,
    },
}

/// Who waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The rule that denied the launch, by its name: each has a queue.
    pub rule: String,
    /// Since when, in milliseconds of CLOCK_BOOTTIME; by that the daemon after this one knows
    /// its place.
    pub since: u64,
}

/// What is said to who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Turn {
    /// To try now.
    Now,
}

/// A claim: who holds cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// By which rule; `None`: it is not in the policy any more, or the program has not started yet.
    pub rule: Option<String>,
    /// The process that was launched; of a fork, its parent.
    pub pid: u32,
    /// For how long, in milliseconds.
    pub ms: u64,
}

/// The policy that holds after a change, or that is rehearsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// The generation of the policy that holds.
    pub generation: u32,
    /// The mode in which it judges.
    pub mode: String,
    /// How many rules it has.
    pub rules: usize,
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            mode,
            rules,
        } = self;
        write!(
            f,
            "generation {generation} holds; mode {mode}, {}",
            counted(*rules, "rule")
        )
    }
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer<T> {
    /// What was asked for.
    Answer(T),
    /// Why it is not to be had.
    Error(Refusal),
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// In words.
    pub message: String,
    /// The mistakes of a policy, one a line: for the log, where there is no caret.
    #[serde(skip)]
    pub(super) mistakes: Vec<String>,
    /// It is because of what was asked: of the question, or of the policy.
    pub invalid: bool,
}

impl Refusal {
    /// One a line, never empty.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.mistakes.is_empty() {
            return vec![self.message.clone()];
        }
        self.mistakes.clone()
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            mistakes: Vec::new(),
            invalid: false,
        }
    }
}
