// SPDX-License-Identifier: GPL-2.0-only
//! The status as a person reads it: what is wrong first, then one screen of the rest.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::concerns::name;
use super::{Concern, Node, Rule, Status};
use crate::policy::{Mode, Word};
use crate::policy_file::counted;

/// How much room there is; `None`: as much as is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// In columns.
    pub width: Option<usize>,
    /// In lines.
    pub height: Option<usize>,
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Where text is broken if nobody says how much room there is.
const WIDTH: usize = 80;

/// The width of the labels of facts.
const LABEL: usize = 11;

/// What stands between two columns, and between two tables side by side.
const GAP: usize = 2;
const WIDE_GAP: usize = 6;

/// Names and places are cut down to this many columns, if there is no more room.
const SHORTEST: usize = 12;

/// So many lines each of nodes and rules are shown, though there be no room for them.
const FEWEST: usize = 4;

impl Status {
    /// As a person reads it, with colours; each line ends.
    pub fn screen(&self, concerns: &[Concern], room: Room) -> String {
        let width = room.width.unwrap_or(WIDTH);
        let mut text = self.headline();
        for concern in concerns {
            text += &paragraph(concern, width);
        }
        if !concerns.is_empty() {
            text.push('\n');
        }
        text += &self.facts(width);
        let below = self
            .rehearsal
            .as_ref()
            .map_or(String::new(), |rehearsal| format!("\n{rehearsal}"));
        let left = |text: &str| {
            let used = text.lines().count() + below.lines().count();
            room.height.map(|height| height.saturating_sub(used))
        };
        // Half of what is left, as the rules come below.
        let lines = left(&text).map(|lines| (lines / 2).max(FEWEST));
        text += &nodes(&self.nodes, room.width, lines);
        let lines = left(&text).map(|lines| lines.max(FEWEST));
        text += &rules(&self.rules, room.width, lines);
        text + &below
    }

    /// What most want to know.
    fn headline(&self) -> String {
        let style = match self.mode.as_str() {
            mode if mode == Mode::Enforce.word() => GOOD,
            _ => ODD,
        };
        let sum = |number: fn(&Node) -> u32| self.nodes.iter().map(number).sum::<u32>();
        let (free, cores) = (sum(|node| node.free), sum(|node| node.cores));
        format!(
            "{BOLD}coregate {}{BOLD:#}  {style}{}{style:#}  generation {}, {}  {free} of {cores} cores \
             free\n\n",
            self.version,
            self.mode,
            self.generation,
            counted(self.rules.len(), "rule"),
        )
    }

    fn facts(&self, width: usize) -> String {
        let mut text = String::new();
        let mut fact = |label: &str, value: &str| text += &hanging(label, DIM, value, width);
        if self.policy_mode != self.mode {
            fact(
                "mode",
                &format!("{}; the policy says {}", self.mode, self.policy_mode),
            );
        }
        if let Some(lease) = &self.lease {
            fact("lease", lease);
        }
        let read = match &self.reload {
            Some(reload) if reload.error.is_none() => format!(", read again {}", reload.time),
            _ => String::new(),
        };
        fact("policy", &format!("{}{read}", self.policy));
        let scheduler = match &self.scheduler {
            None => "none".into(),
            Some(scheduler) => {
                let idle = match (scheduler.tracking, scheduler.per_node) {
                    (false, _) => "no idle masks",
                    (true, false) => "an idle mask for the machine",
                    (true, true) => "an idle mask for each node",
                };
                format!("{}, {idle}", scheduler.ops)
            }
        };
        fact("scheduler", &scheduler);
        let source = self.source.as_deref().unwrap_or("none");
        fact("source", &format!("{source}; {} hooks", self.hooks));
        let events = &self.events;
        fact(
            "events",
            &format!(
                "{} emitted, {} suppressed, {} lost",
                events.emitted, events.suppressed, events.lost
            ),
        );
        for sink in &self.log {
            let counts = format!(
                "{}: {} written, {} lost, {} waiting",
                name(sink),
                sink.written,
                sink.lost,
                sink.waiting
            );
            fact("log", &counts);
        }
        text
    }
}

