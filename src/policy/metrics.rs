// SPDX-License-Identifier: GPL-2.0-only
//! The section `[metrics]`: where Prometheus gets them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use humantime::{format_duration, parse_duration};

use super::diagnostic::Report;
use super::document::{Section, Value, string};
use super::{MAX_PATTERN, MAX_SOCKET};

/// How metrics leave the daemon, besides by `coregate metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where they are served by HTTP.
    pub listen: Option<Listen>,
    /// The file that they are written to, for the textfile collector of node_exporter.
    pub textfile: Option<PathBuf>,
    /// How often it is written; one of [`Metrics::INTERVAL_RANGE`].
    pub interval: Duration,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// To whoever can reach this port.
    Port(SocketAddr),
    /// To root and the group that may read, at a socket of this path.
    Path(PathBuf),
}

impl Metrics {
    /// How often the file is written when the policy does not say: as often as Prometheus scrapes
    /// node_exporter in most places.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);

    /// How often it may be.
    pub const INTERVAL_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(3600);
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: None,
            textfile: None,
            interval: Self::DEFAULT_INTERVAL,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads the section. What is wrong is left out, and the report says so.
pub(super) fn metrics(section: &Section<'_>, report: &mut Report<'_>) -> Metrics {
    let listen = section.get("listen");
    let textfile = section.get("textfile");
    let interval = section.get("interval");
    if let (Some(interval), None) = (interval, textfile) {
        report.error(
            interval.span(),
            "`interval` without `textfile` has no effect",
            "add textfile = \"/…/coregate.prom\", or take `interval` out",
        );
    }
    Metrics {
        listen: listen.and_then(|value| read_listen(value, report)),
        textfile: textfile.and_then(|value| read_textfile(value, report)),
        interval: interval
            .and_then(|value| read_interval(value, report))
            .unwrap_or(Metrics::DEFAULT_INTERVAL),
    }
}

fn read_listen(value: &Value<'_>, report: &mut Report<'_>) -> Option<Listen> {
    let hint = "write an address and a port, \"127.0.0.1:9842\" or \"[::1]:9842\", or a socket, \
                \"unix:/run/coregate/metrics.sock\"";
    let text = string("`listen`", value, hint, report)?;
    if let Some(path) = text.strip_prefix("unix:") {
        if path.len() > MAX_SOCKET {
            let message = format!("the path of a socket has at most {MAX_SOCKET} bytes");
            report.error(value.span(), message, "write a shorter path");
            return None;
        }
        return plain_path("the path of `listen`", path, value, hint, report).map(Listen::Path);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(Listen::Port(address)),
        _ => {
            let message = format!("`listen` cannot be {text:?}");
            report.error(value.span(), message, hint);
            None
        }
    }
}

fn read_textfile(value: &Value<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let hint = "write a full path: \
                textfile = \"/var/lib/prometheus/node-exporter/coregate.prom\"";
    let text = string("`textfile`", value, hint, report)?;
    let path = plain_path("`textfile`", text, value, hint, report)?;
    if path.extension().is_none_or(|ending| ending != "prom") {
        let message = "node_exporter reads only files whose names end in .prom";
        report.error(value.span(), message, hint);
        return None;
    }
    Some(path)
}

/// A full path of a file, without detours.
fn plain_path(
    subject: &str,
    text: &str,
    value: &Value<'_>,
    hint: &str,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let detour = text
        .split('/')
        .skip(1)
        .any(|name| ["", ".", ".."].contains(&name));
    let control = text.chars().any(char::is_control);
    if !text.starts_with('/') || detour || control || text.len() > MAX_PATTERN {
        let message = format!("{subject} cannot be {text:?}");
        report.error(value.span(), message, hint);
        return None;
    }
    Some(Path::new(text).into())
}

fn read_interval(value: &Value<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let (least, most) = Metrics::INTERVAL_RANGE.into_inner();
    let hint = format!(
        "write a time from {} to {} with its unit in quotes: interval = \"15s\"",
        format_duration(least),
        format_duration(most)
    );
    let text = string("`interval`", value, &hint, report)?;
    let time = parse_duration(text).ok();
    let time = time.filter(|time| Metrics::INTERVAL_RANGE.contains(time));
    if time.is_none() {
        let message = format!("`interval` cannot be {text:?}");
        report.error(value.span(), message, hint);
    }
    time
}
