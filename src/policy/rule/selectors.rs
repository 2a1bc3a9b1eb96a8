// SPDX-License-Identifier: GPL-2.0-only
//! Whom a rule matches: from the values of its selectors to what a launch is compared with.

use std::collections::HashSet;
use std::hash::Hash;
use std::slice;

use toml::de::DeValue;

use crate::policy::diagnostic::Report;
use crate::policy::document::{Section, Value, integer, list, string, word};
use crate::policy::{
    ARGV_LOOKED_AT, Group, Hook, Host, MAX_ARG, MAX_COMM, MAX_PATTERN, PathPattern, Pattern,
    SELECTOR_KEYS, Selectors, User,
};

/// The selectors that are for an exec only, and why.
const OF_EXEC: &[(&str, &str)] = &[
    ("argv", "a fork or a new thread has no arguments"),
    (
        "parent",
        "what makes a fork or a new thread is the program itself, its `exe`",
    ),
];

/// What is wrong with a value, and what to do about it.
struct Fault(String, String);

/// Reads the selectors of a rule that watches `on`. `None`: one is wrong, and the report says how.
pub(super) fn selectors(
    section: &Section<'_>,
    on: &[Hook],
    host: &dyn Host,
    report: &mut Report<'_>,
) -> Option<Selectors> {
    if SELECTOR_KEYS.iter().all(|key| section.get(key).is_none()) {
        let message = "this rule does not say whom it matches, and would match every launch";
        let hint = "add the program's path, such as exe = \"/usr/bin/redis-server\", or one of \
                    unit, cgroup, user, group, comm, argv and parent";
        report.error(section.at.clone(), message, hint);
    }
    for (key, why) in OF_EXEC {
        let other = on.iter().find(|hook| **hook != Hook::Exec);
        if let (Some(value), Some(hook)) = (section.get(key), other) {
            let message = format!("`{key}` is for \"exec\" only, and this rule is on \"{hook}\"");
            let hint = format!("{why}; write a rule of its own for \"{hook}\"");
            report.error(value.span(), message, hint);
        }
    }
    let exe = strings("exe", "/usr/bin/redis-server", section, report, |text| {
        path("exe", text, host)
    });
    let unit = strings("unit", "redis.service", section, report, unit);
    let cgroup = strings("cgroup", "/system.slice", section, report, cgroup);
    let user = ids("user", section, &|name| host.uid(name), report);
    let group = ids("group", section, &|name| host.gid(name), report);
    let comm = strings("comm", "redis-server", section, report, comm);
    let argv = strings("argv", "-jar", section, report, arg);
    let argv = argv.filter(|argv| few_enough(argv, section, report));
    let parent = strings("parent", "/usr/bin/make", section, report, |text| {
        path("parent", text, host)
    });
    let container = word(section, "container", report);
    Some(Selectors {
        exe: exe?,
        unit: unit?,
        cgroup: cgroup?,
        user: user?
            .into_iter()
            .map(|(uid, name)| User { uid, name })
            .collect(),
        group: group?
            .into_iter()
            .map(|(gid, name)| Group { gid, name })
            .collect(),
        comm: comm?,
        argv: argv?,
        parent: parent?,
        container,
    })
}

/// The one value of a key, or those of its list, each read by `read`, each once; none, if the key
/// is not there. `None`: the list is empty, or one of them is wrong or there twice, and the report
/// says so.
fn one_or_more<'d, T: Clone + Eq + Hash>(
    key: &str,
    section: &Section<'d>,
    hint: impl Fn() -> String,
    report: &mut Report<'_>,
    read: impl Fn(&'d Value<'d>, &mut Report<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(value) = section.get(key) else {
        return Some(Vec::new());
    };
    let entries = match value.get_ref() {
        DeValue::Array(_) => list(key, value, &hint(), report)?,
        _ => slice::from_ref(value),
    };
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for entry in entries {
        match read(entry, report) {
            Some(one) if entries.len() > 1 && !known.insert(one.clone()) => {
                let message = format!("`{key}` has this entry twice");
                report.error(entry.span(), message, "take one of them out");
            }
            one => found.extend(one),
        }
    }
    // What was wrong, or there before, is missing.
    (found.len() == entries.len()).then_some(found)
}

/// Those of a key whose values are strings, such as `example`.
fn strings<T: Clone + Eq + Hash>(
    key: &str,
    example: &str,
    section: &Section<'_>,
    report: &mut Report<'_>,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Option<Vec<T>> {
    let hint = || format!("write it in quotes: {key} = {example:?}, or a list of such");
    one_or_more(key, section, hint, report, |value, report| {
        let Some(text) = value.get_ref().as_str() else {
            return string(&format!("`{key}`"), value, &hint(), report).and(None);
        };
        match printable(key, text).and_then(|()| read(text)) {
            Ok(read) => Some(read),
            Err(Fault(message, hint)) => {
                report.error(value.span(), message, hint);
                None
            }
        }
    })
}

