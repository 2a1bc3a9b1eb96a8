// SPDX-License-Identifier: GPL-2.0-only
//! From TOML to values of the right type, with the place of each: what is
//! known of keys and types, and nothing of what they mean.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use humantime::{format_duration, parse_duration};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Word;
use super::diagnostic::Report;
use super::keys::{COMPANION_KEYS, GATE_KEYS, Key, LOG_KEYS, METRICS_KEYS, RULE_KEYS};

/// The sections of a policy.
const SECTIONS: &[&str] = &["gate", "log", "metrics", "companion", "rule"];

/// How alike two words must be, from 0 to 1, for one to be offered for the
/// other: at 0.75 "corse" finds "cores", and "colour" finds nothing.
const NEAR: f64 = 0.75;

/// The most syntax errors that are reported; the later ones mostly follow from
/// the earlier.
const MAX_SYNTAX_ERRORS: usize = 1000;

/// A value of the document, and its place in bytes.
pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// The sections of one source, as far as they are there.
#[derive(Default)]
pub(super) struct Sections<'d> {
    pub(super) gate: Option<Section<'d>>,
    pub(super) log: Option<Section<'d>>,
    pub(super) metrics: Option<Section<'d>>,
    pub(super) companion: Option<Section<'d>>,
    /// In file order.
    pub(super) rules: Vec<Section<'d>>,
}

/// One `[gate]`, `[log]`, `[metrics]`, `[companion]` or `[[rule]]`.
#[derive(Clone)]
pub(super) struct Section<'d> {
    /// As the policy writes it, with its brackets.
    pub(super) title: &'static str,
    /// The place of the header.
    pub(super) at: Range<usize>,
    table: &'d DeTable<'d>,
}

impl<'d> Section<'d> {
    pub(super) fn get(&self, key: &str) -> Option<&'d Value<'d>> {
        self.table.get(key)
    }

    fn refuse_unknown_keys(&self, known: &[Key], report: &mut Report<'_>) {
        let known: Vec<_> = known.iter().map(|key| key.name).collect();
        for key in self.table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let message = format!("unknown key `{name}` in {}", self.title);
                let others = format!("the keys here are {}", known.join(", "));
                report.error(key.span(), message, near_key(name, &known, &others));
            }
        }
    }
}

/// Parses `text`. `None`: it is not TOML, and the report says where.
pub(super) fn parse<'d>(text: &'d str, report: &mut Report<'_>) -> Option<DeTable<'d>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let not_toml = !errors.is_empty();
    // A file that is no TOML at all has one error a word.
    for error in errors.into_iter().take(MAX_SYNTAX_ERRORS) {
        let at = error.span().unwrap_or(text.len()..text.len());
        let hint = match error.message() {
            "duplicate key" => "a key stands once in a section, and a section once in a file",
            _ => "strings stand in quotes, numbers do not; one `key = value` a line",
        };
        report.error(at, format!("not valid TOML: {}", error.message()), hint);
    }
    (!not_toml).then(|| document.into_inner())
}

/// The sections of a document.
pub(super) fn sections<'d>(document: &'d DeTable<'d>, report: &mut Report<'_>) -> Sections<'d> {
    let mut sections = Sections::default();
    for (key, value) in document {
        match key.get_ref().as_ref() {
            "gate" => sections.gate = table(value, "[gate]", report),
            "log" => sections.log = table(value, "[log]", report),
            "metrics" => sections.metrics = table(value, "[metrics]", report),
            "companion" => sections.companion = table(value, "[companion]", report),
            "rule" => sections.rules = rule_tables(key.span(), value, report),
            other => {
                let others =
                    "a policy has [gate], [log], [metrics], [companion] and [[rule]] sections";
                let hint = near_key(other, SECTIONS, others);
                report.error(key.span(), format!("unknown key `{other}`"), hint);
            }
        }
    }
    for (section, keys) in [
        (&sections.gate, GATE_KEYS),
        (&sections.log, LOG_KEYS),
        (&sections.metrics, METRICS_KEYS),
        (&sections.companion, COMPANION_KEYS),
    ] {
        if let Some(section) = section {
            section.refuse_unknown_keys(keys, report);
        }
    }
    for rule in &sections.rules {
        rule.refuse_unknown_keys(RULE_KEYS, report);
    }
    sections
}

