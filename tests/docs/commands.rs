// SPDX-License-Identifier: GPL-2.0-only
//! The commands that the docs have, and how each of them is tested.

#![allow(
    dead_code,
    reason = "each program that this is part of needs some of it"
)]

use std::collections::BTreeSet;

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// README.md, and all of docs/.
pub(crate) const DOCS: &[&str] = &[
    README,
    OPERATIONS,
    include_str!("../../docs/architecture.md"),
    include_str!("../../docs/idle-smtmask.md"),
    include_str!("../../docs/kernel-support.md"),
    include_str!("../../docs/metrics.md"),
    include_str!("../../docs/performance.md"),
    include_str!("../../docs/policy.md"),
    include_str!("../../docs/threat-model.md"),
];

/// The commands that are neither in the quick start, nor cargo's, nor usages; in each line how one is
/// tested, and what it says:
///
/// - `guest`: it is run in a guest, where a launch by the rule `cache` was denied, in this order;
/// - `lacks`: the same, and exits with 3, as the kernel lacks what is needed;
/// - `edit`: the same, at a terminal;
/// - `ends`: it is run there until it has said this, and exits with 0 when it is told to end;
/// - `host`: it is run on the machine that builds;
/// - `name`: it is the name of what needs more words to be run;
/// - `test`: this test runs it, or answers to what it asks.
const TABLE: &str = r#"
guest systemctl enable --now coregate
guest systemctl enable --now coregate-companion
guest systemctl status coregate => active (running)
guest systemctl reload coregate
ends  coregate status --watch => generation 2
test  coregate top => top_draws_on_a_terminal_and_takes_a_hundredth_of_a_cpu
guest coregate top --json => "denials"
guest coregate doctor => the gate can work here
guest coregate events --json => "rule":"cache"
guest coregate metrics => coregate_denied_total{rule="cache"} 1
lacks coregate companion => sched_ext
guest coregate companion --help => Usage: coregate companion
guest journalctl COREGATE_RULE=cache COREGATE_EFFECT=denied => denied rule=cache
guest journalctl -u coregate -o json COREGATE_VERDICT=unknown
test  ausearch -m TRUSTED_APP -x /usr/bin/redis-server => log_records_reach_the_kernel_audit
guest systemctl kill --kill-whom=main --signal=SIGUSR1 coregate.service
guest coregate mode observe --for 10m --reason "release of the exchange" => mode observe
guest coregate mode observe --for 1h --reason "ticket 4711" => mode observe
guest coregate mode enforce --confirm 5m => mode enforce
guest coregate mode confirm => mode enforce
guest coregate run --wait 30s -- /usr/bin/redis-server /etc/redis/redis.conf
guest coregate run --wait=2min -- /usr/bin/redis-server /etc/redis/redis.conf
ends  coregate suggest --observe 1h --output policy.toml => watching launches
guest ln -s /dev/null /etc/coregate/policy.d/50-redis.toml
guest usermod -aG coregate USER
guest systemd-analyze security => coregate.service
edit  systemctl edit coregate
guest systemctl restart coregate
guest systemctl stop coregate
ends  coregate daemon => ready: mode enforce
guest coregate detach
guest systemctl reset-failed coregate; systemctl start coregate
host  coregate replay --events docs/examples/launches.jsonl --policy docs/examples/new.toml => 288 launches
name  coregate mode
name  coregate replay
name  coregate run
name  coregate run --wait
test  apt remove coregate => the_package_is_installed_upgraded_and_purged
test  apt purge coregate => the_package_is_installed_upgraded_and_purged
"#;

/// A command: how it is tested or, of the quick start, nothing; and what it says.
pub(crate) struct Entry {
    pub(crate) how: &'static str,
    pub(crate) command: String,
    pub(crate) says: &'static str,
}

/// Those of the table.
pub(crate) fn table() -> impl Iterator<Item = Entry> {
    TABLE.trim().lines().map(|line| {
        let (how, line) = line.split_at(6);
        let (command, says) = line.split_once(" => ").unwrap_or((line, ""));
        let (how, command) = (how.trim(), command.to_owned());
        Entry { how, command, says }
    })
}

