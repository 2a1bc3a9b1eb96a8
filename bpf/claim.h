/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a claim is, and a holder: the gate writes both into maps that are pinned, the companion
 * reads them there. Only types, and none of the kernel's but a timer.
 */
#ifndef COREGATE_CLAIM_H
#define COREGATE_CLAIM_H

#include <linux/types.h>
#include <linux/bpf.h>

/* What the companion is called among schedulers. */
#define COMPANION "coregate"

enum claim_limits {
	/* Node numbers are below it; a power of two. */
	NODES_MAX = 64,
	/* Nodes on which one claim can lie. */
	PARTS_MAX = 8,
};

/* What the companion keeps away from the other hardware threads of a core where a claim runs. */
enum isolation {
	ISOLATION_NONE = 0,
	/* What is not the claim's, unless there is nowhere else for it. */
	ISOLATION_PREFER = 1,
	/* All that is not the claim's. */
	ISOLATION_STRICT = 2,
};

/* How many cores on which nodes. */
struct parts {
	__u32 nr;
	struct {
		__u16 node;
		__u16 cores;
	} part[PARTS_MAX];
};

/* What a program holds, and by which rule. */
struct holding {
	struct parts parts;
	/* Whether it holds them at all; else it is only looked for them. */
	__u32 holds;
	/* The key of the rule. */
	__u64 rule;
	/* How long, in ns; 0: until it is gone. */
	__u64 settle_ns;
	/* How long a core stays its own after its last thread there went to sleep. */
	__u64 keep_ns;
	enum isolation isolation;
	__u32 pad;
};

/*
 * What is known of how claims were honoured, of one or of all of a rule. By samples, under any scheduler: of
 * CPUs that ran for them, and those of these that found others on the core. By every switch, while the
 * companion is in charge: how long CPUs ran for them, and how long of that with others on the core, in ns.
 */
struct honour {
	__u64 samples;
	__u64 shared;
	__u64 ran_ns;
	__u64 shared_ns;
};

struct claim {
	/* The ticket that it was taken with; 0 in a free slot. */
	__u64 id;
	/* The key of the rule that its program was admitted by; 0: that is still being executed. */
	__u64 rule;
	/* When it was taken, in ns of CLOCK_BOOTTIME, and by which process: of a fork, the parent. */
	__u64 since;
	__u32 pid;
	__u32 pad;
	/* Of its program. */
	struct honour honour;
	/* The end of its time, in ns of CLOCK_MONOTONIC; 0: it has none. */
	__u64 until;
	/* Of the program that runs, and of the one that is being executed. */
	struct holding now;
	struct holding then;
	/* By node: what the ledger counts for this claim, so the larger of both. */
	__u16 held[NODES_MAX];
	/* Free slots are chained: the next one plus 1. */
	__u32 next;
	/* The number of its domain plus 1; 0: it is not confined. */
	__u32 domain;
	struct bpf_timer timer;
};

/* A task's part in claims; an id that is not the slot's any more is of a claim that ended. */
struct holder {
	/* The claim that its running counts for. */
	__u64 id;
	/* The claim of the exec that it is in. */
	__u64 exec_id;
	__u32 slot;
	__u32 exec_slot;
	/* Whether the claim goes with its process, or with the task; neither: with its parent's. */
	__u32 process;
	__u32 thread;
	/* The claim was taken for this task when it was made. */
	__u32 newborn;
	__u32 pad;
};

#endif