fn table<'d>(
    value: &'d Value<'d>,
    title: &'static str,
    report: &mut Report<'_>,
) -> Option<Section<'d>> {
    let DeValue::Table(table) = value.get_ref() else {
        let is = article(value);
        let hint = format!("write the line {title}, and below it one key = value a line");
        report.error(
            value.span(),
            format!("{title} is a section, and this is {is}"),
            hint,
        );
        return None;
    };
    Some(Section {
        title,
        at: value.span(),
        table,
    })
}

fn rule_tables<'d>(
    key: Range<usize>,
    value: &'d Value<'d>,
    report: &mut Report<'_>,
) -> Vec<Section<'d>> {
    let DeValue::Array(rules) = value.get_ref() else {
        let message = format!("rules are a list, and this is {}", article(value));
        report.error(
            key,
            message,
            "write each rule's header with two brackets: [[rule]]",
        );
        return Vec::new();
    };
    rules
        .iter()
        .filter_map(|rule| table(rule, "[[rule]]", report))
        .collect()
}

/// The string that `value` is. `None`: it is none, and the report says so:
/// that `subject` needs one, and `hint` on what to write.
pub(super) fn string<'d>(
    subject: &str,
    value: &'d Value<'d>,
    hint: &str,
    report: &mut Report<'_>,
) -> Option<&'d str> {
    let string = value.get_ref().as_str();
    if string.is_none() {
        let message = format!("{subject} needs a string, and this is {}", article(value));
        report.error(value.span(), message, hint);
    }
    string
}

/// The whole number that `value` is. `None`: it is none, or has more than 127
/// bits, and the report says so: that `subject` needs one, and `hint` on what
/// to write.
pub(super) fn integer(
    subject: &str,
    value: &Value<'_>,
    hint: &str,
    report: &mut Report<'_>,
) -> Option<i128> {
    let DeValue::Integer(number) = value.get_ref() else {
        let message = format!(
            "{subject} needs a whole number, and this is {}",
            article(value)
        );
        report.error(value.span(), message, hint);
        return None;
    };
    let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
    if parsed.is_none() {
        report.error(
            value.span(),
            format!("{subject} is too large"),
            "write a smaller number",
        );
    }
    parsed
}

/// What the boolean `value` is. `None`: it is none, and the report says so.
pub(super) fn boolean(key: &str, value: &Value<'_>, report: &mut Report<'_>) -> Option<bool> {
    let given = value.get_ref().as_bool();
    if given.is_none() {
        let message = format!(
            "`{key}` needs true or false, and this is {}",
            article(value)
        );
        let hint = format!("write it without quotes: {key} = true");
        report.error(value.span(), message, hint);
    }
    given
}

/// The time that `value` is. `None`: it is none, or out of range, and the report says so. With an
/// example, and what to do when it is too short and too long.
pub(super) fn duration(
    key: &str,
    value: &Value<'_>,
    (example, range, short, long): (&str, RangeInclusive<Duration>, &str, &str),
    report: &mut Report<'_>,
) -> Option<Duration> {
    let hint = format!("write a number and its unit in quotes: {key} = \"{example}\"");
    let text = string(&format!("`{key}`"), value, &hint, report)?;
    let time = match parse_duration(text) {
        Ok(time) => time,
        Err(error) => {
            let message = format!("`{key}` cannot be {text:?}: {error}");
            report.error(value.span(), message, hint);
            return None;
        }
    };
    if range.contains(&time) {
        return Some(time);
    }
    let (least, most) = range.into_inner();
    let message = format!(
        "`{key}` is {text:?}, and goes from {} to {}",
        format_duration(least),
        format_duration(most)
    );
    report.error(
        value.span(),
        message,
        if time < least { short } else { long },
    );
    None
}

