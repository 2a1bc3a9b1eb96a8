// SPDX-License-Identifier: GPL-2.0-only
//! Random launches that a real daemon records: their events say what they were, `replay` finds that
//! the same policy changes nothing, and `explain` finds the rule that the gate found.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coregate::policy::{
    ARGV_LOOKED_AT, Action, Found, NoHost, Policy, Source, evaluate, explain, parse,
};
use coregate::report::{Changes, Event, replay};
use fastrand::Rng;
use serde_json::Value;

use super::launcher::Order;
use super::{CGROUPS, Launcher, launchers, order, policy};
use crate::gate::{COREGATE, Gate, POLICY};
use crate::machine::wait_for;

/// How many policies there are at least, and at most until enough of each kind was seen; and launches under
/// each.
const POLICIES: u32 = 16;
const POLICIES_MAX: u32 = 64;
const LAUNCHES: usize = 60;

/// Where the events of one policy go, and a policy to hold them against.
const EVENTS: &str = "/run/events.jsonl";
const OTHER: &str = "/run/other.toml";

/// A launch, and the launcher that made it.
struct Made {
    order: Order,
    launcher: usize,
}

/// How much there was to compare.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    argv: usize,
    parents: usize,
    changed: u64,
}

impl Seen {
    fn enough(&self) -> bool {
        self.events > 100 && self.argv > 5 && self.parents > 5 && self.changed > 20
    }
}

pub(super) fn recorded() -> Result<()> {
    let mut launchers = launchers()?;
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let mut text = judging(&mut rng);
    let gate = Gate::start(&text)?;
    let mut seen = Seen::default();
    for round in 1..=POLICIES_MAX {
        let next = judging(&mut rng);
        let made = launch(&mut rng, &mut launchers)?;
        compare((round, &text, &next), &made, &launchers, &mut seen)
            .with_context(|| format!("seed {seed}, policy {round}:\n{text}"))?;
        text = next;
        fs::write(POLICY, &text)?;
        coregate(&["reload"])?;
        if round >= POLICIES && seen.enough() {
            break;
        }
    }
    println!("{seen:?}");
    ensure!(seen.enough(), "too few of a kind: {seen:?}");
    gate.stop()
}

/// A policy of which most rules come to a verdict; none denies.
fn judging(rng: &mut Rng) -> String {
    let text = policy(rng);
    let mut rules = text.split_inclusive("action = \"exempt\"\n");
    let mut judging = String::new();
    for rule in &mut rules {
        let without = rule.strip_suffix("action = \"exempt\"\n");
        match without.filter(|_| rng.u8(..4) > 0) {
            Some(rule) => {
                let scope = rng.choice(["node", "any", "spread"]).unwrap_or("any");
                let cores = rng.u8(1..3);
                judging += &format!("{rule}action = \"log\"\nscope = {scope:?}\ncores = {cores}\n");
            }
            None => judging += rule,
        }
    }
    judging
}

fn launch(rng: &mut Rng, launchers: &mut [Launcher]) -> Result<Vec<Made>> {
    let mover = rng.usize(..launchers.len());
    launchers[mover].enter(CGROUPS[rng.usize(..CGROUPS.len())])?;
    let mut made = Vec::new();
    for _ in 0..LAUNCHES {
        let launcher = rng.usize(..launchers.len());
        let order = order(rng);
        launchers[launcher].obey(&order)?;
        made.push(Made { order, launcher });
    }
    Ok(made)
}

