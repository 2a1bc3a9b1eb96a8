/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the gate and the daemon say to each other: fixed-width fields (an enum has 32 bits),
 * explicit padding.
 * The Rust side is generated from the BTF of these types; sizes are asserted on both.
 */
#ifndef COREGATE_ABI_H
#define COREGATE_ABI_H

#include <linux/types.h>
#include "claim.h"

enum limits {
	/* Bytes of an exe path in a rule, its NUL included. */
	EXE_MAX = 256,
	/* Hardware threads of one core. */
	CORE_CPUS_MAX = 8,
	/* Bits of the filter over names of exe files; a power of two. */
	NAME_FILTER_BITS = 131072,
	/* The number that no rule has. */
	NO_RULE = 0xffffffff,
	/*
	 * How large the tables of a policy are: each is there twice, so that the daemon can write one
	 * half while the other one holds.
	 */
	RULES_MAX = 16384,
	/* Slots for strings and for keys; powers of two, and twice what they are to hold. */
	STRING_SLOTS = 65536,
	KEY_SLOTS = 131072,
	/* Words of 8 bytes of all strings. */
	POOL_WORDS = 262144,
	SUFFIXES_MAX = 16384,
	CANDIDATES_MAX = 65536,
	LITERALS_MAX = 65536,
	/* How far a string or a key can be from its own slot. */
	PROBES = 16,
	/* How many suffixes one prefix can have, candidates one key, literals one candidate. */
	SUFFIXES_EACH = 32,
	CANDIDATES_EACH = 64,
	LITERALS_EACH = 64,
	/* Levels of the cgroup hierarchy that are looked at, from its root down. */
	LEVELS_READ = 32,
	/*
	 * What is kept of a launch: all that a policy can have for it. A path or name is one string,
	 * and meets as many patterns as can begin alike; a level below the root is also a cgroup.
	 */
	EXES_MET = SUFFIXES_EACH + 1,
	PLACES_EACH = SUFFIXES_EACH + 2,
	PLACES_MET = (LEVELS_READ - 1) * PLACES_EACH,
	ARGS_READ = 8,
	PARENTS_MET = SUFFIXES_EACH + 1,
	/* How much higher the bit of a hook is for a launch in a container. */
	CONTAINED = 8,
	/* Bytes of an argument, its NUL included. */
	ARG_MAX = 128,
	/* Supplementary groups that an event has room for. */
	GROUPS_KEPT = 16,
	/* CPU numbers of a machine on which domains are kept. */
	CPUS_MAX = 1024,
	/* Bytes of the ring buffer of events: some 1,100, or 450 with details, until the daemon reads them. */
	RING_BYTES = 1048576,
	/* Kinds of differences between the policy that holds and the one that is rehearsed. */
	CHANGES_MAX = 4096,
};

/* What the tables of a policy are read by. */
enum active {
	/* The half that holds. */
	ACTIVE_HALF = 1,
	/* The other half is rehearsed: launches are judged by it too, and nothing comes of it. */
	ACTIVE_REHEARSING = 2,
};

enum mode {
	MODE_OBSERVE = 0,
	MODE_ENFORCE = 1,
	/* No launch is judged. */
	MODE_OFF = 2,
};

enum action {
	ACTION_LOG = 0,
	ACTION_DENY = 1,
	/* No verdict: the launch goes on as if no rule were for it. */
	ACTION_EXEMPT = 2,
};

enum verdict {
	VERDICT_ADMIT = 0,
	VERDICT_DENY = 1,
	VERDICT_UNKNOWN = 2,
};

enum effect {
	EFFECT_ADMITTED = 0,
	EFFECT_DENIED = 1,
	EFFECT_LOGGED = 2,
};

/* What a policy comes to for a launch. */
enum outcome {
	OUTCOME_UNMATCHED = 0,
	OUTCOME_EXEMPT = 1,
	OUTCOME_ADMITTED = 2,
	OUTCOME_DENIED = 3,
	OUTCOME_LOGGED = 4,
};

/* Where idleness was read. */
enum source {
	SOURCE_NONE = 0,
	SOURCE_NODE = 1,
	SOURCE_FLAT = 2,
	SOURCE_RUNQUEUE = 3,
};

enum hook {
	HOOK_EXEC = 0,
	HOOK_FORK = 1,
	HOOK_THREAD = 2,
	HOOKS = 3,
};

/* How long an admitted launch holds its cores. */
enum hold {
	HOLD_EXIT = 0,
	HOLD_SETTLE = 1,
	HOLD_NONE = 2,
};

