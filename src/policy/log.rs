// SPDX-License-Identifier: GPL-2.0-only
//! Where verdicts are logged: the section `[log]`.

use super::diagnostic::Report;
use super::document::{Section, Value, boolean, string, word};
use super::words::words;

/// The longest path of a log file, in bytes: `PATH_MAX` of the kernel, less its NUL.
pub const MAX_LOG_FILE: usize = 4095;

words! {
    /// Which log of the system gets the verdicts, and what the daemon says.
    #[derive(Default)]
    pub enum SystemLog {
        /// The journal if systemd connected the daemon to it, else [`SystemLog::Syslog`].
        #[default]
        Auto = "auto",
        /// systemd's, by its native protocol, with a field for each value.
        Journal = "journal",
        /// Whoever listens at `/dev/log`, in the format of `syslog(3)` (RFC 3164). This is what
        /// log daemons expect there if they are not told otherwise.
        Syslog = "syslog",
        /// The same in the format of RFC 5424, with a field for each value.
        Rfc5424 = "rfc5424",
        /// None.
        None = "none",
    }
}

/// Where verdicts are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The log of the system.
    pub system: SystemLog,
    /// A file that gets each verdict as a line of JSON: an absolute path of at most
    /// [`MAX_LOG_FILE`] bytes.
    pub file: Option<String>,
    /// Whether each verdict is a record of the kernel's audit too.
    pub audit: bool,
}

/// Reads the section. What is wrong is left at its default, and the report says so.
pub(super) fn log(section: &Section<'_>, report: &mut Report<'_>) -> Log {
    let system = word(section, "system", report);
    let file = section.get("file").and_then(|value| file(value, report));
    let audit = section
        .get("audit")
        .and_then(|value| boolean("audit", value, report));
    Log {
        system,
        file,
        audit: audit.unwrap_or_default(),
    }
}

fn file(value: &Value<'_>, report: &mut Report<'_>) -> Option<String> {
    let hint = "write its full path, such as file = \"/var/log/coregate/events.json\"";
    let path = string("`file`", value, hint, report)?;
    let wrong = if !path.starts_with('/') {
        "is not an absolute path"
    } else if path.ends_with('/') {
        "is a folder's path"
    } else if path.split('/').any(|part| matches!(part, "." | "..")) {
        "has `.` or `..` as a component"
    } else if path.contains(char::is_control) {
        "has a control character"
    } else if path.len() > MAX_LOG_FILE {
        "is longer than a path can be"
    } else {
        return Some(path.into());
    };
    report.error(value.span(), format!("`file` {wrong}: {path:?}"), hint);
    None
}
