// SPDX-License-Identifier: GPL-2.0-only
//! `coregate explain`: why does a launch have the rule that it has, and what becomes of it?

pub(super) mod launch;
mod now;

use std::path::PathBuf;

use clap::ArgGroup;
use serde::Serialize;

use super::{Error, Exit, Result, output};
use crate::policy::{
    Action, Answer, Effect, Errno, Explanation, Fact, Found, Hook, Mode, PassedOver, Policy, Rule,
    RuleSays, Scope, Selector, SelectorSays, Verdict, Word, effect, explain,
};
use crate::policy_file::{FOLDERS, ThisHost, load};
use launch::Known;
use now::Now;

/// Say which rule is for a launch, and why; and whether it would be admitted now
///
/// The launch is one that is described by options, one that was recorded
/// (--event), or the one that started a process (--pid); options then say what
/// was different. What is not said is not known. Without a daemon only the
/// policy is asked.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("launch").multiple(true).required(true)
    .args(["exe", "pid", "event", "user", "group", "unit", "cgroup", "comm", "argv", "parent"]))]
pub(super) struct Args {
    /// The policy
    #[arg(long, value_name = "FILE|DIR", default_value = FOLDERS.etc)]
    policy: PathBuf,

    /// The program; of a script, the script
    #[arg(long, value_name = "PATH")]
    exe: Option<String>,

    /// The effective user, by name or number
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// The effective group, by name or number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// All supplementary groups, with commas between them; "" for none
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', num_args = 1)]
    groups: Option<Vec<String>>,

    /// The unit, or another name of the launcher's cgroup or of one above it; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "cgroup")]
    unit: Vec<String>,

    /// The launcher's cgroup, from the root of the cgroups on
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,

    /// An argument, the program's name for itself included; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    argv: Vec<String>,

    /// The name of the launcher
    #[arg(long, value_name = "NAME")]
    comm: Option<String>,

    /// The program that makes the launch
    #[arg(long, value_name = "PATH")]
    parent: Option<String>,

    /// It comes from a container
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    container: Option<bool>,

    /// What kind of launch it is: exec, fork, or thread
    #[arg(long, value_name = "KIND", value_parser = hook)]
    on: Option<Hook>,

    /// The launch that started this process
    #[arg(long, value_name = "PID", conflicts_with = "event")]
    pid: Option<u32>,

    /// The launch of the event with this id
    #[arg(long, value_name = "ID")]
    event: Option<u64>,

    /// Where events were recorded, one in a line, as `coregate events --json` has them
    #[arg(long, value_name = "FILE", requires = "event")]
    events: Option<PathBuf>,