/* Where the cores of a launch may lie. */
enum scope {
	/* On the node that it comes from. */
	SCOPE_NODE = 0,
	/* All on one of the rule's nodes. */
	SCOPE_ANY = 1,
	/* Anywhere on the rule's nodes. */
	SCOPE_SPREAD = 2,
};

/* What a string of a policy is compared with, and how. */
enum string_kind {
	STRING_NONE = 0,
	/* The whole path of a program; what it begins with, down to a slash; and where a `*` follows. */
	STRING_EXE = 1,
	STRING_EXE_FOLDER = 2,
	STRING_EXE_GLOB = 3,
	/* Likewise of the launching program. */
	STRING_PARENT = 4,
	STRING_PARENT_FOLDER = 5,
	STRING_PARENT_GLOB = 6,
	/* The name of a cgroup; there are no folders of them. */
	STRING_NAME = 7,
	STRING_NAME_FOLDER = 8,
	STRING_NAME_GLOB = 9,
	STRING_ARG = 10,
	STRING_COMM = 11,
	/* A power of two. */
	STRING_KINDS = 16,
};

/*
 * Which keys there are for a program, or for all: the bit n of a set is set if there are some of
 * the shape n, a sum of the first three. The others say what else must be read of a launch.
 */
enum shape {
	SHAPE_PLACE = 1,
	SHAPE_USER = 2,
	SHAPE_ARG = 4,
	/* All shapes with a place, or with a user. */
	SHAPES_OF_PLACES = 0xaa,
	SHAPES_OF_USERS = 0xcc,
	NEED_PLACES = 1 << 8,
	NEED_ARGS = 1 << 9,
	NEED_PARENT = 1 << 10,
	NEED_COMM = 1 << 11,
};

/* What holds for all rules of one generation. */
struct settings {
	enum mode mode;
	/* What an unknown verdict of a denying rule comes to: ACTION_LOG lets it pass. */
	enum action on_unknown;
	__u32 generation;
	/* A bit for each hook that a rule watches. */
	__u32 watched;
	/* A bit for each hook where the filter over names cannot say that no rule matches. */
	__u32 unfiltered;
	/* The shapes of keys for any program. */
	__u32 shapes;
	/* A bit for each kind of strings that are there. */
	__u32 kinds;
	__u32 string_mask;
	__u32 key_mask;
	/* The mode once nobody has looked after the gate for so many nanoseconds; 0: always. */
	enum mode lease_mode;
	__u64 lease_ns;
	/* How far apart the events of a rule are in the long run; 0: no matter. */
	__u64 event_interval_ns;
	/* What the companion leaves open of each node: so many cores and so many hundredths. */
	__u32 open_cores;
	__u32 open_percent;
	/* Where hashes begin. */
	__u64 seed;
};

/* A string of the policy, in the slot of its hash or soon after it. */
struct string {
	__u64 hash;
	/* Its first word in the pool. */
	__u32 words;
	__u16 length;
	/* Its number, from 1; of a glob, how many suffixes there are for this prefix. */
	__u16 atom;
	/* Of a glob, the first suffix; else its shapes; of names, whether it is a unit. */
	__u32 more;
	enum string_kind kind;
};

/* What has to stand behind the `*` of a glob. */
struct suffix {
	__u32 words;
	__u16 length;
	__u16 atom;
	__u32 shapes;
	__u32 pad;
};

/*
 * For whom there are rules: numbers of strings, and a user's plus 1; 0 is for any. If exe is EDGE,
 * it is one step down the hierarchy of cgroups instead: from `place`, by the name `arg`, to
 * `first`; what that place is called in other keys is `count` minus 1.
 */
struct key {
	__u32 exe;
	__u32 place;
	__u32 user;
	__u32 arg;
	/* The first of its candidates, and how many there are; they are in the order of the rules. */
	__u32 first;
	__u32 count;
};

enum key_exe {
	EDGE = 0xffffffff,
};

/* A rule that a launch with such a key may be for. */
struct candidate {
	__u32 rule;
	/* A bit for each hook; those of containers are CONTAINED higher. */
	__u32 hooks;
	/* What must hold beside the key. */
	__u32 first_literal;
	__u32 literals;
};

enum literal_kind {
	LITERAL_PLACE = 0,
	LITERAL_ARG = 1,
	LITERAL_PARENT = 2,
	LITERAL_COMM = 3,
	LITERAL_GROUP = 4,
	/* With it a clause ends: one of its literals must hold. */
	LITERAL_LAST = 256,
};

struct literal {
	__u32 kind;
	__u32 value;
};

struct rule {
	__u32 cores;
	enum action action;
	/* What the hook answers for a denial: an errno, negative. */
	__s64 denial;
	enum hold hold;
	enum scope scope;
	/* A bit for each node of the scope, and for each hook where the own core counts. */
	__u64 nodes;
	__u32 own_core;
	enum isolation isolation;
	__u64 settle_ns;
	__u64 keep_ns;
	/* What stays the same as long as its name does; never 0. */
	__u64 key;
};

