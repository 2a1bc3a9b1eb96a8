// SPDX-License-Identifier: GPL-2.0-only
use super::*;

fn order() -> Order {
    Order {
        mode: Mode::Enforce,
        left_ms: Some(5_000),
        after: Some(Mode::Observe),
        by: "alice".into(),
        reason: "roll-out".into(),
        since: 7,
    }
}

#[test]
fn it_is_the_same_in_the_gate() {
    let unlimited = Order {
        mode: Mode::Observe,
        left_ms: None,
        after: None,
        ..order()
    };
    for order in [order(), unlimited] {
        assert_eq!(Order::from_raw(&order.to_raw(1000), 1000), Some(order));
    }
    assert_eq!(Order::from_raw(&abi::order::default(), 1000), None);
}

#[test]
fn it_ends_by_the_clock() {
    let raw = order().to_raw(1000);
    let at = |now| Order::from_raw(&raw, now).expect("an order");
    assert_eq!(at(5999).mode_now(), Some(Mode::Enforce));
    assert!(at(5999).is_unconfirmed());
    assert_eq!(at(6000).mode_now(), Some(Mode::Observe));
    assert!(!at(6000).is_unconfirmed());
    assert!(
        at(6000)
            .to_string()
            .starts_with("observe, as enforce ended unconfirmed; by alice")
    );
}

#[test]
fn what_is_too_long_is_cut_between_letters() {
    let long = Order {
        reason: "ä".repeat(200),
        ..order()
    };
    let kept = Order::from_raw(&long.to_raw(0), 0).expect("an order");
    assert_eq!(kept.reason, "ä".repeat(127));
}