    /// Show every rule that was looked at
    #[arg(long)]
    all: bool,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

fn hook(word: &str) -> std::result::Result<Hook, String> {
    Hook::from_word(word).ok_or_else(|| "one of exec, fork, thread".into())
}

/// What `--json` answers.
#[derive(Serialize)]
struct Reply {
    policy: String,
    /// By the names of selectors; what is not known is null.
    launch: Vec<Fact>,
    /// The rule that is for the launch, and where it stands.
    rule: Option<String>,
    origin: Option<String>,
    /// What would have to be known to tell the rule.
    unknown: Option<Selector>,
    /// Of the rules that were looked at, those that are shown.
    rules: Vec<RuleSays>,
    others: Vec<PassedOver>,
    not_looked_at: usize,
    need: Option<Need>,
    /// Missing without a rule, and without a daemon; then with the reason.
    now: Option<Now>,
    no_now: Option<String>,
}

/// What a rule needs, and what comes of it if that is not there.
#[derive(Serialize)]
struct Need {
    cores: u32,
    scope: Scope,
    own_core: bool,
    action: Action,
    errno: Errno,
    mode: Mode,
}

/// Runs `coregate explain`.
pub(super) fn run(args: &Args) -> Result {
    let host = ThisHost::new();
    let policy = load(&args.policy, &host).map_err(Error::usage)?;
    let known = Known::new(args, &host).map_err(Error::usage)?;
    let launch = known.launch();
    let explanation = explain(&policy, &launch);
    let reply = reply(args, &policy, &explanation, launch.hook);
    if args.json {
        output::json(&reply)?;
    } else {
        output::stdout(&text(&reply, &policy, explanation.found()))?;
    }
    Ok(Exit::Ok)
}

fn reply(args: &Args, policy: &Policy, explanation: &Explanation<'_>, hook: Hook) -> Reply {
    let found = explanation.found();
    let rule = rule_of(policy, found);
    let now = rule.map(|rule| Now::ask(policy, rule, hook)).transpose();
    let (now, no_now) = match now {
        Ok(now) => (now, None),
        Err(why) => (None, Some(format!("{why:#}"))),
    };
    Reply {
        policy: args.policy.display().to_string(),
        launch: explanation.launch(),
        rule: rule.map(|rule| rule.name.clone()),
        origin: rule.map(|rule| rule.origin.to_string()),
        unknown: match found {
            Found::Unknown(_, selector) => Some(selector),
            _ => None,
        },
        rules: explanation.rules(args.all),
        others: explanation.others(args.all),
        not_looked_at: explanation.not_looked_at(),
        need: rule.map(|rule| Need {
            cores: rule.cores,
            scope: rule.scope.clone(),
            own_core: rule.own_core(hook),
            action: rule.action,
            errno: rule.errno(),
            mode: policy.mode,
        }),
        now,
        no_now,
    }
}

fn rule_of(policy: &Policy, found: Found) -> Option<&Rule> {
    match found {
        Found::Rule(index) => Some(&policy.rules[index]),
        Found::Nothing | Found::Unknown(..) => None,
    }
}

/// The width of the text.
const WIDTH: usize = 80;

/// How many entries of a list are shown.
const ENTRIES: usize = 4;

fn text(reply: &Reply, policy: &Policy, found: Found) -> String {
    let mut text = String::from("launch\n");
    for fact in reply.launch.iter().filter(|fact| fact.has.is_some()) {
        text += &line(fact.selector.word(), &shown(fact.has.as_deref()));
    }
    let unknown = reply.launch.iter().filter(|fact| fact.has.is_none());
    let unknown: Vec<_> = unknown.map(|fact| fact.selector.word()).collect();
    if !unknown.is_empty() {
        text += &format!("  not known: {}\n", unknown.join(", "));
    }
    for rule in &reply.rules {
        text += &format!("\n{} by {} ({})\n", rule.answer, rule.rule, rule.origin);
        for says in decisive(rule) {
            text += &selector(says);
        }
    }
    if !reply.others.is_empty() {
        let others = reply.others.iter();
        let reasons = others.map(|other| format!("{} by {}", other.rules, other.selector));
        let reasons: Vec<_> = reasons.collect();
        let all: usize = reply.others.iter().map(|other| other.rules).sum();
        let s = if all == 1 { "" } else { "s" };
        text += &format!("\nmissed by {all} other rule{s}: {}\n", reasons.join(", "));
    }
    text += "\n";
    for sentence in sentences(reply, policy, found) {
        text += &textwrap::fill(&sentence, WIDTH);
        text += "\n";
    }
    text.truncate(text.trim_end().len());
    text
}

/// Of a rule that is not met, the selectors that make it so; else all.
fn decisive(rule: &RuleSays) -> impl Iterator<Item = &SelectorSays> {
    let all = rule.selectors.iter();
    all.filter(|says| rule.answer == Answer::Met || says.answer == rule.answer)
}

fn line(key: &str, value: &str) -> String {
    let indent = " ".repeat(12);
    let options = textwrap::Options::new(WIDTH).subsequent_indent(&indent);
    textwrap::fill(&format!("  {key:<10}{value}"), options) + "\n"
}

fn selector(says: &SelectorSays) -> String {
    let asks = shown(Some(&says.asks));
    let has = shown(says.has.as_deref());
    let value = match says.answer {
        Answer::Met => format!("asks for {asks}"),
        Answer::Missed => format!("asks for {asks}; the launch has {has}"),
        Answer::Unknown => format!("asks for {asks}; of the launch that is not known"),
    };
    line(says.selector.word(), &value)
}

fn shown(list: Option<&[String]>) -> String {
    let list = list.unwrap_or_default();
    let first: Vec<_> = list.iter().take(ENTRIES).map(String::as_str).collect();
    match list.len() {
        0 => "none".into(),
        len if len > ENTRIES => format!("{} and {} more", first.join(", "), len - ENTRIES),
        _ => first.join(", "),
    }
}

/// What it comes to; the last one is the answer.
fn sentences(reply: &Reply, policy: &Policy, found: Found) -> Vec<String> {
    let unasked = match reply.not_looked_at {
        0 => String::new(),
        1 => " The rule after it was not looked at.".into(),
        rules => format!(" The {rules} rules after it were not looked at."),
    };
    match found {
        Found::Nothing => vec!["No rule is for this launch: the gate does not touch it.".into()],
        Found::Unknown(index, selector) => {
            let rule = &policy.rules[index];
            let help = option(selector);
            vec![format!(
                "It cannot be told which rule is for this launch: rule {} ({}) is, if the launch \
                 meets its `{selector}`, of which nothing was said; {help}.{unasked}",
                rule.name, rule.origin
            )]
        }
        Found::Rule(index) => {
            let rule = &policy.rules[index];
            let mut sentences = vec![need(rule, policy) + &unasked];
            let conclusion = match &reply.now {
                _ if rule.action == Action::Exempt => "starts, and is only counted".into(),
                Some(now) => {
                    sentences.extend(now.lines(rule));
                    now.conclusion(rule)
                }
                None => {
                    sentences.extend(reply.no_now.clone().map(|why| format!("Note: {why}.")));
                    "is judged by the cores that are free then".into()
                }
            };
            let Rule { name, origin, .. } = rule;
            sentences.push(format!(
                "Rule {name} ({origin}) is for this launch: it {conclusion}."
            ));
            sentences
        }
    }
}

/// What says more of a launch.
fn option(selector: Selector) -> &'static str {
    match selector {
        Selector::On => "add --on",
        Selector::Exe => "add --exe",
        Selector::Unit => "add --unit or --cgroup",
        Selector::Cgroup => "add --cgroup",
        Selector::User => "add --user",
        Selector::Group => "add --group and --groups",
        Selector::Comm => "add --comm",
        Selector::Argv => "add --argv",
        Selector::Parent => "add --parent",
        Selector::Container => "add --container=true or --container=false",
    }
}

fn need(rule: &Rule, policy: &Policy) -> String {
    if rule.action == Action::Exempt {
        return format!("Rule {} is an exception.", rule.name);
    }
    let cores = match rule.cores {
        1 => "1 free core".into(),
        cores => format!("{cores} free cores"),
    };
    let place = match &rule.scope {
        Scope::Node => "on the node that it comes from".into(),
        Scope::Any => "on one node".into(),
        Scope::Spread => "on all nodes together".into(),
        Scope::Nodes(list) => {
            let list: Vec<_> = list.iter().map(ToString::to_string).collect();
            format!("on nodes {} together", list.join(", "))
        }
    };
    let otherwise = match effect(rule, policy.mode, policy.on_unknown(), Verdict::Deny) {
        Effect::Denied => format!("fails with {}", rule.errno()),
        Effect::Admitted | Effect::Logged => "starts, and is logged".into(),
    };
    format!(
        "Rule {} wants {cores} {place}; else the launch {otherwise} (mode {}).",
        rule.name, policy.mode
    )
}
