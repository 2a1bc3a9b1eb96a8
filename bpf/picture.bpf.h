/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What each core does now and who holds cores, for people to look at. Only the daemon asks: no
 * launch comes here.
 */
#ifndef COREGATE_PICTURE_H
#define COREGATE_PICTURE_H

#include "abi.h"
#include "claims.bpf.h"
#include "core.bpf.h"
#include "honour.bpf.h"
#include "idle.bpf.h"

/* A launch by nobody; what runs on its own CPU is the looker, who is not what is looked for. */
static struct need looker = { .anybody = true, .own_core = true, .by_queues = true };

/* Where it is drawn: at places that the verifier does not know, which an argument cannot have. */
static struct picture drawn;

/* Whether a core is free, as a launch of somebody else would find it. */
__noinline bool is_free_core(__u32 index, __u32 node)
{
	__u64 *walk = these_walks();
	struct walk w = {};

	if (!walk || !begin_look(&looker, node))
		return false;
	looker.taker.walk = __sync_fetch_and_add(walk, 1) + 1;
	looker.tally.source = loaded_scheduler().source;
	looker.first_core = index;
	looker.nr_cores = 1;
	w.need = &looker;
	look_from_source(&w);
	return looker.tally.total;
}

_Static_assert((int)DOING_ANSWER == SELF && (int)DOING_WORK == STRANGER &&
		       (int)DOING_OFFLINE == OFFLINE && (int)DOING_CLAIM == FIRST_SLOT,
	       "doing");

/* What is done where who_runs_on() says this. */
static __always_inline enum doing doing_of(__u32 who)
{
	return who < FIRST_SLOT ? who : FIRST_SLOT;
}

/* One CPU of a core; a function of its own, for the verifier. */
__noinline int draw_cpu(__u32 index, __u64 i)
{
	const struct core *core = core_at(looker.version, index);
	const struct claim *c;
	const struct rq *rq;
	__u32 slot;

	/* For the verifier, which must see that what is checked is the index. */
	barrier_var(i);
	if (!core || i >= CORE_CPUS_MAX)
		return 0;
	drawn.cpu[i] = core->cpu[i];
	drawn.cpu_doing[i] = doing_of(who_runs_on(core->cpu[i], &looker));
	rq = bpf_per_cpu_ptr(&runqueues, core->cpu[i]);
	slot = who_has(core->cpu[i]) - FIRST_SLOT;
	c = bpf_map_lookup_elem(&claims, &slot);
	/* Work: it shares the CPU with others. */
	if (!rq || !c || (drawn.cpu_doing[i] != DOING_CLAIM && drawn.cpu_doing[i] != DOING_WORK))
		return 0;
	drawn.cpu_doing[i] = DOING_CLAIM;
	drawn.pid[i] = rq->curr->tgid;
	drawn.rule[i] = c->rule ?: c->then.rule;
	return 0;
}

/* Draws a core. Call within an RCU read section only. */
static __always_inline void draw_core(__u32 index)
{
	const struct core *core;

	looker.version = topology.version;
	looker.own_cpu = bpf_get_smp_processor_id();
	__builtin_memset(&drawn, 0, sizeof(drawn));
	drawn.core = index;
	core = core_at(looker.version, index);
	if (!core || index >= topology.nr_cores[looker.version & 1])
		return;
	drawn.nr_cpus = core->nr_cpus;
	drawn.node = core->node;
	if (!is_free_core(index, core->node))
		drawn.doing = doing_of(who_runs_on_core(index, &looker)) ?: DOING_WORK;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		draw_cpu(index, i);
}

#endif