/* How events are spaced. */
struct pace {
	/* When the next one would come if all were as far apart as can be; of CLOCK_BOOTTIME. */
	__u64 next;
	/* How many were held back, and no later event has said so. */
	__u64 untold;
};

enum paced {
	PACED_ADMITTED = 0,
	/* Those of launches that are denied, or would be, have a pace of their own: no storm hides them. */
	PACED_OTHERS = 1,
	PACES = 2,
};

struct counters {
	__u64 launches;
	__u64 admitted;
	__u64 denied;
	__u64 would_deny;
	__u64 unknown;
	/* Events that were held back. */
	__u64 suppressed;
	struct pace pace[PACES];
};

/* What the policy that holds comes to, and what the one that is rehearsed would. */
struct change {
	__u32 rule;
	enum outcome outcome;
	__u32 new_rule;
	enum outcome new_outcome;
};

/* How a claim begins. */
struct claim_head {
	/* 0: there is none. */
	__u64 id;
	/* The key of its rule; 0: its program is still being executed. */
	__u64 rule;
	/* When it was taken, in ns of CLOCK_BOOTTIME, and by which process: of a fork, the parent. */
	__u64 since;
	__u32 pid;
	__u32 pad;
};

/*
 * Which nodes and cores the machine has. The maps have room for it twice, so that the daemon can
 * write one half while the other one holds.
 */
struct topology {
	/* Ever growing; its lowest bit says which half holds. */
	__u32 version;
	/* How many CPUs had come that the gate did not know, when it was read. */
	__u32 newcomers;
	/* By half. */
	__u32 nr_cores[2];
};

/* A NUMA node by its number; nr_cores is 0 where there is none. */
struct node {
	__u32 first_core;
	__u32 nr_cores;
};

/* A core: its CPUs in ascending order, all that were ever seen, online or not. */
struct core {
	__u32 node;
	__u32 nr_cpus;
	__u32 cpu[CORE_CPUS_MAX];
};

/* What the gate did not manage to do; every field only ever grows. */
struct failures {
	__u64 events_lost;
	__u64 paths_unread;
	/* Arguments that were not in memory. */
	__u64 args_unread;
	/* Launches from cgroups deeper than what is looked at, or whose names could not be read. */
	__u64 cgroups_unread;
	__u64 rules_unread;
	/* Verdicts unknown because all claims were in use, or others kept coming in between. */
	__u64 claims_full;
	__u64 claims_contended;
	/* Tasks of which it could not be noted whose claim they run for. */
	__u64 holders_lost;
	/* Claims whose time has no end but the program's. */
	__u64 timers_lost;
	/* Differences that a rehearsal found and did not keep. */
	__u64 changes_lost;
	/* Launches that met the gate after its lease had ended. */
	__u64 unattended;
};

/*
 * What root has said of the mode, over the head of the policy.
 */
struct order {
	/* See enum order_word; it is written last, and at once. */
	__u64 word;
	/* When it was said, in seconds since 1970. */
	__u64 since;
	/* By whom, and why; NUL terminated. */
	__u8 by[64];
	__u8 reason[256];
};

/* From the lowest bit on. */
enum order_word {
	/* What the mode is, plus 1; 0: as the policy says. */
	ORDER_MODE = 0xf,
	/* What it is after the end, likewise. */
	ORDER_AFTER_SHIFT = 4,
	/* The end, in milliseconds of CLOCK_BOOTTIME; 0: there is none. */
	ORDER_END_SHIFT = 8,
};

/* What is not the daemon's: the one after it goes on with it. */
struct kept {
	__u64 next_event;
	/* Of the last policy that held. */
	__u32 generation;
	__u32 pad;
	struct failures failures;
	struct order order;
};

struct event {
	/* Nanoseconds of CLOCK_BOOTTIME. */
	__u64 time;
	__u64 id;
	/* The key of the rule. */
	__u64 rule_key;
	/* How many events of its pace were held back since the one before. */
	__u64 suppressed;
	enum verdict verdict;
	enum effect effect;
	__u32 rule;
	enum hook hook;
	__u32 pid;
	__u32 uid;
	__u32 gid;
	__u32 cpu;
	__u32 node;
	__u32 cores_needed;
	__u32 cores_free;
	__u32 cores_claimed;
	enum source source;
	__u32 err;
	enum mode mode;
	__u32 generation;
	/* Whether it passes for a container's. */
	__u32 container;
	/* How many supplementary groups there are; they are kept if there is room for all. */
	__u32 groups;
	__u32 group[GROUPS_KEPT];
	__u8 comm[16];
	/* Both NUL terminated; of a cgroup, its path in the unified hierarchy, empty if too long. */
	__u8 exe[EXE_MAX];
	__u8 cgroup[2 * EXE_MAX];
};

