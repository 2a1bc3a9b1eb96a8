// SPDX-License-Identifier: GPL-2.0-only
//! The section `[companion]`: how the companion shares the CPUs.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::Report;
use super::document::{Section, Value, duration, string};

/// How the companion shares the CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// How long a task may run while others wait; one of [`Companion::SLICE_RANGE`].
    pub slice: Duration,
    /// How much of each node stays unheld.
    pub reserve: Reserve,
}

impl Companion {
    /// How long a task may run: below, it is little more than the switch; above, nobody waits so
    /// long.
    pub const SLICE_RANGE: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_secs(1);
}

impl Default for Companion {
    fn default() -> Self {
        Self {
            slice: Duration::from_millis(20),
            reserve: Reserve::Cores(1),
        }
    }
}

/// How much of each node stays unheld, for those that hold nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// So many cores; not 0.
    Cores(usize),
    /// So many hundredths of them; one of [`Reserve::PERCENT_RANGE`].
    Percent(usize),
}

impl Reserve {
    /// How many hundredths: something is left to be held.
    pub const PERCENT_RANGE: RangeInclusive<usize> = 1..=90;

    /// How many cores these are of a node with `of`.
    pub fn cores(self, of: usize) -> usize {
        match self {
            Self::Cores(cores) => cores.min(of),
            Self::Percent(percent) => (of * percent).div_ceil(100),
        }
    }
}

/// Reads the section. What is wrong is left at its default, and the report says so.
pub(super) fn companion(section: &Section<'_>, report: &mut Report<'_>) -> Companion {
    let default = Companion::default();
    let slice = section.get("slice");
    let reserve = section.get("reserve");
    Companion {
        slice: slice
            .and_then(|value| read_slice(value, report))
            .unwrap_or(default.slice),
        reserve: reserve
            .and_then(|value| read_reserve(value, report))
            .unwrap_or(default.reserve),
    }
}

fn read_slice(value: &Value<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let (short, long) = ("write a longer time", "write a shorter time");
    let times = ("20ms", Companion::SLICE_RANGE, short, long);
    duration("slice", value, times, report)
}

fn read_reserve(value: &Value<'_>, report: &mut Report<'_>) -> Option<Reserve> {
    let (least, most) = Reserve::PERCENT_RANGE.into_inner();
    let hint = format!(
        "write a number of cores, reserve = \"1 core\", or a part of each node's, from \
         \"{least}%\" to \"{most}%\""
    );
    let text = string("`reserve`", value, &hint, report)?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number > 0)
    };
    let percent = text.strip_suffix('%').and_then(number);
    let percent = percent.filter(|percent| Reserve::PERCENT_RANGE.contains(percent));
    let cores = text.strip_suffix(" cores").or(text.strip_suffix(" core"));
    let reserve = percent
        .map(Reserve::Percent)
        .or(cores.and_then(number).map(Reserve::Cores));
    if reserve.is_none() {
        report.error(value.span(), format!("`reserve` cannot be {text:?}"), hint);
    }
    reserve
}