/// What a command begins with; most of these are in no doc yet.
const PROGRAMS: &str = "apt apt-get ausearch auditctl bpftool cargo cat chrt coregate cp curl dnf dpkg \
                        echo grep journalctl kill ln logrotate man mkdir mount mv promtool rm rpm sed sudo \
                        sysctl systemctl systemd-analyze systemd-run taskset touch usermod";

/// What goes before a command in the files of others.
const OTHERS: &[&str] = &["ExecStart=/usr/bin/", "validate: "];

/// What stands for something else, and is that in no command.
const STANDS: &[&str] = &[
    "FILE", "TIME", "PATH", "CMD", "COMMAND", "SERIES", "NAME", "%s",
];

/// The drop-in that `systemctl edit` is for.
pub(crate) fn drop_in() -> String {
    let (_, text) = OPERATIONS
        .split_once("`systemctl edit coregate`")
        .unwrap_or_default();
    let lines = text.lines().skip_while(|line| !line.starts_with("    "));
    lines
        .map_while(|line| line.strip_prefix("    "))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The commands of the quick start, with the document that one of them is given.
pub(crate) fn quick_start() -> Vec<Entry> {
    let (_, text) = README.split_once("## Quick start\n").unwrap_or_default();
    let text = text.split("\n## ").next().unwrap_or_default();
    let blocks = text.split("```").skip(1).step_by(2);
    let mut lines = blocks.flat_map(|block| block.lines().skip(1));
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let mut command = bare(line).to_owned();
        if command.ends_with("<<'END'") {
            let document = lines.by_ref().take_while(|line| *line != "END");
            command = document.fold(command, |all, line| all + "\n" + line) + "\nEND";
        }
        let says = line.split_once("# says: ").map_or("", |(_, says)| says);
        found.push(Entry {
            how: "",
            command,
            says,
        });
    }
    found
}

/// All commands of the docs, once each, but for those of the quick start.
pub(crate) fn commands() -> BTreeSet<String> {
    let mut found: BTreeSet<_> = DOCS.iter().flat_map(|text| commands_of(text)).collect();
    for Entry { command, .. } in quick_start() {
        found.remove(command.lines().next().unwrap_or_default());
    }
    found
}

/// Those in blocks, and those in the text that have arguments.
fn commands_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut prose, mut fenced) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let line = bare(line).trim();
            let own = OTHERS.iter().find_map(|other| line.strip_prefix(other));
            found.push(own.unwrap_or(line).to_owned());
        } else {
            prose += line;
            prose.push('\n');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2);
    found.extend(spans.map(|span| span.replace("\\|", "|")));
    let words = |command: &String| command.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_command = |command: &String| {
        let program = command.split_once(' ').map(|(program, _)| program);
        program.is_some_and(|program| PROGRAMS.split_whitespace().any(|known| known == program))
    };
    found.iter().map(words).filter(is_command).collect()
}

/// A line without its comment.
fn bare(line: &str) -> &str {
    line.split_once(" #")
        .map_or(line, |(line, _)| line)
        .trim_end()
}

/// Whether a command stands for several.
pub(crate) fn is_usage(command: &str) -> bool {
    command.contains('[') || command.split([' ', '|']).any(|word| STANDS.contains(&word))
}

/// The words of a usage: without what is optional, and with each of that.
pub(crate) fn variants(usage: &str) -> Vec<Vec<String>> {
    let usage = usage.replace("TIME", "1s").replace('…', "");
    let parts: Vec<_> = usage.split(['[', ']']).collect();
    let with = |optional: usize| {
        let chosen = parts
            .iter()
            .enumerate()
            .filter(|(at, _)| at % 2 == 0 || *at == optional);
        let words = chosen.flat_map(|(_, part)| part.split_whitespace());
        words.map(str::to_owned).collect()
    };
    (0..parts.len())
        .filter(|at| *at == 0 || at % 2 == 1)
        .map(with)
        .collect()
}
