/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether the promise of a claim is kept: now and then, as long as there are claims, a sample is
 * taken of who runs on each core. It does not matter which scheduler there is, or whether a daemon is.
 */
#ifndef COREGATE_HONOUR_H
#define COREGATE_HONOUR_H

#include "abi.h"
#include "claims.bpf.h"
#include "core.bpf.h"
#include "honours.bpf.h"
#include "kernel.h"
#include "topology.bpf.h"

/*
 * The time between two samples: between these, at random, so that what a program does at regular
 * intervals is not always, or never, seen.
 */
#define SAMPLE_MIN_NS 5000000ULL
#define SAMPLE_MAX_NS 15000000ULL

/* A sample is due; the timer is of the ledger, as that is pinned. */
__u64 sample_due;

/* Who runs on a CPU now: the slot of a claim, on from FIRST_SLOT, STRANGER or NOBODY. */
__noinline __u32 who_has(__u32 cpu)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);
	int tgid;

	return !rq || rq->curr == rq->idle ? NOBODY : claim_on(rq, &tgid);
}

/* One CPU ran for the claim in a slot; was there somebody else on its core? */
__noinline int note_sample(__u32 slot, bool shared)
{
	const struct honour one = { .samples = 1, .shared = shared };
	struct claim *c = bpf_map_lookup_elem(&claims, &slot);

	if (c)
		honour(c, &one);
	return 0;
}

/* A sample of one CPU of a core; a function of its own, for the verifier. */
__noinline int sample_cpu(__u32 index, __u64 i)
{
	const struct core *core = core_at(topology.version, index);
	bool shared = false;
	__u32 who;

	/* For the verifier, which must see that what is checked is the index. */
	barrier_var(i);
	if (!core || i >= CORE_CPUS_MAX)
		return 0;
	who = who_has(core->cpu[i]);
	if (who < FIRST_SLOT)
		return 0;
	for (__u32 other = 0; other < CORE_CPUS_MAX && other < core->nr_cpus; other++) {
		__u32 beside;

		/* It may have changed since. */
		if (other == i)
			continue;
		beside = who_has(core->cpu[other]);
		shared |= (beside != NOBODY) & (beside != who);
	}
	return note_sample(who - FIRST_SLOT, shared);
}

static long sample_core(__u32 index, void *unused)
{
	const struct core *core = core_at(topology.version, index);

	if (!core)
		return 1;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		sample_cpu(index, i);
	return 0;
}

static __always_inline void sample_again(struct ledger *l)
{
	__u64 more = bpf_get_prandom_u32() % (SAMPLE_MAX_NS - SAMPLE_MIN_NS);

	if (bpf_timer_start(&l->timer, SAMPLE_MIN_NS + more, 0))
		__sync_lock_test_and_set(&sample_due, 0);
}

static int on_sample(void *map, __u32 *key, struct ledger *l)
{
	bpf_loop(topology.nr_cores[topology.version & 1], sample_core, NULL, 0);
	/* First: who has a claim from now on begins to sample anew. */
	__sync_lock_test_and_set(&sample_due, 0);
	if (l->live && !__sync_lock_test_and_set(&sample_due, 1))
		sample_again(l);
	return 0;
}

/* Takes samples as long as there are claims, if that is not done already. */
static __always_inline void sample_claims(void)
{
	struct ledger *l = the_ledger();

	if (!l || !l->live || sample_due || __sync_lock_test_and_set(&sample_due, 1))
		return;
	/* It was made by the gate before, if there was one; from now on it is this one that samples. */
	bpf_timer_init(&l->timer, &ledgers, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&l->timer, on_sample);
	sample_again(l);
}

#endif
