/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A launch under judgement: what it is, as far as rules ask, which cores it needs, and how it stands
 * with them.
 */
#ifndef COREGATE_LAUNCH_H
#define COREGATE_LAUNCH_H

#include "abi.h"
#include "claim.h"
#include "counts.bpf.h"
#include "kernel.h"
#include "strings.bpf.h"

/* What it is: the numbers of the strings that it meets. */
struct facts {
	struct matched {
		/* How many there are of what comes last. */
		__u32 exes;
		__u32 places;
		__u32 parents;
		/* Of all these programs. */
		__u32 shapes;
		__u16 arg[ARGS_READ];
		__u16 comm;
		/* With their shapes in the upper half. */
		__u32 exe[EXES_MET];
		__u16 place[PLACES_MET];
		__u16 parent[PARENTS_MET];
	} met;
	__u32 uid;
	__u32 half;
	/* Its bit among those of a candidate. */
	__u32 hooks;
	/* The first rule that was found, and what comes of it. */
	__u32 rule;
	enum outcome outcome;
	/* In which it is judged. */
	enum mode mode;
	/* By a policy that is only rehearsed: then nothing does. What it came to. */
	__u32 rehearsed;
	__u32 new_rule;
	enum outcome new_outcome;
	/* Supplementary groups, and those that are before the one that is looked for. */
	__u32 groups;
	__u32 before;
	/* Which details were read, for either policy. */
	__u32 asked;
	/* The path of its program; empty if that could not be read. */
	union text exe;
	/* What is being read. */
	union text text;
};

/* A launch that wants cores, and the claim that its process has already, if it has one. */
struct taker {
	struct holding wants;
	__u64 ticket;
	/* 0: none yet. */
	__u64 id;
	__u32 slot;
	/* The launch is an exec: the claim depends on how that ends. */
	__u32 exec;
	/* The number of its domain plus 1; 0: it is not confined. */
	__u32 domain;
	/* Who makes it, and when; see struct claim. */
	__u32 pid;
	__u64 since;
	/*
	 * How often its CPU had changed tasks when it began to look, and what the CPU's count of walks is
	 * if no other launch has begun there since: see has_moved().
	 */
	__u64 turns;
	__u64 expected;
	/* The stamp on what its CPU keeps of its last walk. */
	__u64 walk;
};

/* How a node stands, for a launch. */
struct tally {
	/* Free cores that it may use, and all of them. */
	__u32 free;
	__u32 total;
	/* Cores that claims hold but its own, and those that their holders have whole now. */
	__u32 held;
	__u32 met;
	enum source source;
	/* The companion is in charge. */
	__u32 companion;
};

/* A launch that needs more cores looks at all of them twice, claims or not. */
#define CHOSEN_MAX 8

/* Which cores it needs. */
struct need {
	struct taker taker;
	struct tally tally;
	/* A bit for each node where the cores may lie. */
	__u64 nodes;
	__u32 cores;
	enum scope scope;
	enum verdict verdict;
	/* The CPU that the launch comes from, or NO_CPU; and whether its core counts. */
	__u32 own_cpu;
	__u32 own_core;
	/* The process whose other threads end with the launch; 0: none does. */
	int own_tgid;
	/* The claim that it has already, as who_runs_on() calls it; or NOBODY. */
	__u32 own_slot;
	/* It is only looked whether there is room: nothing is taken, and nothing else comes of it. */
	__u32 rehearsed;
	/* Its affinity does not matter; or it may not use every CPU. */
	__u32 anybody;
	__u32 confined;
	/* Cores are of interest as sets, not only as numbers. */
	__u32 in_sets;
	/* Whether there are claims. */
	__u32 live;
	/* Of the topology that is looked at, and of the policy. */
	__u32 version;
	__u32 half;
	/* Cores that are still to be found. */
	__u32 missing;
	/* What the event says: of all nodes of a spread, else of the one that has most. */
	__u32 home;
	__u32 node;
	__u32 free;
	__u32 unmet;
	enum source source;
	/* Some node was looked at. */
	__u32 seen;
	/* What a mask calls busy is looked at, too. */
	__u32 by_queues;
	/* Where nobody holds a claim: free cores that suffice, in the order of the print. */
	__u32 chosen[CHOSEN_MAX];
	__u32 nr_chosen;
	/*
	 * Of what was seen free or whole, as far as it matters: two looks with the same print saw the
	 * same, and nothing there has run in between.
	 */
	__u64 print;
	/* Of the core seen last: how often its CPUs have changed tasks. */
	__u64 switches;
	/* The walk: the node whose claims are asked for, its cores. */
	__u32 at;
	__u32 first_core;
	__u32 nr_cores;
	/* The index of the launcher's core plus 1. */
	__u32 own_index;
	/* The cores are other nodes': only who runs there is of interest. */
	__u32 elsewhere;
};

#define NO_CPU 0xffffffff

/*
 * What is kept of a task: its part in claims, and the launch that it makes. No other launch of that task
 * can come in between, as one on its CPU can; on the stack the verifier would follow each count that
 * there can be. In one piece, as the first launch of a task allocates it.
 */
struct note {
	struct holder holder;
	struct facts facts;
	struct need need;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct note);
} holders SEC(".maps");

/* What a task has to do with claims; NULL: nothing. */
static __always_inline struct holder *holder_of(struct task_struct *task)
{
	return bpf_task_storage_get(&holders, task, NULL, 0);
}

/*
 * What a map has of a task, made if there is nothing; NULL: no memory. Since 6.4 each CPU has a few free
 * records of a map, and an interrupt that it sends itself makes more (unit_alloc(),
 * kernel/bpf/memalloc.c): until that has come there may be none. So it is tried some times.
 */
static __always_inline void *made_of(void *map, struct task_struct *task)
{
	void *made = NULL;

#pragma unroll 1
	for (__u32 i = 0; i < 32 && !made; i++)
		made = bpf_task_storage_get(map, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return made;
}

/* What is kept of a task, made if there is nothing; NULL: no memory. */
static __noinline struct note *note_of(struct task_struct *task)
{
	return made_of(&holders, task);
}

/* Likewise as that of a holder. */
static __always_inline struct holder *made_holder_of(struct task_struct *task)
{
	struct note *note = note_of(task);

	if (note)
		return &note->holder;
	__sync_fetch_and_add(&kept.failures.holders_lost, 1);
	return NULL;
}

#endif