/* What is read of a launch only where a rule for its program may ask for it. */
struct details {
	/* NEED_ARGS and NEED_PARENT, if they were read. */
	__u32 read;
	/* How many arguments there were, as far as they are read. */
	__u32 args;
	/* ARG_MAX bytes each, NUL terminated if there is room for it; empty if it was unreadable. */
	__u8 arg[ARGS_READ * ARG_MAX];
	/* The path of the launching program; empty if unreadable. Some room more, as in a text. */
	__u8 parent[EXE_MAX + 8];
};

struct detailed_event {
	struct event event;
	struct details details;
};

/* Shorter claims end without a word, so that there are no more such records than cores in this time, in ns. */
#define CLAIM_TOLD_NS 1000000000ULL

/* A claim has ended; in the ring buffer of events. */
struct claim_end {
	/* When it was taken, and now, in ns of CLOCK_BOOTTIME. */
	__u64 since;
	__u64 time;
	/* The key of the rule. */
	__u64 rule_key;
	/* Who took it: of a fork, the parent. */
	__u32 pid;
	__u32 pad;
	struct honour honour;
};

/* Asked of the program survey: how a node stands, and what is known of the scheduler. */
struct survey {
	__u32 node;
	__u32 known;
	enum source source;
	__u32 cores_free;
	/* 1 when a scheduler is loaded; the next two are then its properties. */
	__u32 scheduler;
	__u32 per_node;
	__u32 tracking;
	/* Cores that claims hold, and of these those that they do not have. */
	__u32 cores_claimed;
	__u32 cores_owed;
};

/* What a CPU or a core does. */
enum doing {
	/* Nothing: a core is free. */
	DOING_NOTHING = 0,
	/* It answers the daemon, and nothing else. */
	DOING_ANSWER = 1,
	DOING_WORK = 2,
	DOING_OFFLINE = 3,
	/* The work of a claim; a core: and nothing else. */
	DOING_CLAIM = 4,
};

/* Asked of the program draw: what a core does, by its number. */
struct picture {
	__u32 core;
	/* 0 if there is no such core. */
	__u32 nr_cpus;
	__u32 node;
	enum doing doing;
	/* By hardware thread; who runs there is known of claims only: process, and key of the rule. */
	__u32 cpu[CORE_CPUS_MAX];
	__u32 cpu_doing[CORE_CPUS_MAX];
	__u32 pid[CORE_CPUS_MAX];
	__u64 rule[CORE_CPUS_MAX];
};

/* Written by the program list_claims: a claim, and whose it is. */
struct live_claim {
	__u64 id;
	__u64 rule;
	__u32 pid;
	__u32 tid;
	__u8 comm[16];
	__u16 held[NODES_MAX];
};

_Static_assert(sizeof(struct settings) == 72, "settings");
_Static_assert(sizeof(struct string) == 24, "string");
_Static_assert(sizeof(struct suffix) == 16, "suffix");
_Static_assert(sizeof(struct key) == 24, "key");
_Static_assert(sizeof(struct candidate) == 16, "candidate");
_Static_assert(sizeof(struct literal) == 8, "literal");
_Static_assert(sizeof(struct rule) == 64, "rule");
_Static_assert(sizeof(struct pace) == 16, "pace");
_Static_assert(sizeof(struct counters) == 80, "counters");
_Static_assert(sizeof(struct honour) == 32, "honour");
_Static_assert(sizeof(struct change) == 16, "change");
_Static_assert(sizeof(struct claim_head) == 32, "claim_head");
_Static_assert(sizeof(struct node) == 8, "node");
_Static_assert(sizeof(struct topology) == 16, "topology");
_Static_assert(sizeof(struct core) == 40, "core");
_Static_assert(sizeof(struct failures) == 88, "failures");
_Static_assert(sizeof(struct order) == 336, "order");
_Static_assert(sizeof(struct kept) == 440, "kept");
_Static_assert(sizeof(struct event) == 952, "event");
_Static_assert(sizeof(struct details) == 1296, "details");
_Static_assert(sizeof(struct detailed_event) == 2248, "detailed_event");
_Static_assert(sizeof(struct claim_end) == 64, "claim_end");
_Static_assert(sizeof(struct survey) == 36, "survey");
_Static_assert(sizeof(struct picture) == 176, "picture");
_Static_assert(sizeof(struct live_claim) == 168, "live_claim");

#endif
