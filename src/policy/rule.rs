// SPDX-License-Identifier: GPL-2.0-only
//! One `[[rule]]`: from values of the right type to a rule that can be
//! applied on this host.

mod hold;
mod need;

use std::collections::HashMap;
use std::ops::Range;
use std::slice;

use toml::de::DeValue;

use super::diagnostic::Report;
use super::document::{Section, Value, boolean, integer, list, string, word, word_list};
use super::{Action, Errno, Exe, Host, MAX_EXE, MAX_NAME, Origin, Rule, Selectors, User};

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

const EXE_HINT: &str = "write a path in quotes: exe = \"/usr/bin/redis-server\", or a list of them";

const USER_HINT: &str = "write a name in quotes, or a number: user = \"redis\" or user = 999";

/// The names that rules have so far, and the line of each.
pub(super) type Names = HashMap<String, usize>;

/// Reads one rule. `None`: the rule is wrong, and the report says how.
pub(super) fn rule(
    section: &Section<'_>,
    host: &dyn Host,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<Rule> {
    let line = report.line(section.at.start);
    let name = name(section, names, report);
    let exe = exes(section, host, report);
    let user = match section.get("user") {
        Some(value) => one_or_more("user", value, USER_HINT, report, |value, report| {
            user(value, host, report)
        }),
        None => Some(Vec::new()),
    };
    let on = match section.get("on") {
        Some(value) => {
            let hint = "name what the rule watches, such as on = [\"exec\"]";
            word_list("on", value, hint, report)
        }
        None => Rule::DEFAULT_ON.into(),
    };
    let need = need::need(section, host, report);
    let own_core = section
        .get("own_core")
        .and_then(|value| boolean("own_core", value, report));
    let hold = hold::hold(section, report);
    let action: Action = word(section, "action", report);
    let errno = errno(section, report);
    let (cores, scope) = need?;
    Some(Rule {
        name: name?,
        selectors: Selectors {
            exe: exe?,
            user: user?,
        },
        on,
        cores,
        scope,
        own_core,
        hold: hold?,
        action,
        errno,
        origin: Origin {
            file: report.file().clone(),
            line,
        },
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
    let line = report.line(value.span().start);
    if let Some(first) = names.get(name) {
        let message = format!("a second rule is named {name:?}; the first is in line {first}");
        let hint = "give each rule a name of its own: its counters go by it";
        report.error(value.span(), message, hint);
        return None;
    }
    names.insert(name.into(), line);
    Some(name.into())
}

/// The one value, or those of a list, each read by `read`, each once. `None`: the list is empty, or
/// one of them is wrong or there twice, and the report says so.
fn one_or_more<'d, T: PartialEq>(
    key: &str,
    value: &'d Value<'d>,
    hint: &str,
    report: &mut Report<'_>,
    mut read: impl FnMut(&'d Value<'d>, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let entries = match value.get_ref() {
        DeValue::Array(_) => list(key, value, hint, report)?,
        _ => slice::from_ref(value),
    };
    let mut found = Vec::new();
    for entry in entries {
        match read(entry, report) {
            Some(one) if found.contains(&one) => {
                let message = format!("`{key}` has this entry twice");
                report.error(entry.span(), message, "take one of them out");
            }
            one => found.extend(one),
        }
    }
    // What was wrong, or there before, is missing.
    (found.len() == entries.len()).then_some(found)
}

fn exes(section: &Section<'_>, host: &dyn Host, report: &mut Report<'_>) -> Option<Vec<Exe>> {
    let hint = "add the program's path, such as exe = \"/usr/bin/redis-server\"";
    let value = required(section, "exe", hint, report)?;
    one_or_more("exe", value, EXE_HINT, report, |value, report| {
        exe(value, host, report)
    })
}

fn exe(value: &Value<'_>, host: &dyn Host, report: &mut Report<'_>) -> Option<Exe> {
    let exe = string("`exe`", value, EXE_HINT, report)?;
    if let Some((message, hint)) = exe_fault(exe) {
        report.error(value.span(), message, hint);
        return None;
    }
    let file = host.resolve(exe).unwrap_or_else(|| exe.into());
    if file.len() > MAX_EXE {
        let message = format!(
            "`exe` leads to a path of {} bytes, and the gate's map holds {MAX_EXE}",
            file.len()
        );
        report.error(
            value.span(),
            message,
            "install the program under a shorter path",
        );
        return None;
    }
    Some(Exe {
        text: exe.into(),
        file,
    })
}

/// Why the gate could never see a launch of `exe`, and what to do about it.
fn exe_fault(exe: &str) -> Option<(String, String)> {
    let resolved = "write the path as the kernel resolves it: see `realpath`";
    if exe.is_empty() {
        Some((
            "`exe` is empty".into(),
            "write the program's full path".into(),
        ))
    } else if !exe.starts_with('/') {
        let hint = "write the full path, from / on: see `command -v`";
        Some((
            format!("`exe` is not an absolute path: {exe:?}"),
            hint.into(),
        ))
    } else if exe.len() > MAX_EXE {
        let (len, hint) = (exe.len(), "install the program under a shorter path");
        Some((
            format!("`exe` is {len} bytes long, and the gate's map holds {MAX_EXE}"),
            hint.into(),
        ))
    } else if let Some(control) = exe.chars().find(|c| c.is_control()) {
        // The kernel forbids only NUL, but the path goes into log lines.
        let hint = "take it out, or rename the program";
        Some((
            format!("`exe` has the control character {control:?} in it"),
            hint.into(),
        ))
    } else if exe.ends_with('/') {
        Some((
            format!("`exe` is a folder: {exe:?}"),
            "name the program itself".into(),
        ))
    } else if exe.contains("//") {
        Some((format!("`exe` has `//` in it: {exe:?}"), resolved.into()))
    } else {
        let dots = exe.split('/').find(|part| matches!(*part, "." | ".."))?;
        Some((
            format!("`exe` has `{dots}` as a component: {exe:?}"),
            resolved.into(),
        ))
    }
}

fn user(value: &Value<'_>, host: &dyn Host, report: &mut Report<'_>) -> Option<User> {
    match value.get_ref() {
        DeValue::Integer(_) => {
            let number = integer("`user`", value, USER_HINT, report)?;
            uid(number, value.span(), report)
        }
        DeValue::String(name) if is_number(name) => {
            let number = name.parse().unwrap_or(i128::MAX);
            uid(number, value.span(), report)
        }
        DeValue::String(name) => named_user(name, value.span(), host, report),
        _ => {
            let message = "`user` needs a user's name or number";
            report.error(value.span(), message, USER_HINT);
            None
        }
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn uid(number: i128, at: Range<usize>, report: &mut Report<'_>) -> Option<User> {
    match u32::try_from(number) {
        Ok(uid) if uid != u32::MAX => Some(User { uid, name: None }),
        _ => {
            let hint = format!("user numbers go from 0 to {}", u32::MAX - 1);
            report.error(at, format!("{number} is not a user's number"), hint);
            None
        }
    }
}

fn named_user(
    name: &str,
    at: Range<usize>,
    host: &dyn Host,
    report: &mut Report<'_>,
) -> Option<User> {
    match host.uid(name) {
        Ok(Some(uid)) => Some(User {
            uid,
            name: Some(name.into()),
        }),
        Ok(None) => {
            let hint = "correct the name, create the user first, or write the number";
            report.error(at, format!("this machine has no user {name:?}"), hint);
            None
        }
        Err(reason) => {
            let message = format!("the user {name:?} could not be looked up: {reason}");
            report.error(at, message, "try again, or write the user's number");
            None
        }
    }
}

fn errno(section: &Section<'_>, report: &mut Report<'_>) -> Errno {
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
        return Errno::default();
    }
    word(section, "errno", report)
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
