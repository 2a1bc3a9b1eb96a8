// SPDX-License-Identifier: GPL-2.0-only
//! What root says of the mode over the head of the policy. It is kept with the gate, which goes by it
//! and ends it without a daemon.

use std::fmt;
use std::mem::offset_of;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use libbpf_rs::MapCore;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Error, abi, kept};
use crate::policy::Mode;

/// An order: the mode, for how long, and what comes then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The mode until the end.
    pub mode: Mode,
    /// How long it still is until the end, in milliseconds of a clock that runs on while the machine
    /// is suspended; `None`: there is no end.
    pub left_ms: Option<u64>,
    /// The mode from then on; `None`: the policy's.
    pub after: Option<Mode>,
    /// By whom; what is longer than some 60 bytes is cut off.
    pub by: String,
    /// Why; what is longer than some 250 bytes is cut off.
    pub reason: String,
    /// When it was given, in seconds since 1970.
    pub since: u64,
}

impl Order {
    /// The mode that it makes now; `None`: the policy's.
    pub fn mode_now(&self) -> Option<Mode> {
        if self.has_ended() {
            self.after
        } else {
            Some(self.mode)
        }
    }

    /// Whether its end has come.
    pub fn has_ended(&self) -> bool {
        self.left_ms == Some(0)
    }

    /// Whether it waits for somebody to confirm it.
    pub fn is_unconfirmed(&self) -> bool {
        !self.has_ended() && self.left_ms.is_some() && self.after == Some(Mode::Observe)
    }

    fn to_raw(&self, now_ms: u64) -> abi::order {
        let number = |mode: Mode| match mode {
            Mode::Observe => abi::mode::MODE_OBSERVE.0,
            Mode::Enforce => abi::mode::MODE_ENFORCE.0,
        };
        let plus_1 = |mode: Option<Mode>| mode.map_or(0, |mode| u64::from(number(mode)) + 1);
        let end = self.left_ms.map_or(0, |left| (now_ms + left).max(1));
        let mut raw = abi::order {
            word: plus_1(Some(self.mode))
                | plus_1(self.after) << abi::order_word::ORDER_AFTER_SHIFT.0
                | end << abi::order_word::ORDER_END_SHIFT.0,
            since: self.since,
            ..Default::default()
        };
        put(&mut raw.by, &self.by);
        put(&mut raw.reason, &self.reason);
        raw
    }

    fn from_raw(raw: &abi::order, now_ms: u64) -> Option<Self> {
        let mode = |bits: u64| {
            let number = bits & u64::from(abi::order_word::ORDER_MODE.0);
            match number.checked_sub(1)? {
                n if n == u64::from(abi::mode::MODE_ENFORCE.0) => Some(Mode::Enforce),
                _ => Some(Mode::Observe),
            }
        };
        let end = raw.word >> abi::order_word::ORDER_END_SHIFT.0;
        Some(Self {
            mode: mode(raw.word)?,
            left_ms: (end != 0).then(|| end.saturating_sub(now_ms)),
            after: mode(raw.word >> abi::order_word::ORDER_AFTER_SHIFT.0),
            by: abi::text(&raw.by),
            reason: abi::text(&raw.reason),
            since: raw.since,
        })
    }
}

/// As in the log: `observe until 2026-01-01T00:00:00Z, then as the policy says; by root: a reason`.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(after) = self.after.filter(|_| self.has_ended()) {
            write!(f, "{after}, as {} ended unconfirmed", self.mode)?;
        } else {
            self.mode.fmt(f)?;
            if let Some(left) = self.left_ms {
                let end = SystemTime::now() + Duration::from_millis(left);
                write!(f, " until {}, then ", format_rfc3339_seconds(end))?;
                match self.after {
                    Some(after) => write!(f, "{after} unless it is confirmed")?,
                    None => f.write_str("as the policy says")?,
                }
            }
        }
        let since = UNIX_EPOCH + Duration::from_secs(self.since);
        let since = format_rfc3339_seconds(since);
        write!(f, "; by {} at {since}: {:?}", self.by, self.reason)
    }
}

/// A change of orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// To give one, in place of the one before.
    Give(Order),
    /// To let the one stand that ends unless it is confirmed.
    Confirm,
    /// To go by the policy.
    End,
}

/// Why there is nothing to confirm.
#[derive(Debug, thiserror::Error)]
#[error("nothing waits to be confirmed; begin with 'coregate mode enforce --confirm 5m'")]
pub struct Unconfirmable;

/// The order that was given last, if it was not taken back; its end may have come.
///
/// # Errors
///
/// See [`Error`].
pub fn given(section: &dyn MapCore) -> Result<Option<Order>, Error> {
    Ok(Order::from_raw(&kept::read(section)?.order, boot_ms()?))
}

/// Makes a change, from one instant on.
///
/// # Errors
///
/// See [`Error`]; or there was nothing to confirm.
pub fn take(section: &dyn MapCore, step: &Step) -> Result<Result<(), Unconfirmable>, Error> {
    let raw = match step {
        Step::Give(order) => order.to_raw(boot_ms()?),
        Step::Confirm => match given(section)? {
            Some(order) if order.is_unconfirmed() => Order {
                left_ms: None,
                after: None,
                ..order
            }
            .to_raw(0),
            _ => return Ok(Err(Unconfirmable)),
        },
        Step::End => abi::order::default(),
    };
    let bytes = abi::bytes(&raw);
    let (word, rest) = bytes.split_at(size_of_val(&raw.word));
    let place = offset_of!(abi::kept, order);
    kept::write(section, place + word.len(), rest)?;
    kept::write(section, place, word)?;
    Ok(Ok(()))
}

/// Milliseconds of the clock by which orders end.
fn boot_ms() -> Result<u64, Error> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|_| Error::Form("CLOCK_BOOTTIME"))?;
    Ok(Duration::from(now).as_millis() as u64)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Writes as much of a text as there is room for, with a NUL behind it.
fn put(field: &mut [u8], text: &str) {
    let room = field.len() - 1;
    let mut ends = (0..=room.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests;
