// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::policy::{Hook, Host, HostNode, Source, evaluate, parse};

struct Machine;

impl Host for Machine {
    fn uid(&self, name: &str) -> Result<Option<u32>, String> {
        Ok((name == "redis").then_some(101))
    }

    fn gid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(None)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        (path == "/bin/link").then(|| "/bin/program".into())
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        None
    }
}

fn policy(text: &str) -> Policy {
    parse(&[Source::new("p.toml", text)], &Machine).unwrap()
}

fn of_redis(exe: &str) -> Launch<'_> {
    Launch {
        exe: Some(exe.as_bytes()),
        uid: Some(101),
        container: Some(false),
        ..Launch::unknown(Hook::Exec)
    }
}

fn names(rules: &[RuleSays]) -> Vec<&str> {
    rules.iter().map(|rule| rule.rule.as_str()).collect()
}

const POLICY: &str = r#"
[[rule]]
name = "forks"
exe = "/bin/link"
on = ["fork"]
[[rule]]
name = "of-root"
exe = "/bin/link"
user = 0
[[rule]]
name = "other"
exe = "/bin/other"
[[rule]]
name = "of-redis"
exe = ["/bin/other", "/bin/link"]
user = ["redis", 7]
[[rule]]
name = "later"
exe = "/bin/link"
"#;

#[test]
fn each_rule_says_what_it_asks_for_and_what_there_is() {
    let policy = policy(POLICY);
    let launch = of_redis("/bin/program");
    let explanation = explain(&policy, &launch);
    assert_eq!(explanation.found(), Found::Rule(3));
    assert_eq!(explanation.not_looked_at(), 1);
    let rules = explanation.rules(false);
    assert_eq!(names(&rules), ["forks", "of-root", "of-redis"]);
    let answers: Vec<_> = rules.iter().map(|rule| rule.answer).collect();
    assert_eq!(answers, [Answer::Missed, Answer::Missed, Answer::Met]);
    let one = [PassedOver {
        selector: Selector::Exe,
        rules: 1,
    }];
    assert_eq!(explanation.others(false), one);

    assert_eq!(rules[2].origin, "p.toml:13");
    let said = |selector, answer, asks: &[&str], has: &str| SelectorSays {
        selector,
        answer,
        asks: asks.iter().map(ToString::to_string).collect(),
        has: Some(vec![has.into()]),
    };
    let expected = [
        said(Selector::On, Answer::Met, &["exec"], "exec"),
        said(
            Selector::Exe,
            Answer::Met,
            &["/bin/other", "/bin/link -> /bin/program"],
            "/bin/program",
        ),
        said(Selector::User, Answer::Met, &["101 (redis)", "7"], "101"),
        said(Selector::Container, Answer::Met, &["host"], "host"),
    ];
    assert_eq!(rules[2].selectors, expected);
    assert_eq!(rules[1].selectors[2].answer, Answer::Missed);

    let all = explanation.rules(true);
    assert_eq!(names(&all), ["forks", "of-root", "other", "of-redis"]);
    assert_eq!(explanation.others(true), []);
}

#[test]
fn what_is_not_known_decides_too() {
    let policy = policy(POLICY);
    let launch = Launch {
        uid: None,
        ..of_redis("/bin/program")
    };
    let explanation = explain(&policy, &launch);
    assert_eq!(explanation.found(), Found::Unknown(1, Selector::User));
    assert_eq!(explanation.not_looked_at(), 3);
    let rules = explanation.rules(false);
    assert_eq!(names(&rules), ["forks", "of-root"]);
    assert_eq!(rules[1].answer, Answer::Unknown);
    assert_eq!(rules[1].selectors[2].has, None);
}

#[test]
fn where_no_rule_is_near_the_nearest_are_shown() {
    let policy = policy(POLICY);
    let launch = of_redis("/bin/nothing");
    let explanation = explain(&policy, &launch);
    assert_eq!(explanation.found(), Found::Nothing);
    assert_eq!(explanation.not_looked_at(), 0);
    // Of these only the program is another one.
    let nearest = ["other", "of-redis", "later"];
    assert_eq!(names(&explanation.rules(false)), nearest);
    let others = explanation.others(false);
    let others: Vec<_> = others
        .iter()
        .map(|other| (other.selector, other.rules))
        .collect();
    assert_eq!(others, [(Selector::On, 1), (Selector::Exe, 1)]);
}

#[test]
fn of_many_rules_few_are_shown_and_all_are_counted() {
    let rule = |name: &str, rest: String| format!("[[rule]]\nname = \"{name}\"\n{rest}");
    let mut text = String::new();
    for n in 0..5000 {
        text += &rule(&format!("a{n}"), format!("exe = \"/opt/{n}\"\n"));
        text += &rule(
            &format!("b{n}"),
            format!("exe = \"/bin/link\"\nuser = {}\n", 1000 + n),
        );
    }
    text += &rule("mine", "exe = \"/bin/link\"\n".into());
    text += &rule("later", "exe = \"/bin/link\"\n".into());
    let policy = policy(&text);
    let launch = of_redis("/bin/program");
    let explanation = explain(&policy, &launch);
    let rules = explanation.rules(false);
    assert_eq!(rules.len(), SHOWN + 1);
    assert_eq!(rules.last().unwrap().rule, "mine");
    let others: usize = explanation
        .others(false)
        .iter()
        .map(|other| other.rules)
        .sum();
    assert_eq!(others + rules.len() + explanation.not_looked_at(), 10_002);
    assert_eq!(evaluate(&policy, &launch), explanation.found());
}
