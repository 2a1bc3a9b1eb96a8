// SPDX-License-Identifier: GPL-2.0-only
//! For whom there are rules: by program, place, user and argument, and what must hold beside.

use std::collections::{BTreeMap, HashMap};

use super::abi;
use super::hash_next;
use super::strings::{Atom, Strings};
use crate::policy::{Container, PathPattern, Rule};

const CANDIDATES_MAX: u32 = abi::limits::CANDIDATES_MAX.0;
const LITERALS_MAX: u32 = abi::limits::LITERALS_MAX.0;
const CONTAINED: u32 = abi::limits::CONTAINED.0;
/// The place where the hierarchy of cgroups begins.
const ROOT: u32 = 1;

/// Program, place, user and argument: their numbers, a user's plus 1; 0 is for any.
type Key = [u32; 4];

#[derive(Default)]
pub(super) struct Keys {
    /// The rules of a key, in order.
    rules: BTreeMap<Key, Vec<abi::candidate>>,
    /// Steps down the hierarchy of cgroups: from one, by a name below it.
    steps: BTreeMap<(u32, Atom), u32>,
    /// By cgroup, the number as which rules know it.
    places: HashMap<u32, Atom>,
    /// Of keys for any program.
    shapes: u32,
    /// All literals, those of one rule one after the other.
    pub(super) literals: Vec<abi::literal>,
}

impl Keys {
    /// Adds a rule for these hooks; rules come in order.
    pub(super) fn add<'p>(
        &mut self,
        number: u32,
        rule: &'p Rule,
        hooks: u32,
        strings: &mut Strings<'p>,
    ) {
        let s = &rule.selectors;
        let exes = any_or(s.exe.iter().map(|exe| path(strings, exe, Of::Exe)));
        let units: Vec<_> = s
            .unit
            .iter()
            .map(|unit| {
                let atom = strings.pattern(abi::string_kind::STRING_NAME, unit);
                strings.add(atom, 1);
                atom
            })
            .collect();
        let cgroups: Vec<_> = s
            .cgroup
            .iter()
            .map(|top| self.place(top, strings))
            .collect();
        let parents: Vec<_> = s
            .parent
            .iter()
            .map(|parent| path(strings, parent, Of::Parent))
            .collect();
        let comms = s
            .comm
            .iter()
            .map(|comm| strings.whole(abi::string_kind::STRING_COMM, comm));
        let comms: Vec<_> = comms.collect();
        let args = s
            .argv
            .iter()
            .map(|arg| strings.whole(abi::string_kind::STRING_ARG, arg));
        let args: Vec<_> = args.collect();

        // What the key says need not be asked again: one of both kinds of places, one argument.
        let (places, others) = if units.is_empty() {
            (&cgroups, &[][..])
        } else {
            (&units, &cgroups[..])
        };
        let first_literal = self.literals.len() as u32;
        use abi::literal_kind as kind;
        self.clause(kind::LITERAL_PLACE, numbers(others));
        for arg in args.iter().skip(1) {
            self.clause(kind::LITERAL_ARG, numbers(&[*arg]));
        }
        self.clause(kind::LITERAL_PARENT, numbers(&parents));
        self.clause(kind::LITERAL_COMM, numbers(&comms));
        self.clause(kind::LITERAL_GROUP, s.group.iter().map(|group| group.gid));
        let hooks = match s.container {
            Container::Host => hooks,
            Container::Any => hooks | hooks << CONTAINED,
            Container::Only => hooks << CONTAINED,
        };
        let candidate = abi::candidate {
            rule: number,
            hooks,
            first_literal,
            literals: self.literals.len() as u32 - first_literal,
        };

        let needs = [
            (
                !s.unit.is_empty() || !s.cgroup.is_empty(),
                abi::shape::NEED_PLACES,
            ),
            (!args.is_empty(), abi::shape::NEED_ARGS),
            (!parents.is_empty(), abi::shape::NEED_PARENT),
            (!comms.is_empty(), abi::shape::NEED_COMM),
        ];
        let needs = needs
            .iter()
            .filter(|(given, _)| *given)
            .fold(0, |bits, (_, need)| bits | need.0);
        let places = any_or(places.iter().copied());
        let users = any_or(s.user.iter().map(|user| user.uid + 1));
        let arg = args.first().map_or(0, |arg| u32::from(*arg));
        for &exe in &exes {
            for &place in &places {
                for &user in &users {
                    let key = [u32::from(exe), u32::from(place), user, arg];
                    self.note_shape(key, needs, strings);
                    put(self.rules.entry(key).or_default(), candidate);
                }
            }
        }
    }

    fn note_shape(&mut self, [exe, place, user, arg]: Key, needs: u32, strings: &mut Strings<'_>) {
        let parts = [
            (place, abi::shape::SHAPE_PLACE),
            (user, abi::shape::SHAPE_USER),
            (arg, abi::shape::SHAPE_ARG),
        ];
        let given = parts.iter().filter(|(part, _)| *part != 0);
        let bits = needs | 1 << given.fold(0, |shape, (_, bit)| shape | bit.0);
        if exe == 0 {
            self.shapes |= bits;
        } else {
            strings.add(exe as Atom, bits);
        }
    }

    /// The number of a cgroup by its path.
    fn place<'p>(&mut self, path: &'p str, strings: &mut Strings<'p>) -> Atom {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let name = strings.whole(abi::string_kind::STRING_NAME, name);
            let next = ROOT + 1 + self.steps.len() as u32;
            at = *self.steps.entry((at, name)).or_insert(next);
        }
        *self.places.entry(at).or_insert_with(|| strings.number())
    }

    /// One of these has to hold, if there are any.
    fn clause(&mut self, kind: abi::literal_kind, values: impl Iterator<Item = u32>) {
        let before = self.literals.len();
        let literal = |value| abi::literal {
            kind: kind.0,
            value,
        };
        self.literals.extend(values.map(literal));
        if let Some(last) = self.literals[before..].last_mut() {
            last.kind |= abi::literal_kind::LITERAL_LAST.0;
        }
    }

    /// The shapes of keys for any program.
    pub(super) fn shapes(&self) -> u32 {
        self.shapes
    }

    /// All keys, and the steps down the hierarchy of cgroups.
    pub(super) fn keys(&self, half: u32) -> impl ExactSizeIterator<Item = abi::key> {
        let mut first = half * CANDIDATES_MAX;
        let mut keys = Vec::with_capacity(self.rules.len() + self.steps.len());
        for ([exe, place, user, arg], rules) in &self.rules {
            keys.push(abi::key {
                exe: *exe,
                place: *place,
                user: *user,
                arg: *arg,
                first,
                count: rules.len() as u32,
            });
            first += rules.len() as u32;
        }
        for (&(from, name), to) in &self.steps {
            keys.push(abi::key {
                exe: abi::key_exe::EDGE.0,
                place: from,
                user: 0,
                arg: u32::from(name),
                first: *to,
                count: 1 + self.places.get(to).map_or(0, |place| u32::from(*place)),
            });
        }
        keys.into_iter()
    }

    /// The candidates of all keys, one key after the other.
    pub(super) fn candidates(&self, half: u32) -> Vec<abi::candidate> {
        let candidates = self.rules.values().flatten();
        candidates
            .map(|candidate| abi::candidate {
                first_literal: candidate.first_literal + half * LITERALS_MAX,
                ..*candidate
            })
            .collect()
    }
}

