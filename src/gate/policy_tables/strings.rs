// SPDX-License-Identifier: GPL-2.0-only
//! The strings of a policy, each with a number of its own: what rules are found by.

use std::collections::{BTreeMap, HashMap};

use super::slots::Slots;
use super::{abi, hash_next};
use crate::policy::Pattern;

const KINDS: usize = abi::string_kind::STRING_KINDS.0 as usize;
const LENGTH_WORDS: usize = abi::limits::EXE_MAX.0 as usize / 64;
const POOL_WORDS: u32 = abi::limits::POOL_WORDS.0;
const SUFFIXES_MAX: u32 = abi::limits::SUFFIXES_MAX.0;

/// By kind: a bit for each length that folders, and what stands before a `*`, have.
pub(in crate::gate) type Lengths = [u64; KINDS * LENGTH_WORDS];

/// The number of a string, from 1; a cgroup has one too.
pub(super) type Atom = u16;

#[derive(Default)]
pub(super) struct Strings<'p> {
    /// All but globs, by kind and text; and in the order of their numbers.
    whole: HashMap<(u32, &'p str), Atom>,
    in_order: Vec<(u32, &'p str, Atom)>,
    /// By kind and prefix: the suffixes.
    globs: BTreeMap<(u32, &'p str), BTreeMap<&'p str, Atom>>,
    /// By number, from 1: shapes, or whether it is a unit.
    more: Vec<u32>,
}

impl<'p> Strings<'p> {
    /// A number that no string has.
    pub(super) fn number(&mut self) -> Atom {
        self.more.push(0);
        Atom::try_from(self.more.len()).expect("the policy keeps to its limits")
    }

    /// The number of a string of this kind.
    pub(super) fn whole(&mut self, kind: abi::string_kind, text: &'p str) -> Atom {
        if let Some(&atom) = self.whole.get(&(kind.0, text)) {
            return atom;
        }
        let atom = self.number();
        self.whole.insert((kind.0, text), atom);
        self.in_order.push((kind.0, text, atom));
        atom
    }

    /// The number of a pattern; `kind` is that of whole strings, and those of folders and globs
    /// come after it.
    pub(super) fn pattern(&mut self, kind: abi::string_kind, pattern: &'p Pattern) -> Atom {
        match pattern {
            Pattern::Exact(text) => self.whole(kind, text),
            Pattern::Folder(text) => self.whole(abi::string_kind(kind.0 + 1), text),
            Pattern::Glob { prefix, suffix } => {
                let place = (kind.0 + 2, prefix.as_str());
                if let Some(&atom) = self.globs.get(&place).and_then(|with| with.get(&**suffix)) {
                    return atom;
                }
                let atom = self.number();
                self.globs.entry(place).or_default().insert(suffix, atom);
                atom
            }
        }
    }

    /// Adds bits to what is known of a string.
    pub(super) fn add(&mut self, atom: Atom, bits: u32) {
        self.more[usize::from(atom) - 1] |= bits;
    }

    fn more(&self, atom: Atom) -> u32 {
        self.more[usize::from(atom) - 1]
    }

    /// A bit for each kind that there is.
    pub(super) fn kinds(&self) -> u32 {
        let whole = self.whole.keys().map(|(kind, _)| kind);
        let globs = self.globs.keys().map(|(kind, _)| kind);
        whole.chain(globs).fold(0, |bits, kind| bits | 1 << kind)
    }

    /// See [`Lengths`].
    pub(super) fn lengths(&self) -> Lengths {
        let mut lengths = [0; KINDS * LENGTH_WORDS];
        for (kind, text) in self.whole.keys().chain(self.globs.keys()) {
            lengths[*kind as usize * LENGTH_WORDS + text.len() / 64] |= 1 << (text.len() % 64);
        }
        lengths
    }

    /// The strings by the slots of their hashes. `None`: another seed is needed.
    pub(super) fn slots(&self, half: u32, seed: u64) -> Option<Slots<abi::string>> {
        let mut entries = Vec::new();
        let (mut words, mut suffix) = (half * POOL_WORDS, half * SUFFIXES_MAX);
        self.each(|kind, text, what| match what {
            What::Whole(atom) => {
                entries.push(entry(kind, text, seed, words, atom, self.more(atom)));
                words += text.len().div_ceil(8) as u32;
            }
            What::Prefix(count) => {
                entries.push(entry(kind, text, seed, words, count as u16, suffix));
                words += text.len().div_ceil(8) as u32;
                suffix += count as u32;
            }
            What::Suffix(_) => words += text.len().div_ceil(8) as u32,
        });
        Slots::new(entries.into_iter(), |string| string.hash)
    }

    /// The bytes of all strings.
    pub(super) fn pool(&self) -> Vec<u64> {
        let mut pool = Vec::new();
        self.each(|_, text, _| pool.extend(words(text)));
        pool
    }

    /// The suffixes, those of one prefix one after the other.
    pub(super) fn suffixes(&self, half: u32) -> Vec<abi::suffix> {
        let mut suffixes = Vec::new();
        let mut words = half * POOL_WORDS;
        self.each(|_, text, what| {
            if let What::Suffix(atom) = what {
                suffixes.push(abi::suffix {
                    words,
                    length: text.len() as u16,
                    atom,
                    shapes: self.more(atom),
                    pad: 0,
                });
            }
            words += text.len().div_ceil(8) as u32;
        });
        suffixes
    }

    /// Each string, always in the same order.
    fn each(&self, mut with: impl FnMut(u32, &str, What)) {
        for &(kind, text, atom) in &self.in_order {
            with(kind, text, What::Whole(atom));
        }
        for ((kind, prefix), suffixes) in &self.globs {
            with(*kind, prefix, What::Prefix(suffixes.len()));
            for (suffix, atom) in suffixes {
                with(*kind, suffix, What::Suffix(*atom));
            }
        }
    }
}

enum What {
    Whole(Atom),
    /// With so many suffixes.
    Prefix(usize),
    Suffix(Atom),
}

fn entry(kind: u32, text: &str, seed: u64, words: u32, atom: u16, more: u32) -> abi::string {
    abi::string {
        hash: hash(kind, text, seed),
        words,
        length: text.len() as u16,
        atom,
        more,
        kind: abi::string_kind(kind),
    }
}

/// The twin of the hashes in `bpf/facts.bpf.h`: of what texts begin with byte by byte, as it is
/// found on the way, and the same for folders and globs; of whole texts word by word.
fn hash(kind: u32, text: &str, seed: u64) -> u64 {
    let begin = |kind: abi::string_kind| seed ^ u64::from(kind.0);
    let by_byte = |kind| text.bytes().map(u64::from).fold(begin(kind), hash_next);
    match abi::string_kind(kind) {
        abi::string_kind::STRING_EXE_FOLDER | abi::string_kind::STRING_EXE_GLOB => {
            by_byte(abi::string_kind::STRING_EXE_FOLDER)
        }
        abi::string_kind::STRING_PARENT_FOLDER | abi::string_kind::STRING_PARENT_GLOB => {
            by_byte(abi::string_kind::STRING_PARENT_FOLDER)
        }
        abi::string_kind::STRING_NAME_GLOB => by_byte(abi::string_kind::STRING_NAME_FOLDER),
        kind => words(text).fold(begin(kind), hash_next),
    }
}

fn words(text: &str) -> impl Iterator<Item = u64> {
    text.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}