fn bad<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(message.into(), hint.into()))
}

/// The kernel forbids only NUL, but all of them go into log lines.
fn printable(key: &str, text: &str) -> Result<(), Fault> {
    match text.chars().find(|c| c.is_control()) {
        Some(control) => bad(
            format!("`{key}` has the control character {control:?} in it"),
            "take it out, or choose by something else",
        ),
        None => Ok(()),
    }
}

fn path(key: &str, text: &str, host: &dyn Host) -> Result<PathPattern, Fault> {
    if text.is_empty() {
        return bad(format!("`{key}` is empty"), "write the program's full path");
    }
    if !text.starts_with('/') {
        return bad(
            format!("`{key}` is not an absolute path: {text:?}"),
            "write the full path, from / on: see `command -v`",
        );
    }
    if text.len() > MAX_PATTERN {
        return bad(
            format!(
                "`{key}` is {} bytes long, and the gate's map holds {MAX_PATTERN}",
                text.len()
            ),
            "install the program under a shorter path",
        );
    }
    components(
        key,
        text,
        "write the path as the kernel resolves it: see `realpath`",
    )?;
    let (folder, name) = text.split_at(text.rfind('/').map_or(0, |slash| slash + 1));
    if folder.contains('*') {
        return bad(
            format!("`{key}` has a `*` in the name of a folder: {text:?}"),
            "let it stand for a part of the file's name, or name a folder with `/` at its end for \
             all that is below it",
        );
    }
    if name.matches('*').count() > 1 {
        return bad(
            format!("`{key}` has more than one `*`: {text:?}"),
            "let one stand for a part of the file's name, or name a folder with `/` at its end for \
             all that is below it",
        );
    }
    // What a folder or a glob stands for need not be there: it is the folder that is resolved. A
    // `*` in what it resolves to is none of the policy's.
    let in_folder = || {
        let folder = host.resolve(folder).unwrap_or_else(|| folder.into());
        format!("{}/", folder.trim_end_matches('/'))
    };
    let pattern = match Pattern::new(name) {
        Pattern::Glob { prefix, suffix } => Pattern::Glob {
            prefix: in_folder() + &prefix,
            suffix,
        },
        Pattern::Exact(_) if name.is_empty() => Pattern::Folder(in_folder()),
        _ => Pattern::Exact(host.resolve(text).unwrap_or_else(|| text.into())),
    };
    let resolved = pattern.to_string();
    if resolved == "/" {
        return bad(
            format!("`{key}` is {text:?}, and every program is below `/`"),
            "name a folder below it, or leave the key out",
        );
    }
    if resolved.len() > MAX_PATTERN {
        return bad(
            format!(
                "`{key}` leads to a path of {} bytes, and the gate's map holds {MAX_PATTERN}",
                resolved.len()
            ),
            "install the program under a shorter path",
        );
    }
    Ok(PathPattern {
        text: text.into(),
        resolved: pattern,
    })
}

/// Refuses what the kernel never shows in a path.
fn components(key: &str, path: &str, hint: &str) -> Result<(), Fault> {
    if path.contains("//") {
        return bad(format!("`{key}` has `//` in it: {path:?}"), hint);
    }
    match path.split('/').find(|part| matches!(*part, "." | "..")) {
        Some(dots) => bad(
            format!("`{key}` has `{dots}` as a component: {path:?}"),
            hint,
        ),
        None => Ok(()),
    }
}

fn unit(text: &str) -> Result<Pattern, Fault> {
    if text.is_empty() {
        return bad("`unit` is empty", "write the unit's name");
    }
    if text.contains('/') {
        return bad(
            format!("`unit` is one name, and this has a `/` in it: {text:?}"),
            "write the last part only, or the path with `cgroup`",
        );
    }
    if text.len() > MAX_PATTERN {
        return bad(
            format!(
                "`unit` is {} bytes long, and the kernel's names have up to {MAX_PATTERN}",
                text.len()
            ),
            "shorten it with a `*`",
        );
    }
    if text.matches('*').count() > 1 {
        return bad(
            format!("`unit` has more than one `*`: {text:?}"),
            "let one `*` stand for a part of the name",
        );
    }
    if text == "*" {
        return bad(
            "`unit` is \"*\", and that is every unit",
            "write a part of the name before or after the `*`, or leave the key out",
        );
    }
    Ok(Pattern::new(text))
}

