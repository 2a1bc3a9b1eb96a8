/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the gate and the daemon say to each other: fixed-width fields (an enum has 32 bits),
 * explicit padding.
 * The Rust side is generated from the BTF of these types; sizes are asserted on both.
 */
#ifndef COREGATE_ABI_H
#define COREGATE_ABI_H

#include <linux/types.h>

enum limits {
	/* Bytes of an exe path in a rule, its NUL included. */
	EXE_MAX = 256,
	/* Hardware threads of one core. */
	CORE_CPUS_MAX = 8,
	/* Bits of the filter over names of exe files; a power of two. */
	NAME_FILTER_BITS = 131072,
	/* The number that no rule has. */
	NO_RULE = 0xffffffff,
	/* Node numbers are below it; a power of two. */
	NODES_MAX = 64,
	/* Nodes on which one claim can lie. */
	PARTS_MAX = 8,
	/* CPU numbers of a machine on which domains are kept. */
	CPUS_MAX = 1024,
};

enum mode {
	MODE_OBSERVE = 0,
	MODE_ENFORCE = 1,
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

/* What holds for all rules; may change while the gate stands. */
struct settings {
	enum mode mode;
	/* What an unknown verdict of a denying rule comes to: ACTION_LOG lets it pass. */
	enum action on_unknown;
	__u32 generation;
	__u32 pad;
	/* Where the hash of a path begins: no two paths of the policy have the same. */
	__u64 seed;
};

/* A program that rules name. */
struct exe {
	/* Its absolute path, NUL padded. */
	__u8 path[EXE_MAX];
	/* The first rule for any user, by hook; or NO_RULE. */
	__u32 any[HOOKS];
	/* Its number, and whether there are rules for single users. */
	__u32 number;
	__u32 users;
	__u32 pad;
};

struct launch_key {
	__u32 exe;
	enum hook hook;
	__u32 uid;
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
	__u32 pad;
	__u64 settle_ns;
	/* What stays the same as long as its name does; never 0. */
	__u64 key;
};

struct counters {
	__u64 launches;
	__u64 admitted;
	__u64 denied;
	__u64 would_deny;
	__u64 unknown;
};

/* How a claim begins. */
struct claim_head {
	/* 0: there is none. */
	__u64 id;
	/* The key of its rule; 0: its program is still being executed. */
	__u64 rule;
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
	__u64 rules_unread;
	/* Verdicts unknown because all claims were in use, or others kept coming in between. */
	__u64 claims_full;
	__u64 claims_contended;
	/* Tasks of which it could not be noted whose claim they run for. */
	__u64 holders_lost;
	/* Claims whose time has no end but the program's. */
	__u64 timers_lost;
};

struct event {
	/* Nanoseconds of CLOCK_BOOTTIME. */
	__u64 time;
	__u64 id;
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
	__u8 comm[16];
	__u8 exe[EXE_MAX];
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
	/* Cores that claims hold. */
	__u32 cores_claimed;
};

_Static_assert(sizeof(struct settings) == 24, "settings");
_Static_assert(sizeof(struct exe) == 280, "exe");
_Static_assert(sizeof(struct launch_key) == 12, "launch_key");
_Static_assert(sizeof(struct rule) == 56, "rule");
_Static_assert(sizeof(struct counters) == 40, "counters");
_Static_assert(sizeof(struct claim_head) == 16, "claim_head");
_Static_assert(sizeof(struct node) == 8, "node");
_Static_assert(sizeof(struct topology) == 16, "topology");
_Static_assert(sizeof(struct core) == 40, "core");
_Static_assert(sizeof(struct failures) == 56, "failures");
_Static_assert(sizeof(struct event) == 352, "event");
_Static_assert(sizeof(struct survey) == 32, "survey");

#endif
