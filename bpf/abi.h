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
	/* The uid of a rule that any user matches; (uid_t)-1 is no user. */
	ANY_UID = 0xffffffff,
};

enum mode {
	MODE_OBSERVE = 0,
	MODE_ENFORCE = 1,
};

enum action {
	ACTION_LOG = 0,
	ACTION_DENY = 1,
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
};

/* What holds for all rules; may change while the gate stands. */
struct settings {
	enum mode mode;
	/* What an unknown verdict of a denying rule comes to: ACTION_LOG lets it pass. */
	enum action on_unknown;
	__u32 generation;
	__u32 pad;
};

/* The absolute path of a program, NUL padded. */
struct exe_key {
	__u8 path[EXE_MAX];
};

/* One selector pair; the exe is named by its number from the map exes. */
struct launch_key {
	__u32 exe;
	__u32 uid;
};

struct rule {
	__u32 cores;
	enum action action;
	/* What the hook answers for a denial: an errno, negative. */
	__s64 denial;
};

struct counters {
	__u64 launches;
	__u64 admitted;
	__u64 denied;
	__u64 would_deny;
	__u64 unknown;
};

/* A NUMA node by its number; nr_cores is 0 where there is none. */
struct node {
	__u32 first_core;
	__u32 nr_cores;
};

/* A core: its online CPUs in ascending order, so the first one is its leader. */
struct core {
	__u32 nr_cpus;
	__u32 cpu[CORE_CPUS_MAX];
};

/* What the gate did not manage to do; every field only ever grows. */
struct failures {
	__u64 events_lost;
	__u64 paths_unread;
	__u64 rules_unread;
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
	__u32 pad;
};

_Static_assert(sizeof(struct settings) == 16, "settings");
_Static_assert(sizeof(struct exe_key) == 256, "exe_key");
_Static_assert(sizeof(struct launch_key) == 8, "launch_key");
_Static_assert(sizeof(struct rule) == 16, "rule");
_Static_assert(sizeof(struct counters) == 40, "counters");
_Static_assert(sizeof(struct node) == 8, "node");
_Static_assert(sizeof(struct core) == 36, "core");
_Static_assert(sizeof(struct failures) == 24, "failures");
_Static_assert(sizeof(struct event) == 352, "event");
_Static_assert(sizeof(struct survey) == 32, "survey");

#endif
