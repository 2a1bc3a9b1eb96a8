// SPDX-License-Identifier: GPL-2.0-only
//! Metrics, from the kernel's counters to a real Prometheus.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use serde_json::Value;

use crate::admission::gate_on_node_0;
use crate::gate::{COREGATE, Gate, POLICY, coregate};
use crate::launch::{fails, program};
use crate::machine::{Load, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_real_prometheus_scrapes_what_status_says",
        needs: Needs::OneKernel,
        on: NUMA,
        run: scraped,
    },
    Test {
        name: "metrics_go_where_the_policy_says",
        needs: Needs::OneKernel,
        on: NUMA,
        run: places,
    },
];

const SERVER: &str = "/opt/server";
const PORT: &str = "127.0.0.1:9842";
const OTHER_PORT: &str = "127.0.0.1:9843";
const SOCKET: &str = "/run/coregate/metrics.sock";
const TEXTFILE: &str = "/run/metrics/coregate.prom";
const PROMETHEUS: &str = "127.0.0.1:9090";

const CONFIG: &str = "\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: coregate
    static_configs:
      - targets: [\"127.0.0.1:9842\"]
";

fn policy(metrics: &str) -> String {
    let rule = Gate::policy("enforce", SERVER, "");
    format!("{rule}\n[metrics]\n{metrics}\n")
}

/// A real server, until dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start() -> Result<Self> {
        fs::write("/run/prometheus.yml", CONFIG)?;
        let child = Command::new("/bin/prometheus")
            .args(["--config.file=/run/prometheus.yml", "--log.level=error"])
            .arg("--storage.tsdb.path=/tmp/prometheus")
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is answered to a request, head and body.
fn asked(mut stream: impl Read + Write, request: &str) -> Result<String> {
    write!(stream, "{request}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn get(address: &str, path: &str) -> Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    asked(stream, &format!("GET {path} HTTP/1.0"))
}

/// Series of one name: the values of their labels, and their numbers.
type Series = Vec<(Vec<String>, String)>;

/// The numbers that Prometheus has for this name, by the labels given.
fn query(name: &str, labels: &[&str]) -> Result<Series> {
    let answer = get(PROMETHEUS, &format!("/api/v1/query?query={name}"))?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let body: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    let result = body["data"]["result"].as_array().context("no result")?;
    let mut series: Vec<_> = result
        .iter()
        .map(|series| {
            let values = labels.iter().map(|label| &series["metric"][label]);
            let values = values.map(|value| value.as_str().unwrap_or("").to_owned());
            let number = series["value"][1].as_str().unwrap_or("");
            (values.collect(), number.to_owned())
        })
        .collect();
    series.sort();
    Ok(series)
}

/// What `status` says, as [`query`] has it.
fn expected(status: &Value) -> Vec<(&'static str, Vec<&'static str>, Series)> {
    let one = |value: &Value| vec![(Vec::new(), value.to_string())];
    let rule = &status["rules"][0];
    let of_rule = |key: &str| vec![(vec!["probe".to_owned()], rule[key].to_string())];
    let nodes = |key: &str| {
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let all = nodes.iter();
        all.map(|node| (vec![node["node"].to_string()], node[key].to_string()))
            .collect()
    };
    let failures = status["failures"].as_object().cloned().unwrap_or_default();
    let mut failures: Vec<_> = failures
        .iter()
        .map(|(kind, count)| (vec![kind.clone()], count.to_string()))
        .collect();
    failures.sort();
    let modes = ["enforce", "observe"];
    let modes = modes.map(|mode| {
        let holds = u8::from(status["mode"] == mode);
        (vec![mode.to_owned()], holds.to_string())
    });
    vec![
        ("coregate_generation", vec![], one(&status["generation"])),
        ("coregate_hooks_attached", vec![], one(&status["hooks"])),
        ("coregate_mode", vec!["mode"], modes.to_vec()),
        (
            "coregate_events_emitted_total",
            vec![],
            one(&status["events"]["emitted"]),
        ),
        ("coregate_launches_total", vec!["rule"], of_rule("launches")),
        ("coregate_denied_total", vec!["rule"], of_rule("denied")),
        ("coregate_admitted_total", vec!["rule"], of_rule("admitted")),
        ("coregate_claims", vec!["rule"], of_rule("claims")),
        (
            "coregate_holder_samples_total",
            vec!["rule"],
            of_rule("samples"),
        ),
        (
            "coregate_shared_samples_total",
            vec!["rule"],
            of_rule("shared"),
        ),
        ("coregate_node_cores", vec!["node"], nodes("cores")),
        (
            "coregate_node_claimed_cores",
            vec!["node"],
            nodes("claimed"),
        ),
        ("coregate_failures_total", vec!["kind"], failures),
    ]
}

fn scraped() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&policy(&format!("listen = \"{PORT}\"")))?;
    let load = Load::fill(0)?;
    for _ in 0..3 {
        fails(SERVER, EAGAIN)?;
    }
    drop(load);
    let printed = Command::new(COREGATE).arg("metrics").output()?;
    ensure!(printed.status.success(), "{printed:?}");
    let mut promtool = Command::new("/bin/promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = promtool.stdin.take().context("no stdin")?;
    { stdin }.write_all(&printed.stdout)?;
    let checked = promtool.wait_with_output()?;
    ensure!(
        checked.status.success() && checked.stdout.is_empty() && checked.stderr.is_empty(),
        "{checked:?}"
    );

    let _prometheus = Prometheus::start()?;
    let denied = || query("coregate_denied_total", &["rule"]).unwrap_or_default();
    wait_for("Prometheus has scraped", Duration::from_secs(240), || {
        denied() == [(vec!["probe".to_owned()], "3".to_owned())]
    })?;
    // What grows is seen to grow.
    let load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    drop(load);
    wait_for("it scrapes again", Duration::from_secs(240), || {
        denied() == [(vec!["probe".to_owned()], "4".to_owned())]
    })?;
    let status = gate.status()?;
    for (name, labels, expected) in expected(&status) {
        ensure!(!expected.is_empty(), "{name}: nothing in {status}");
        let mut found = Vec::new();
        wait_for(name, Duration::from_secs(60), || {
            found = query(name, &labels).unwrap_or_default();
            found == expected
        })
        .with_context(|| format!("expected {expected:?}, found {found:?}"))?;
    }
    ensure!(query("up", &["job"])? == [(vec!["coregate".to_owned()], "1".to_owned())]);
    gate.stop()
}

fn reload() -> Result<(bool, String)> {
    let (code, said) = coregate(&["reload"])?;
    Ok((code == Some(0), said))
}

/// Whether the metrics are had at the port.
fn served(port: &str) -> bool {
    get(port, "/metrics").is_ok_and(|text| {
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\ncoregate_generation ")
    })
}

fn places() -> Result<()> {
    program(SERVER)?;
    fs::create_dir_all("/run/metrics")?;
    let taken = std::net::TcpListener::bind(OTHER_PORT)?;
    let refused = Gate::start(&policy(&format!("listen = \"{OTHER_PORT}\""))).err();
    let refused = format!("{:?}", refused.context("it listens where another does")?);
    ensure!(refused.contains("ddress already in use"), "{refused}");
    ensure!(crate::launch::starts(SERVER).is_ok());

    let gate = gate_on_node_0(&policy(&format!("listen = \"{PORT}\"")))?;
    ensure!(served(PORT) && !fs::exists(TEXTFILE)?);
    let not_found = get(PORT, "/")?;
    ensure!(not_found.starts_with("HTTP/1.1 404 "), "{not_found}");
    let refused = asked(TcpStream::connect(PORT)?, "POST /metrics HTTP/1.1")?;
    ensure!(refused.starts_with("HTTP/1.1 405 "), "{refused}");

    // One that cannot be had changes nothing, the rules neither.
    let other = policy(&format!("listen = \"{OTHER_PORT}\"")).replace("probe", "other");
    fs::write(POLICY, &other)?;
    let (done, said) = reload()?;
    ensure!(!done && said.contains("ddress already in use"), "{said}");
    let status = gate.status()?;
    ensure!(
        status["generation"] == 1 && status["rules"][0]["name"] == "probe",
        "{status}"
    );
    ensure!(
        status["reloads"]["refused"] == 1 && served(PORT),
        "{status}"
    );
    drop(taken);
    ensure!(reload()?.0 && served(OTHER_PORT));
    ensure!(TcpStream::connect(PORT).is_err());

    fs::write(
        POLICY,
        policy(&format!(
            "listen = \"unix:{SOCKET}\"\ntextfile = \"{TEXTFILE}\"\ninterval = \"1s\""
        )),
    )?;
    ensure!(reload()?.0 && TcpStream::connect(OTHER_PORT).is_err());
    let told = asked(UnixStream::connect(SOCKET)?, "GET /metrics HTTP/1.1")?;
    ensure!(told.contains("\ncoregate_generation 3\n"), "{told}");
    let mode = fs::metadata(SOCKET)?.mode() & 0o777;
    ensure!(mode == 0o660, "{mode:o}");
    wait_for("the file is written", Duration::from_secs(20), || {
        fs::read_to_string(TEXTFILE).is_ok_and(|text| text.contains("\ncoregate_generation 3\n"))
    })?;
    // It is written again, as another file.
    let first = fs::metadata(TEXTFILE)?.ino();
    wait_for("it is written again", Duration::from_secs(20), || {
        fs::metadata(TEXTFILE).is_ok_and(|file| file.ino() != first)
    })?;
    fs::remove_dir_all("/run/metrics")?;
    gate.says("cannot write the metrics to /run/metrics/coregate.prom")?;
    let lost = || {
        gate.status()
            .map(|status| status["failures"]["textfiles_lost"].as_u64())
    };
    wait_for("it is counted", Duration::from_secs(20), || {
        lost().is_ok_and(|lost| lost >= Some(1))
    })?;
    gate.stop()?;
    ensure!(!fs::exists(SOCKET)?, "the socket is still there");
    Ok(())
}