fn cgroup(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return bad(
            "`cgroup` is empty",
            "write the cgroup's path: see `systemd-cgls`",
        );
    }
    if !text.starts_with('/') {
        return bad(
            format!("`cgroup` does not begin with `/`: {text:?}"),
            "write the whole path, as /proc/PID/cgroup shows it after `0::`; for a name alone \
             there is `unit`",
        );
    }
    if text == "/" {
        return bad(
            "`cgroup` is \"/\", and every cgroup is below it",
            "name one below it, or leave the key out",
        );
    }
    if text == "/sys/fs/cgroup" || text.starts_with("/sys/fs/cgroup/") {
        return bad(
            format!("`cgroup` is not a path of the file system: {text:?}"),
            "take /sys/fs/cgroup off it: the path begins at the root of the cgroups",
        );
    }
    if text.len() > MAX_PATTERN {
        return bad(
            format!(
                "`cgroup` is {} bytes long, and the gate's map holds {MAX_PATTERN}",
                text.len()
            ),
            "name a cgroup above it, or the unit with `unit`",
        );
    }
    if text.contains('*') {
        return bad(
            format!("`cgroup` has a `*` in it: {text:?}"),
            "write the part before it, as all below a cgroup is taken in; for names with a `*` \
             there is `unit`",
        );
    }
    let Some(whole) = text.strip_suffix('/') else {
        components(
            "cgroup",
            text,
            "write the path as /proc/PID/cgroup shows it",
        )?;
        return Ok(text.into());
    };
    bad(
        format!("`cgroup` ends in `/`: {text:?}"),
        format!("write {whole:?}: all that is below it is taken in"),
    )
}

fn comm(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return bad(
            "`comm` is empty",
            "write the name, as /proc/PID/comm shows it",
        );
    }
    if text.len() > MAX_COMM {
        return bad(
            format!(
                "`comm` is {} bytes long, and the kernel keeps {MAX_COMM} of a name: {text:?}",
                text.len()
            ),
            "write the name as /proc/PID/comm shows it",
        );
    }
    Ok(text.into())
}

fn arg(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return bad("`argv` has an empty argument", "take it out");
    }
    if text.len() > MAX_ARG {
        return bad(
            format!(
                "an argument in `argv` is {} bytes long, and the gate reads {MAX_ARG}",
                text.len()
            ),
            "choose by a shorter argument",
        );
    }
    Ok(text.into())
}

fn few_enough(argv: &[String], section: &Section<'_>, report: &mut Report<'_>) -> bool {
    let few = argv.len() <= ARGV_LOOKED_AT;
    if let (false, Some(value)) = (few, section.get("argv")) {
        let message = format!(
            "`argv` has {} arguments, and all of them have to stand among the first \
             {ARGV_LOOKED_AT}",
            argv.len()
        );
        report.error(value.span(), message, "name those that tell it from others");
    }
    few
}

/// Looks the number of a name up.
type LookUp<'h> = &'h dyn Fn(&str) -> Result<Option<u32>, String>;

/// The numbers of users or of groups, which is what `key` says, and their names.
fn ids(
    key: &str,
    section: &Section<'_>,
    look_up: LookUp<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<(u32, Option<String>)>> {
    let hint = || format!("write a name in quotes, or a number: {key} = \"redis\" or {key} = 999");
    one_or_more(key, section, hint, report, |value, report| {
        let id = match value.get_ref() {
            DeValue::Integer(_) => {
                number(key, integer(&format!("`{key}`"), value, &hint(), report)?)
            }
            DeValue::String(name) if is_number(name) => {
                number(key, name.parse().unwrap_or(i128::MAX))
            }
            DeValue::String(name) => named(key, name, look_up),
            _ => bad(format!("`{key}` needs a {key}'s name or number"), hint()),
        };
        id.map_err(|Fault(message, hint)| report.error(value.span(), message, hint))
            .ok()
    })
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(key: &str, number: i128) -> Result<(u32, Option<String>), Fault> {
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok((id, None)),
        _ => bad(
            format!("{number} is not a {key}'s number"),
            format!("{key} numbers go from 0 to {}", u32::MAX - 1),
        ),
    }
}

fn named(key: &str, name: &str, look_up: LookUp<'_>) -> Result<(u32, Option<String>), Fault> {
    match look_up(name) {
        Ok(Some(id)) => Ok((id, Some(name.into()))),
        Ok(None) => bad(
            format!("this machine has no {key} {name:?}"),
            format!("correct the name, create the {key} first, or write the number"),
        ),
        Err(reason) => bad(
            format!("the {key} {name:?} could not be looked up: {reason}"),
            format!("try again, or write the {key}'s number"),
        ),
    }
}
