// SPDX-License-Identifier: GPL-2.0-only
//! One `[[rule]]`: from values of the right type to a rule that can be
//! applied on this host.

mod hold;
mod isolation;
mod need;
mod selectors;

use std::collections::HashMap;

use super::diagnostic::Report;
use super::document::{Section, Value, boolean, string, word, word_if_given, word_list};
use super::{Action, Errno, Host, MAX_NAME, Origin, Rule};

/// The errors that a policy must not name, and why.
const FORBIDDEN_ERRNO: &[(&str, &str)] = &[
    (
        "EACCES",
        "execvp(3) then searches on through PATH and may start another program",
    ),
    (
        "ENOEXEC",
        "execvp(3) and shells then run the file as a shell script",
    ),
];

/// The names that rules have so far, and the place of each.
pub(super) type Names = HashMap<String, Origin>;

/// Reads one rule. `None`: the rule is wrong, and the report says how.
pub(super) fn rule(
    section: &Section<'_>,
    host: &dyn Host,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Rule> {
    let origin = report.origin(section.at.start);
    let name = name(section, names, report);
    let on = match section.get("on") {
        Some(value) => {
            let hint = "name what the rule watches, such as on = [\"exec\"]";
            word_list("on", value, hint, report)
        }
        None => Rule::DEFAULT_ON.into(),
    };
    let selectors = selectors::selectors(section, &on, host, report);
    let need = need::need(section, host, report);
    let own_core = section
        .get("own_core")
        .and_then(|value| boolean("own_core", value, report));
    let hold = hold::hold(section, report);
    let action: Action = word(section, "action", report);
    let (isolation, keep) = isolation::isolation(section, action, hold, report);
    let errno = errno(section, report);
    let (cores, scope) = need?;
    Some(Rule {
        name: name?,
        selectors: selectors?,
        on,
        cores,
        scope,
        own_core,
        hold: hold?,
        isolation,
        keep,
        action,
        errno,
        origin,
    })
}

fn name(section: &Section<'_>, names: &mut Names, report: &mut Report<'_>) -> Option<String> {
    let hint = "add a name, such as name = \"cache\": events and status call the rule by it";
    let value = required(section, "name", hint, report)?;
    let name = string(
        "`name`",
        value,
        "write it in quotes: name = \"cache\"",
        report,
    )?;
    let foreign = name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c));
    if let Some(foreign) = foreign {
        let message = format!("the rule name {name:?} has the character {foreign:?}");
        report.error(
            value.span(),
            message,
            "use letters, digits, '.', '_' and '-' only",
        );
        return None;
    }
    if name.is_empty() || name.len() > MAX_NAME {
        let message = format!("the rule name is {} bytes long", name.len());
        report.error(value.span(), message, format!("use 1 to {MAX_NAME} bytes"));
        return None;
    }
    let origin = report.origin(value.span().start);
    if let Some(first) = names.get(name) {
        let place = if first.file == origin.file {
            format!("in line {}", first.line)
        } else {
            format!("at {first}")
        };
        let message = format!("a second rule is named {name:?}; the first is {place}");
        let hint = "give each rule a name of its own: its counters go by it";
        report.error(value.span(), message, hint);
        return None;
    }
    names.insert(name.into(), origin);
    Some(name.into())
}

fn errno(section: &Section<'_>, report: &mut Report<'_>) -> Option<Errno> {
    let value = section.get("errno");
    let given = value.and_then(|value| value.get_ref().as_str());
    let forbidden = FORBIDDEN_ERRNO
        .iter()
        .find(|(name, _)| Some(*name) == given);
    if let (Some(value), Some((name, why))) = (value, forbidden) {
        let hint = "use \"EAGAIN\", or \"EBUSY\" or \"EPERM\": programs take these for a refusal";
        report.error(
            value.span(),
            format!("`errno` must not be {name}: {why}"),
            hint,
        );
        return None;
    }
    word_if_given(section, "errno", report)
}

/// The value of a key that every rule has. `None`: it is missing, and the
/// report says so.
fn required<'d>(
    section: &Section<'d>,
    key: &str,
    hint: &str,
    report: &mut Report<'_>,
) -> Option<&'d Value<'d>> {
    let value = section.get(key);
    if value.is_none() {
        report.error(
            section.at.clone(),
            format!("this rule has no `{key}`"),
            hint,
        );
    }
    value
}