/// The entries of the list that `value` is. `None`: it is none, or an empty
/// one, and the report says so, with `hint` on what to write.
pub(super) fn list<'d>(
    key: &str,
    value: &'d Value<'d>,
    hint: &str,
    report: &mut Report<'_>,
) -> Option<&'d [Value<'d>]> {
    let message = match value.get_ref() {
        DeValue::Array(entries) if !entries.is_empty() => return Some(entries),
        DeValue::Array(_) => format!("`{key}` is an empty list, and needs at least one entry"),
        _ => format!("`{key}` needs a list, and this is {}", article(value)),
    };
    report.error(value.span(), message, hint);
    None
}

/// The words that are listed in `value`, each once, in the order of `T::ALL`.
/// What is wrong is left out, and the report says so.
pub(super) fn word_list<T: Word + PartialEq>(
    key: &str,
    value: &Value<'_>,
    hint: &str,
    report: &mut Report<'_>,
) -> Vec<T> {
    let choices = choices::<T>();
    let choice = format!("`{key}` is a list of {}", any_of(&choices));
    let mut found = Vec::new();
    for entry in list(key, value, hint, report).unwrap_or_default() {
        match choose(
            &format!("an entry of `{key}`"),
            entry,
            &choices,
            &choice,
            report,
        ) {
            Some(word) if found.contains(&word) => {
                let message = format!("`{key}` has \"{}\" twice", word.word());
                report.error(entry.span(), message, "take one of them out");
            }
            word => found.extend(word),
        }
    }
    T::ALL
        .iter()
        .copied()
        .filter(|word| found.contains(word))
        .collect()
}

/// The word that `value` is; the default if it is not there or wrong, and in
/// that case the report says so.
pub(super) fn word<T: Word + Default>(
    section: &Section<'_>,
    key: &str,
    report: &mut Report<'_>,
) -> T {
    word_if_given(section, key, report).unwrap_or_default()
}

/// The word that `value` is. `None`: it is not there or wrong, and in that case the report says so.
pub(super) fn word_if_given<T: Word>(
    section: &Section<'_>,
    key: &str,
    report: &mut Report<'_>,
) -> Option<T> {
    let value = section.get(key)?;
    let choices = choices::<T>();
    let choice = format!("`{key}` is {}", any_of(&choices));
    choose(&format!("`{key}`"), value, &choices, &choice, report)
}

fn choices<T: Word>() -> Vec<(&'static str, T)> {
    T::ALL.iter().map(|value| (value.word(), *value)).collect()
}

/// What the string `value` stands for out of `choices`. `None`: for none of
/// them, and the report says so: that `subject` cannot be that, and `choice`
/// on what it can be.
pub(super) fn choose<T: Clone>(
    subject: &str,
    value: &Value<'_>,
    choices: &[(&str, T)],
    choice: &str,
    report: &mut Report<'_>,
) -> Option<T> {
    let given = string(subject, value, choice, report)?;
    let chosen = choices.iter().find(|(word, _)| *word == given);
    if chosen.is_none() {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let hint = match nearest(given, &words) {
            Some(near) => format!("did you mean \"{near}\"? {choice}"),
            None => choice.into(),
        };
        report.error(value.span(), format!("{subject} cannot be {given:?}"), hint);
    }
    chosen.map(|(_, value)| value.clone())
}

/// What to say about a key that is not among `known`: where it belongs, which
/// of them it is like, or else `others`.
fn near_key(key: &str, known: &[&str], others: &str) -> String {
    let home = [
        ("[gate]", GATE_KEYS),
        ("[log]", LOG_KEYS),
        ("[metrics]", METRICS_KEYS),
        ("[companion]", COMPANION_KEYS),
        ("a [[rule]]", RULE_KEYS),
    ]
    .into_iter()
    .find(|(_, keys)| keys.iter().any(|known| known.name == key));
    if let Some((home, _)) = home {
        return format!("`{key}` is a key of {home}: move it there");
    }
    match nearest(key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => others.into(),
    }
}

/// The candidate that is most like `word`, if one is near enough.
fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let word = word.to_lowercase();
    candidates
        .iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&word, &candidate.to_lowercase()),
                *candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`.
pub(super) fn any_of<T>(choices: &[(&str, T)]) -> String {
    let quoted = choices
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ");
    match quoted.rsplit_once(", ") {
        Some((head, last)) => format!("{head} or {last}"),
        None => quoted,
    }
}

/// What a value is, in words, with its article.
pub(super) fn article(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
