// SPDX-License-Identifier: GPL-2.0-only
//! How long an admitted launch holds its cores: `hold`, and with it `settle`.

use std::time::Duration;

use humantime::{format_duration, parse_duration};

use crate::policy::Hold;
use crate::policy::diagnostic::Report;
use crate::policy::document::{Section, Value, any_of, choose, string};

/// Reads both keys. `None`: they are wrong, and the report says how.
pub(super) fn hold(section: &Section<'_>, report: &mut Report<'_>) -> Option<Hold> {
    let hold = match section.get("hold") {
        Some(value) => {
            let choice = format!("`hold` is {}", any_of(Hold::WORDS));
            choose("`hold`", value, Hold::WORDS, &choice, report)
        }
        None => Some(Hold::default()),
    };
    let Some(value) = section.get("settle") else {
        return hold;
    };
    let time = settle(value, report);
    if !matches!(hold?, Hold::Settle(_)) {
        let message = "`settle` without hold = \"settle\" has no effect";
        report.error(
            value.span(),
            message,
            "add hold = \"settle\", or take `settle` out",
        );
    }
    time.map(Hold::Settle)
}

fn settle(value: &Value<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let hint = "write a number and its unit in quotes: settle = \"100ms\"";
    let text = string("`settle`", value, hint, report)?;
    let time = match parse_duration(text) {
        Ok(time) => time,
        Err(error) => {
            let message = format!("`settle` cannot be {text:?}: {error}");
            report.error(value.span(), message, hint);
            return None;
        }
    };
    if Hold::SETTLE_RANGE.contains(&time) {
        return Some(time);
    }
    let (least, most) = Hold::SETTLE_RANGE.into_inner();
    let message = format!(
        "`settle` is {text:?}, and goes from {} to {}",
        format_duration(least),
        format_duration(most)
    );
    let hint = if time < least {
        "write a longer time, or hold = \"none\" in its stead"
    } else {
        "write a shorter time, or hold = \"exit\" in its stead"
    };
    report.error(value.span(), message, hint);
    None
}