/// Holds what was recorded of these launches under a policy against what they were, and against
/// another policy.
fn compare(
    (generation, text, other): (u32, &str, &str),
    made: &[Made],
    launchers: &[Launcher],
    seen: &mut Seen,
) -> Result<()> {
    let read = |text: &str| parse(&[Source::new("p.toml", text)], &NoHost);
    let (held, other_policy) = (read(text)?, read(other)?);
    let judged: Vec<_> = made
        .iter()
        .filter_map(|made| Some((made, rule_of(&held, made, launchers)?)))
        .collect();
    let events = events(judged.len(), generation, launchers)?;
    for (event, (made, rule)) in events.iter().zip(&judged) {
        assert_recorded(event, made, &launchers[made.launcher])?;
        ensure!(event.rule == *rule, "{event:?} is of {rule}");
        // What was recorded is enough, or it is said that it is not.
        let whole = evaluate(&other_policy, &launchers[made.launcher].launch(&made.order));
        let found = evaluate(&other_policy, &event.launch());
        ensure!(
            found == whole || matches!(found, Found::Unknown(..)),
            "{event:?}: {found:?} is {whole:?} under\n{other}"
        );
        seen.argv += usize::from(event.argv.is_some());
        seen.parents += usize::from(event.parent.is_some());
    }
    seen.events += events.len();

    let lines: Vec<_> = events
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()?;
    fs::write(EVENTS, lines.join("\n"))?;
    let replayed = ["replay", "--events", EVENTS, "--policy"];
    coregate(&[&replayed[..], &[POLICY, "--check"]].concat())?;
    fs::write(OTHER, other)?;
    let output = coregate(&[&replayed[..], &[OTHER, "--json"]].concat())?;
    let changes: Changes = serde_json::from_slice(&output.stdout)?;
    ensure!(changes == replay(&other_policy, &events), "{changes:?}");
    seen.changed += changes.count_changed();
    events.iter().take(3).try_for_each(explained)
}

/// The rule that comes to a verdict for a launch, as the evaluator finds it, and as it is explained.
fn rule_of(policy: &Policy, made: &Made, launchers: &[Launcher]) -> Option<String> {
    let launch = launchers[made.launcher].launch(&made.order);
    let explanation = explain(policy, &launch);
    assert_eq!(explanation.found(), evaluate(policy, &launch));
    let Found::Rule(rule) = explanation.found() else {
        return None;
    };
    let rule = &policy.rules[rule];
    let said = explanation.rules(false);
    assert_eq!(said.last().map(|says| &says.rule), Some(&rule.name));
    (rule.action != Action::Exempt).then(|| rule.name.clone())
}

/// The events of these launchers that the daemon remembers of a generation, once they are so many;
/// rules may be for what this test does beside.
fn events(count: usize, generation: u32, launchers: &[Launcher]) -> Result<Vec<Event>> {
    let pids: Vec<_> = launchers
        .iter()
        .map(|launcher| launcher.servant.pid())
        .collect();
    let mut events = Vec::new();
    wait_for("events", Duration::from_secs(20), || {
        events = all_events().unwrap_or_default();
        events.retain(|event| event.generation == generation && pids.contains(&event.pid));
        events.len() >= count
    })?;
    ensure!(events.len() == count, "{} of {count}", events.len());
    Ok(events)
}

fn all_events() -> Result<Vec<Event>> {
    let output = coregate(&["events", "--json"])?;
    let lines = String::from_utf8(output.stdout)?;
    let events = lines.lines().map(serde_json::from_str);
    Ok(events.collect::<Result<_, _>>()?)
}

/// What was recorded is true, and what is not always recorded is there or null.
fn assert_recorded(event: &Event, made: &Made, launcher: &Launcher) -> Result<()> {
    let (was, mut is) = (event.launch(), launcher.launch(&made.order));
    let mut groups = made.order.groups.clone();
    groups.sort_unstable();
    is.groups = Some(&groups);
    if let Some(argv) = &mut is.argv {
        argv.truncate(ARGV_LOOKED_AT);
    }
    if was.argv.is_none() {
        is.argv = None;
    }
    if was.parent.is_none() {
        is.parent = None;
    }
    ensure!(was == is, "{was:?} was {is:?}");
    ensure!(event.pid == launcher.servant.pid(), "{event:?}");
    Ok(())
}

/// The command finds the rule of an event, in a file and by the daemon.
fn explained(event: &Event) -> Result<()> {
    let id = event.id.to_string();
    let asked = ["explain", "--json", "--policy", POLICY, "--event", &id];
    for more in [&["--events", EVENTS][..], &[]] {
        let output = coregate(&[&asked[..], more].concat())?;
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(answer["rule"] == event.rule.as_str(), "{event:?}: {answer}");
        let places = answer["now"]["places"].as_array();
        ensure!(places.is_some_and(|places| !places.is_empty()), "{answer}");
    }
    Ok(())
}

fn coregate(args: &[&str]) -> Result<Output> {
    let output = Command::new(COREGATE).args(args).output()?;
    ensure!(
        output.status.success(),
        "{args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
