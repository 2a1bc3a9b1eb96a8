// SPDX-License-Identifier: GPL-2.0-only
//! How long an admitted launch holds its cores: `hold`, and with it `settle`.

use std::time::Duration;

use crate::policy::Hold;
use crate::policy::diagnostic::Report;
use crate::policy::document::{Section, Value, any_of, choose, duration};

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
    let (short, long) = (
        "write a longer time, or hold = \"none\" in its stead",
        "write a shorter time, or hold = \"exit\" in its stead",
    );
    duration(
        "settle",
        value,
        ("100ms", Hold::SETTLE_RANGE, short, long),
        report,
    )
}