/// A label and what stands beside it, over several lines if need be.
fn hanging(label: &str, style: Style, value: &str, width: usize) -> String {
    let room = width.saturating_sub(LABEL).max(SHORTEST);
    let lines = textwrap::wrap(value, room);
    let value = lines.join(&format!("\n{:LABEL$}", ""));
    format!("{style}{label:<LABEL$}{style:#}{value}\n")
}

fn paragraph(concern: &Concern, width: usize) -> String {
    let (word, style) = if concern.grave {
        ("wrong", BAD.bold())
    } else {
        ("note", ODD)
    };
    let text = hanging(word, style, &concern.what, width);
    // A command stays whole.
    format!("{text}{:LABEL$}{BOLD}{}{BOLD:#}\n", "", concern.mend)
}

/// A column: its cells, the head first, and whether they stand to the left.
struct Column {
    cells: Vec<String>,
    left: bool,
}

impl Column {
    fn new<T>(head: &str, of: &[T], cell: impl Fn(&T) -> String) -> Self {
        Self {
            cells: std::iter::once(head.into())
                .chain(of.iter().map(cell))
                .collect(),
            left: false,
        }
    }

    fn left(self) -> Self {
        Self { left: true, ..self }
    }

    fn width(&self) -> usize {
        self.cells
            .iter()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        self.cells[1..]
            .iter()
            .all(|cell| matches!(cell.as_str(), "0" | "-"))
    }

    /// Cuts what is longer, in the middle: names often begin, or end, alike.
    fn shorten(&mut self, width: usize) {
        for cell in &mut self.cells {
            *cell = shortened(cell, width);
        }
    }
}

/// A text in at most `width` columns.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let kept = width.saturating_sub(1);
    let (begin, end) = (kept - kept / 2, kept / 2);
    let begin: String = text.chars().take(begin).collect();
    let end: String = text.chars().skip(length - end).collect();
    format!("{begin}…{end}")
}

fn width_of(columns: &[Column]) -> usize {
    let widths = columns.iter().map(|column| column.width() + GAP);
    widths.sum::<usize>().saturating_sub(GAP)
}

/// The lines of a table, each as wide as it is.
fn lines(columns: &[Column]) -> Vec<String> {
    let widths: Vec<_> = columns.iter().map(Column::width).collect();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let line = |row: usize| {
        let mut line = String::new();
        for (column, width) in columns.iter().zip(&widths) {
            let (cell, gap) = (&column.cells[row], if line.is_empty() { 0 } else { GAP });
            // Writing to a string does not fail.
            let _ = if column.left {
                write!(line, "{:gap$}{cell:<width$}", "")
            } else {
                write!(line, "{:gap$}{cell:>width$}", "")
            };
        }
        line
    };
    (0..rows).map(line).collect()
}

/// The nodes, side by side where they are many.
fn nodes(nodes: &[Node], width: Option<usize>, height: Option<usize>) -> String {
    let columns = [
        Column::new("node", nodes, |node| node.node.to_string()),
        Column::new("cores", nodes, |node| node.cores.to_string()),
        Column::new("free", nodes, |node| node.free.to_string()),
        Column::new("claimed", nodes, |node| node.claimed.to_string()),
        Column::new("owed", nodes, |node| node.owed.to_string()),
    ];
    let each = width_of(&columns) + WIDE_GAP;
    let beside = width.map_or(1, |width| ((width + WIDE_GAP) / each).max(1));
    // The empty line before it, the head, and the line below.
    let most = height.map_or(nodes.len(), |height| height.saturating_sub(3).max(1));
    let shown = nodes.len().min(most * beside);
    let tables = shown.div_ceil(most).max(1);
    let high = shown.div_ceil(tables);
    let all = lines(&columns);
    let gap = " ".repeat(WIDE_GAP);
    let head = vec![all[0].as_str(); tables].join(&gap);
    let mut text = format!("\n{BOLD}{head}{BOLD:#}\n");
    for row in 0..high {
        let cells = all[1..=shown].iter().skip(row).step_by(high);
        let line = cells.map(String::as_str).collect::<Vec<_>>().join(&gap);
        text += &format!("{line}\n");
    }
    let rest = &nodes[shown..];
    if !rest.is_empty() {
        let sum = |number: fn(&Node) -> u32| rest.iter().map(number).sum::<u32>();
        text += &format!(
            "{DIM}and {} with {} of {} cores free{DIM:#}\n",
            counted(rest.len(), "more node"),
            sum(|node| node.free),
            sum(|node| node.cores)
        );
    }
    text
}

