// SPDX-License-Identifier: GPL-2.0-only
//! What becomes of launches under another policy than the one that judged them: a table for
//! people, and its JSON.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use crate::policy::{Effect, words};

words! {
    /// What becomes of a launch, whether or not a rule is for it.
    #[derive(PartialOrd, Ord)]
    pub enum Fate {
        /// No rule is for it.
        Unmatched = "unmatched",
        /// Its rule is an exception.
        Exempt = "exempt",
        /// [`Effect::Admitted`].
        Admitted = "admitted",
        /// [`Effect::Denied`].
        Denied = "denied",
        /// [`Effect::Logged`].
        Logged = "logged",
        /// That cannot be told.
        Unknown = "unknown",
    }
}

impl From<Effect> for Fate {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Admitted => Self::Admitted,
            Effect::Denied => Self::Denied,
            Effect::Logged => Self::Logged,
        }
    }
}

/// What a policy does with a launch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// The name of its rule; `None` if no rule is for it, or if that cannot be told.
    pub rule: Option<String>,
    /// What becomes of it.
    pub effect: Fate,
}

/// One of the launches that a change is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The number of its event.
    pub id: u64,
    /// The program.
    pub exe: String,
    /// The user.
    pub uid: u32,
}

/// What becomes of launches now, and what would become of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Under the policy that judged them.
    pub before: Outcome,
    /// Under the other one.
    pub after: Outcome,
    /// How many there are.
    pub launches: u64,
    /// One of them, if it is known which.
    pub example: Option<Example>,
    /// Why something of it cannot be told, and what would help.
    pub note: Option<String>,
}

/// All differences that another policy makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The launches that both policies judged.
    pub compared: u64,
    /// What would change, the most frequent first.
    pub changed: Vec<Change>,
    /// Launches of which it cannot be told whether something would change, likewise.
    pub unknown: Vec<Change>,
}

impl Change {
    /// Whether the two differ for certain.
    fn is_certain(&self) -> bool {
        let rule_is_known = self.after.rule.is_some() || self.after.effect != Fate::Unknown;
        let other_rule = rule_is_known && self.after.rule != self.before.rule;
        let known = [self.before.effect, self.after.effect];
        other_rule || (known[0] != known[1] && !known.contains(&Fate::Unknown))
    }
}

impl Changes {
    /// Of what becomes of these launches, one by one or several at once; those of which it stays
    /// the same only count.
    pub fn new(launches: impl IntoIterator<Item = Change>) -> Self {
        let mut merged: HashMap<_, Change> = HashMap::new();
        for change in launches {
            let key = (
                change.before.clone(),
                change.after.clone(),
                change.note.clone(),
            );
            merged
                .entry(key)
                .and_modify(|sum| sum.launches += change.launches)
                .or_insert(change);
        }
        let mut changes = Self::default();
        for change in merged.into_values() {
            changes.compared += change.launches;
            let same = change.before == change.after && change.after.effect != Fate::Unknown;
            if change.is_certain() {
                changes.changed.push(change);
            } else if !same {
                changes.unknown.push(change);
            }
        }
        for list in [&mut changes.changed, &mut changes.unknown] {
            list.sort_by(|a, b| order(a).cmp(&order(b)));
        }
        changes
    }

    /// How many launches would come to something else.
    pub fn count_changed(&self) -> u64 {
        count(&self.changed)
    }

    /// Of how many launches that cannot be told.
    pub fn count_unknown(&self) -> u64 {
        count(&self.unknown)
    }
}

fn order(change: &Change) -> impl Ord {
    (
        Reverse(change.launches),
        &change.before,
        &change.after,
        &change.note,
    )
}

fn count(changes: &[Change]) -> u64 {
    changes.iter().map(|change| change.launches).sum()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, self.effect) {
            (Some(rule), effect) => write!(f, "{rule}: {effect}"),
            (None, Fate::Unmatched) => f.write_str("no rule"),
            (None, effect) => write!(f, "{effect}"),
        }
    }
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (user {}, id {})", self.exe, self.uid, self.id)
    }
}

/// The width of the tables; what is longer is broken.
const WIDTH: u16 = 80;

/// The tables and, after each, what cannot be told and why; then the numbers.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for list in [&self.changed, &self.unknown] {
            if !list.is_empty() {
                writeln!(f, "{}\n", table(list))?;
            }
        }
        let mut notes: Vec<_> = self.notes().collect();
        notes.sort_unstable();
        notes.dedup();
        for note in &notes {
            for line in textwrap::wrap(note, usize::from(WIDTH)) {
                writeln!(f, "{line}")?;
            }
        }
        if !notes.is_empty() {
            writeln!(f)?;
        }
        let s = if self.compared == 1 { "" } else { "es" };
        write!(
            f,
            "{} launch{s}: {} would change",
            self.compared,
            self.count_changed()
        )?;
        match self.count_unknown() {
            0 => Ok(()),
            unknown => write!(f, ", {unknown} cannot be told"),
        }
    }
}

impl Changes {
    fn notes(&self) -> impl Iterator<Item = &str> {
        let all = self.changed.iter().chain(&self.unknown);
        all.filter_map(|change| change.note.as_deref())
    }
}

fn table(changes: &[Change]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(["launches", "before", "after", "for example"]);
    for change in changes {
        let example = change.example.as_ref().map(ToString::to_string);
        table.add_row([
            change.launches.to_string(),
            change.before.to_string(),
            change.after.to_string(),
            example.unwrap_or_default(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(launches) = table.column_mut(0) {
        launches.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests;