/// Adds a candidate, unless those before it leave it nothing.
fn put(candidates: &mut Vec<abi::candidate>, candidate: abi::candidate) {
    let taken = candidates
        .iter()
        .filter(|earlier| earlier.literals == 0)
        .fold(0, |hooks, earlier| hooks | earlier.hooks);
    let same = candidates
        .last()
        .is_some_and(|last| last.rule == candidate.rule);
    if candidate.hooks & !taken != 0 && !same {
        candidates.push(candidate);
    }
}

/// The twin of the hash in `find_key()` of `bpf/facts.bpf.h`.
pub(super) fn hash(key: &abi::key, seed: u64) -> u64 {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let half = hash_next(seed, pair(key.exe, key.place));
    hash_next(half, pair(key.user, key.arg))
}

/// The program of a launch, or the one that launches.
enum Of {
    Exe,
    Parent,
}

fn path<'p>(strings: &mut Strings<'p>, path: &'p PathPattern, of: Of) -> Atom {
    let kind = match of {
        Of::Exe => abi::string_kind::STRING_EXE,
        Of::Parent => abi::string_kind::STRING_PARENT,
    };
    strings.pattern(kind, &path.resolved)
}

fn numbers(atoms: &[Atom]) -> impl Iterator<Item = u32> {
    atoms.iter().map(|atom| u32::from(*atom))
}

/// These, or 0 for any if there are none.
fn any_or<T: From<u8>>(given: impl Iterator<Item = T>) -> Vec<T> {
    let given: Vec<_> = given.collect();
    if given.is_empty() {
        vec![T::from(0)]
    } else {
        given
    }
}
