// SPDX-License-Identifier: GPL-2.0-only
//! The companion scheduler.

use crate::Test;

pub(crate) const TESTS: &[Test] = &[];
