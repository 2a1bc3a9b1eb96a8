// SPDX-License-Identifier: GPL-2.0-only
//! The parts of the docs that are measured.

use std::fs;

use anyhow::{Context, Result};

use crate::{build, cache};

/// Puts `part` into the file `name` of the repository, in the place of what it has between these
/// marks.
///
/// # Errors
/// When the file cannot be read or written, or has not both marks.
pub(crate) fn put(name: &str, marks: [&str; 2], part: &str) -> Result<()> {
    let path = build::repository().join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    let text = with(&text, marks, part)
        .with_context(|| format!("{name} has no {} with its end", marks[0].trim_end()))?;
    cache::write(&path, &text)
}

fn with(text: &str, [begin, end]: [&str; 2], part: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{part}\n\n{end}{after}"))
}

#[cfg(test)]
#[path = "../../tests/docs/commands.rs"]
mod commands;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Task, bench, schedulers};

    #[test]
    fn tasks_in_the_docs_are_those_there_are() {
        let found = commands::commands();
        let found: Vec<_> = found
            .iter()
            .filter_map(|it| it.strip_prefix("cargo "))
            .collect();
        assert!(found.len() > 10, "{found:?}");
        for usage in found.into_iter().filter(|task| *task != "build") {
            for words in commands::variants(usage) {
                if let Err(error) = Task::try_parse_from(&words) {
                    panic!("cargo {words:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let marks = ["<!-- bench -->\n", "<!-- end of bench -->\n"];
        let text = "a\n<!-- bench -->\nold\n<!-- end of bench -->\nb\n";
        let new = "a\n<!-- bench -->\n\n1\n\n2\n\n<!-- end of bench -->\nb\n";
        assert_eq!(with(text, marks, "1\n\n2").as_deref(), Some(new));
        assert_eq!(with("a\n", marks, "1"), None);
    }

    #[test]
    fn the_docs_have_a_place_for_each_part() {
        let performance = include_str!("../../docs/performance.md");
        for marks in [bench::MARKS, bench::companion::MARKS] {
            assert!(with(performance, marks, "1").is_some());
        }
        let support = include_str!("../../docs/kernel-support.md");
        assert!(with(support, schedulers::MARKS, "1").is_some());
    }
}
