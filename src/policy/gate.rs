// SPDX-License-Identifier: GPL-2.0-only
//! What holds for all rules: the section `[gate]`.

use super::diagnostic::Report;
use super::document::{Section, duration, integer, word, word_if_given};
use super::{Lease, Policy};

/// Reads the section. What is wrong is left at its default, and the report says so.
pub(super) fn gate(section: &Section<'_>, policy: &mut Policy, report: &mut Report<'_>) {
    policy.mode = word(section, "mode", report);
    policy.on_unknown = word_if_given(section, "on_unknown", report);
    policy.lease = lease(section, report);
    policy.event_rate = event_rate(section, report);
}

fn lease(section: &Section<'_>, report: &mut Report<'_>) -> Option<Lease> {
    let end = word_if_given(section, "on_lease_end", report);
    let Some(value) = section.get("lease") else {
        if let Some(end) = section.get("on_lease_end") {
            let message = "`on_lease_end` without `lease` has no effect";
            report.error(end.span(), message, "add lease = \"60s\", or take it out");
        }
        return None;
    };
    let (short, long) = (
        "write a longer time",
        "write a shorter time, or take it out",
    );
    let time = duration("lease", value, ("60s", Lease::RANGE, short, long), report)?;
    Some(Lease {
        time,
        end: end.unwrap_or_default(),
    })
}

fn event_rate(section: &Section<'_>, report: &mut Report<'_>) -> u32 {
    let hint = "write how many a second there may be, such as event_rate = 100; 0 is for no limit";
    let default = Policy::default().event_rate;
    let Some(value) = section.get("event_rate") else {
        return default;
    };
    let Some(rate) = integer("`event_rate`", value, hint, report) else {
        return default;
    };
    let most = Policy::MOST_EVENT_RATE;
    u32::try_from(rate)
        .ok()
        .filter(|rate| *rate <= most)
        .unwrap_or_else(|| {
            let message = format!("`event_rate` is {rate}, and goes from 0 to {most}");
            report.error(value.span(), message, hint);
            default
        })
}
