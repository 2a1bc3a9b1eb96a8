// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::policy::{MAX_NAME, NoHost, Source, parse};

#[test]
fn what_is_said_of_a_rule_stays() {
    let long = "n".repeat(MAX_NAME);
    let text = format!(
        "[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"{long}\"\nexe = \"/a\"\n\
         [[rule]]\nname = \"b\"\nexe = \"/b\"\nscope = \"any\"\nown_core = false\n\
         [[rule]]\nname = \"c\"\nexe = \"/c\"\nscope = \"any\"\nown_core = false\n"
    );
    let more = "[[rule]]\nname = \"d\"\nexe = \"/d\"\nisolation = \"none\"\n";
    let sources = [Source::new("p.toml", &text), Source::new("d.toml", more)];
    let policy = parse(&sources, &NoHost).unwrap();
    let rules = policy.rules.clone();
    let held = Held::from(policy);
    assert_eq!(held.mode.to_string(), "enforce");
    assert_eq!(held.rules.len(), rules.len());
    for (held, rule) in held.rules.iter().zip(&rules) {
        assert_eq!(held.name, rule.name);
        assert_eq!(
            (held.origin(), held.scope()),
            (rule.origin.clone(), &rule.scope)
        );
        assert_eq!(held.isolation(), rule.isolation);
        for hook in [Hook::Exec, Hook::Fork, Hook::Thread] {
            assert_eq!(held.own_core(hook), rule.own_core(hook));
        }
    }
    assert!(held.rules.get(rules.len()).is_none());
}

#[test]
fn rules_that_are_alike_take_little() {
    let rule = |i| format!("[[rule]]\nname = \"rule-{i:04}\"\nexe = \"/{i}\"\n");
    let text: String = (0..1000).map(rule).collect();
    let policy = parse(&[Source::new("p.toml", &text)], &NoHost).unwrap();
    let rules = Held::from(policy).rules;
    assert_eq!((rules.manners.len(), rules.names.len()), (1, 9 * 1000));
    assert!(size_of::<Row>() <= 12);
}
