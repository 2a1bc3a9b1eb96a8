// SPDX-License-Identifier: GPL-2.0-only
//! Reads what a Rust test program writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How one test ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    /// Such as `i2_strangers_pass`.
    pub(super) name: String,
    /// Whether it said `ok`.
    pub(super) ok: bool,
    /// Since the test before it ended.
    pub(super) time: Duration,
}

/// Reads line by line; knows at the end what each failed test said.
pub(super) struct Reader {
    /// A test that began but did not say yet how it ended.
    begun: Option<String>,
    last: Instant,
    /// The test whose failure is being told, in the part that follows the tests.
    telling: Option<String>,
    said: BTreeMap<String, String>,
}

impl Reader {
    /// A reader for a program that starts now.
    pub(super) fn new() -> Self {
        Self {
            begun: None,
            last: Instant::now(),
            telling: None,
            said: BTreeMap::new(),
        }
    }

    /// Takes the next line and returns the test that ended with it, if one did.
    pub(super) fn line(&mut self, line: &str) -> Option<Outcome> {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.last = Instant::now();
        }
        if let Some(name) = failure_head(line) {
            self.telling = Some(name.to_owned());
            return None;
        }
        if line == "failures:" || line.starts_with("test result: ") {
            self.telling = None;
        }
        if let Some(name) = &self.telling {
            let said = self.said.entry(name.clone()).or_default();
            said.push_str(line);
            said.push('\n');
            return None;
        }
        if let Some((name, rest)) = test_line(line) {
            self.begun = Some(name.to_owned());
            return self.end(rest);
        }
        // What a test writes itself stands between its name and its result.
        self.end(line)
    }

    /// The test that began last and did not end.
    pub(super) fn unfinished(&self) -> Option<&str> {
        self.begun.as_deref()
    }

    /// What the failed test `name` said.
    pub(super) fn said(&self, name: &str) -> &str {
        self.said.get(name).map_or("", |said| said.trim_end())
    }

    fn end(&mut self, word: &str) -> Option<Outcome> {
        let ok = match word.trim() {
            "ok" => true,
            "FAILED" | "ignored" => false,
            word if word.starts_with("ignored,") => false,
            _ => return None,
        };
        let name = self.begun.take()?;
        let now = Instant::now();
        let time = now - self.last;
        self.last = now;
        Some(Outcome { name, ok, time })
    }
}

/// Names in the output of a test program's `--list`.
pub(super) fn listed(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

/// `test NAME ... REST`; the name may carry a kind or a note, such as
/// `should panic`, which the header of its failure lacks.
fn test_line(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ...")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some((name, rest))
}

/// `---- NAME ----` or `---- NAME stdout ----`.
fn failure_head(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(name.strip_suffix(" stdout").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Reader, Vec<(String, bool)>) {
        let mut reader = Reader::new();
        let ended = text
            .lines()
            .filter_map(|line| reader.line(line))
            .map(|outcome| (outcome.name, outcome.ok))
            .collect();
        (reader, ended)
    }

    #[test]
    fn results_and_failures_are_read() {
        let text = "\nrunning 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored\n\n\
                    failures:\n\n---- b ----\nexpected EAGAIN\ngot 0\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed; 1 failed;\n";
        let (reader, ended) = read(text);
        let names: Vec<_> = ended.iter().map(|(n, ok)| (n.as_str(), *ok)).collect();
        assert_eq!(names, [("a", true), ("b", false), ("c", false)]);
        assert_eq!(reader.said("b").trim(), "expected EAGAIN\ngot 0");
        assert_eq!(reader.unfinished(), None);
    }

    #[test]
    fn what_a_test_writes_does_not_hide_its_result() {
        let (_, ended) = read("test a ... started redis\nready\nok\ntest b ... ok\n");
        assert_eq!(ended, [("a".to_owned(), true), ("b".to_owned(), true)]);
    }

    #[test]
    fn a_test_that_hangs_is_named() {
        let (reader, ended) = read("test a ... ok\ntest b ... ");
        assert_eq!(ended.len(), 1);
        assert_eq!(reader.unfinished(), Some("b"));
    }

    #[test]
    fn a_list_is_read() {
        assert_eq!(listed("a: test\nb: test\n\n2 tests\n"), ["a", "b"]);
    }
}
