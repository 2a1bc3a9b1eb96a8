// SPDX-License-Identifier: GPL-2.0-only
use super::*;

#[test]
fn the_share_is_exact_where_most_was_counted() {
    let sampled = Honour {
        samples: 100,
        shared: 50,
        ..Honour::default()
    };
    let counted = |ran_ns| Honour {
        ran_ns,
        shared_ns: ran_ns / 4,
        ..sampled
    };
    assert_eq!(Honour::default().share(), None);
    assert_eq!(sampled.share(), Some(50.0));
    assert_eq!(counted(400_000_000).share(), Some(50.0));
    assert_eq!(counted(800_000_000).share(), Some(75.0));
    // A sample may not have been due yet.
    let young = Honour {
        ran_ns: 1,
        ..Honour::default()
    };
    assert_eq!(young.share(), Some(100.0));
}
