// SPDX-License-Identifier: GPL-2.0-only
//! What the companion does for the cores that a launch holds: `isolation` and `keep`.

use std::time::Duration;

use humantime::format_duration;

use crate::policy::diagnostic::Report;
use crate::policy::document::{Section, Value, duration, word};
use crate::policy::{Action, Hold, Isolation, Rule};

/// Reads both keys of a rule that holds cores in this way, `None` if that is not known. What is
/// wrong is left at its default, and the report says so.
pub(super) fn isolation(
    section: &Section<'_>,
    action: Action,
    hold: Option<Hold>,
    report: &mut Report<'_>,
) -> (Isolation, Duration) {
    let isolation = word(section, "isolation", report);
    let keep = section.get("keep");
    let time = keep.and_then(|value| read_keep(value, report));
    for key in ["isolation", "keep"] {
        let by = match hold {
            _ if action == Action::Exempt => "action = \"exempt\"",
            Some(Hold::None) => "hold = \"none\"",
            _ if key == "keep" && isolation == Isolation::None => "isolation = \"none\"",
            _ => continue,
        };
        if let Some(value) = section.get(key) {
            let message = format!("`{key}` with {by} has no effect");
            report.error(value.span(), message, "take one of them out");
        }
    }
    (isolation, time.unwrap_or(Rule::DEFAULT_KEEP))
}

fn read_keep(value: &Value<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let (short, long) = (
        "write a longer time, or \"0\" to give the core back at once",
        "write a shorter time",
    );
    let (least, most) = Rule::KEEP_RANGE.into_inner();
    let times = ("4ms", Duration::ZERO..=most, short, long);
    let time = duration("keep", value, times, report)?;
    let too_short = !time.is_zero() && time < least;
    if too_short {
        let message = format!("`keep` is shorter than {}", format_duration(least));
        report.error(value.span(), message, short);
    }
    (!too_short).then_some(time)
}