/// The rules in file order; if there is no room for all, those of which there is something to say.
fn rules(rules: &[Rule], width: Option<usize>, height: Option<usize>) -> String {
    if rules.is_empty() {
        return String::new();
    }
    // The empty line before it, the head, and whatever comes next; the line below if not all fit.
    let most = height.map_or(rules.len(), |height| {
        let fits = rules.len() + 3 <= height;
        if fits {
            rules.len()
        } else {
            height.saturating_sub(4).max(1)
        }
    });
    let shown = busiest(rules, most);
    let mut text = String::from("\n");
    for (row, line) in lines(&columns(&shown, width)).iter().enumerate() {
        let style = match row.checked_sub(1).map(|row| shown[row]) {
            None => BOLD,
            Some(rule) if rule.denied > 0 => BAD,
            Some(rule) if rule.would_deny > 0 || rule.unknown > 0 => ODD,
            Some(rule) if rule.claims > 0 => GOOD,
            Some(_) => Style::new(),
        };
        let line = line.trim_end();
        text += &format!("{style}{line}{style:#}\n");
    }
    let rest = rules.len() - shown.len();
    if rest > 0 {
        text += &format!(
            "{DIM}and {}; all of them: coregate status | less{DIM:#}\n",
            counted(rest, "more rule")
        );
    }
    text
}

/// So many rules at most, in their order: those with denials, launches and claims before others.
fn busiest(rules: &[Rule], most: usize) -> Vec<&Rule> {
    let mut numbers: Vec<_> = (0..rules.len()).collect();
    if rules.len() > most {
        numbers.sort_by_key(|number| {
            let rule = &rules[*number];
            let denials = rule.denied + rule.would_deny + rule.unknown;
            std::cmp::Reverse((denials, rule.claims, rule.launches))
        });
        numbers.truncate(most);
        numbers.sort_unstable();
    }
    numbers.into_iter().map(|number| &rules[number]).collect()
}

/// The columns that there is room for. Those that say nothing go first, then the place of the rule,
/// and then names are cut.
fn columns(rules: &[&Rule], width: Option<usize>) -> Vec<Column> {
    let count = |head, number: fn(&Rule) -> u64| {
        Column::new(head, rules, move |rule| number(rule).to_string())
    };
    let honoured = |rule: &&Rule| {
        let share = rule.honour.share().map(|share| format!("{share:.2}%"));
        share.unwrap_or_else(|| "-".into())
    };
    let mut columns = vec![
        Column::new("rule", rules, |rule| rule.name.clone()).left(),
        count("launches", |rule| rule.launches),
        count("admitted", |rule| rule.admitted),
        count("denied", |rule| rule.denied),
        count("would deny", |rule| rule.would_deny),
        count("unknown", |rule| rule.unknown),
        count("claims", |rule| rule.claims),
        Column::new("honoured", rules, honoured),
        Column::new("origin", rules, |rule| rule.origin.clone()).left(),
    ];
    let Some(width) = width else {
        return columns;
    };
    if width_of(&columns) > width {
        let names = columns[0].width() + GAP + columns[8].width();
        let others = width_of(&columns) - names;
        let room = width.saturating_sub(others + GAP);
        let origin = room.saturating_sub(columns[0].width());
        if origin >= SHORTEST {
            columns[8].shorten(origin);
        } else {
            columns.pop();
        }
    }
    // From the right, but for the number of launches.
    for number in (2..columns.len()).rev() {
        if width_of(&columns) > width && columns[number].is_empty() {
            columns.remove(number);
        }
    }
    let over = width_of(&columns).saturating_sub(width);
    let name = columns[0].width().saturating_sub(over).max(SHORTEST);
    columns[0].shorten(name);
    while width_of(&columns) > width && columns.len() > 2 {
        columns.pop();
    }
    columns
}

#[cfg(test)]
mod tests;
