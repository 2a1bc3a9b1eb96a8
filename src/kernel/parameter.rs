// SPDX-License-Identifier: GPL-2.0-only
//! `coregate.mode=` on the kernel command line: for a machine that does not come up otherwise.

use std::fs;
use std::path::Path;

const NAME: &str = "coregate.mode";

/// What whoever booted the machine wants of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// That it denies nothing.
    Observe,
    /// That it does not stand.
    Off,
    /// Something that is not known here; it denies nothing then.
    Unknown(String),
}

impl Parameter {
    /// What the command line below `root` says; the last word counts, as for the kernel's own
    /// parameters. `None`: nothing, or there is none to read.
    pub fn read(root: &Path) -> Option<Self> {
        let line = fs::read_to_string(root.join("proc/cmdline")).ok()?;
        Self::of(&line)
    }

    fn of(line: &str) -> Option<Self> {
        let words = line.split_ascii_whitespace().rev();
        let value = words
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| *name == NAME)?
            .1;
        Some(match value.trim_matches('"') {
            "observe" => Self::Observe,
            "off" => Self::Off,
            other => Self::Unknown(other.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        for (line, meant) in [
            ("quiet", None),
            ("coregate.mode", None),
            ("xcoregate.mode=off", None),
            ("quiet coregate.mode=off\n", Some(Parameter::Off)),
            (
                "coregate.mode=off coregate.mode=observe",
                Some(Parameter::Observe),
            ),
            (
                "coregate.mode=enforce",
                Some(Parameter::Unknown("enforce".into())),
            ),
        ] {
            assert_eq!(Parameter::of(line), meant, "{line}");
        }
    }
}
