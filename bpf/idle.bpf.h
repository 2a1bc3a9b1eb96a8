/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which cores of a node are free, and which of those that are held their holders have: from the
 * best source that is safe to read now.
 */
#ifndef COREGATE_IDLE_H
#define COREGATE_IDLE_H

#include "abi.h"
#include "claims.bpf.h"
#include "core.bpf.h"
#include "domain.bpf.h"
#include "kernel.h"
#include "scheduler.bpf.h"
#include "topology.bpf.h"

/* What a walk has seen of a claim. */
struct seen {
	__u64 walk;
	/* The node of the core seen last, and how many whole ones there. */
	__u32 node;
	__u32 cores;
	/* Cores of the node of the walk that it has, there or in place of them elsewhere. */
	__u32 met;
	/* Cores that it is owed on nodes before that one. */
	__u32 owed;
};

/* By the claim's slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} seen SEC(".maps");

/* How many cores a claim holds on nodes before this one. */
__u32 held_before(__u32 slot, __u32 node)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	__u32 cores = 0;

	if (!c)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < NODES_MAX && i < node; i++)
		cores += c->held[i];
	return cores;
}

static __always_inline bool cpu_is_allowed(const struct task_struct *task, __u32 cpu)
{
	unsigned long word = task->cpus_mask.bits[0];

	if (cpu >= 64 &&
	    bpf_probe_read_kernel(&word, sizeof(word), &task->cpus_mask.bits[0] + cpu / 64))
		return false;
	return word >> (cpu % 64) & 1;
}

/* What a walk over cores needs. */
struct walk {
	struct need *need;
	/* NULL: read the runqueues only. */
	const struct cpumask *mask;
};

/* A core of which the task may use any thread is one that it can have. */
__noinline bool core_is_allowed(__u32 version, __u32 index)
{
	const struct task_struct *task = bpf_get_current_task_btf();
	const struct core *core = core_at(version, index);

	if (!core)
		return false;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		if (cpu_is_allowed(task, core->cpu[i]))
			return true;
	return false;
}

/* In a mask the online threads of a core are set all or none; of the others it says nothing. */
static __always_inline bool mask_has_core(const struct cpumask *mask, const struct core *core)
{
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		if (mask_has(mask, core->cpu[i]))
			return true;
	return false;
}

/*
 * A claim has a core whole. First it stands for one that the claim holds on the same node; one
 * more than these, for one on the first node where the claim has too few. So each counts once,
 * whichever nodes are looked at.
 */
static __always_inline void see_whole(struct need *n, const struct core *core, __u32 slot)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	struct seen *s = bpf_map_lookup_elem(&seen, &slot);

	if (!c || !s)
		return;
	if (s->walk != n->taker.walk) {
		s->walk = n->taker.walk;
		s->node = core->node;
		s->cores = 0;
		s->met = 0;
		s->owed = held_before(slot, n->at);
	}
	if (s->node != core->node) {
		s->node = core->node;
		s->cores = 0;
	}
	s->cores++;
	if (s->cores <= c->held[place(core->node)]) {
		if (core->node > n->at)
			return;
		if (core->node < n->at && s->owed) {
			s->owed--;
			return;
		}
	} else if (s->owed) {
		s->owed--;
		return;
	}
	if (s->met < c->held[place(n->at)]) {
		s->met++;
		n->tally.met++;
	}
}

/* What was seen becomes part of the print: which core, who, and since when. */
static __always_inline void sign(struct need *n, __u32 index, __u32 who)
{
	n->print = (n->print ^ ((__u64)index << 32 | who)) * 0x9e3779b97f4a7c15;
	n->print = (n->print ^ n->switches) * 0x9e3779b97f4a7c15;
}

static __always_inline void choose(struct need *n, __u32 index)
{
	__u32 last = n->nr_chosen++;

	/* For the verifier, which must see that what is checked is the index. */
	barrier_var(last);
	if (last < CHOSEN_MAX)
		n->chosen[last] = index;
}

/* Counts a free core. */
static __always_inline void see_free(struct need *n, const struct core *core, bool is_allowed)
{
	struct view *v = n->in_sets ? the_view() : NULL;

	n->tally.total++;
	if (is_allowed)
		n->tally.free++;
	if (v)
		add_cpu(&v->free, core->cpu[0]);
}

/* Adds a core to the sets; whether the launch may use it. */
static __always_inline bool see_allowed(const struct need *n, const struct core *core, __u32 index)
{
	struct view *v = n->in_sets ? the_view() : NULL;
	bool is_allowed = !n->confined || core_is_allowed(n->version, index);

	if (v)
		add_cpu(&v->node, core->cpu[0]);
	if (v && is_allowed)
		add_cpu(&v->allowed, core->cpu[0]);
	return is_allowed;
}

/*
 * What the mask calls busy is taken for busy at first: a task may be on its way there. What it calls free
 * is looked at: two siblings that change at the same time can leave the mask wrong until one of
 * them changes again (update_builtin_idle(), kernel/sched/ext_idle.c). The looker's own core is
 * never in it.
 */
static long visit_core(__u32 i, struct walk *w)
{
	struct need *n = w->need;
	__u32 index = n->first_core + i;
	const struct core *core = core_at(n->version, index);
	bool may_be_free, is_allowed;
	__u32 who;

	if (!core)
		return 1;
	is_allowed = !n->elsewhere && see_allowed(n, core, index);
	may_be_free = !w->mask || mask_has_core(w->mask, core);
	if (!may_be_free && !n->live && !n->own_tgid && index + 1 != n->own_index)
		return 0;
	who = who_runs_on_core(index, n);
	if (who >= FIRST_SLOT)
		see_whole(n, core, who - FIRST_SLOT);
	else if (n->elsewhere || !(who == SELF || (who == NOBODY && may_be_free)))
		return 0;
	else
		see_free(n, core, is_allowed);
	/* Without claims only free cores that it can have matter, and only as many as are missing. */
	if (!n->live) {
		if (!is_allowed || n->tally.free > n->missing)
			return 0;
		choose(n, index);
	}
	sign(n, index, who);
	return 0;
}

/*
 * Looks at cores by a mask. A program for which the kernel finds no scheduler gets the mask of no
 * CPU itself (scx_prog_sched(), kernel/sched/ext_internal.h). That does not mean that all are busy:
 * the runqueues are read.
 */
static __always_inline void look_by(const struct cpumask *mask, struct walk *w)
{
	if (mask == (const void *)&cpu_bit_bitmap)
		w->need->tally.source = SOURCE_RUNQUEUE;
	else
		w->mask = mask;
	bpf_loop(w->need->nr_cores, visit_core, w, 0);
	scx_bpf_put_idle_cpumask(mask);
}

/* Looks at cores from the source of the tally. */
static __always_inline void look_from_source(struct walk *w)
{
	struct need *n = w->need;
	enum source source = n->by_queues ? SOURCE_RUNQUEUE : n->tally.source;

	if (source == SOURCE_NODE && bpf_ksym_exists(scx_bpf_get_idle_smtmask_node)) {
		look_by(scx_bpf_get_idle_smtmask_node(n->at), w);
	} else if (source == SOURCE_FLAT && bpf_ksym_exists(scx_bpf_get_idle_smtmask)) {
		look_by(scx_bpf_get_idle_smtmask(), w);
	} else {
		bpf_loop(n->nr_cores, visit_core, w, 0);
	}
}

/* Prepares a look: whether there is such a node. */
bool begin_look(struct need *n, __u32 node_id)
{
	struct task_struct *task = bpf_get_current_task_btf();
	const struct ledger *l = the_ledger();
	struct view *v = the_view();
	const struct node *node;

	if (!n || !l || !v || node_id >= NODES_MAX)
		return false;
	node = node_at(n->version, node_id);
	if (!node || !node->nr_cores)
		return false;
	n->confined = !n->anybody && (__u32)task->nr_cpus_allowed < nr_cpu_ids;
	n->in_sets = n->confined || l->confined;
	if (n->in_sets) {
		clear(&v->node);
		clear(&v->free);
	}
	n->own_index = index_of(n->version, n->own_cpu);
	n->own_slot = NOBODY;
	if (claim_at(n->taker.slot, n->taker.id))
		n->own_slot = FIRST_SLOT + n->taker.slot;
	n->live = l->live;
	n->at = node_id;
	n->elsewhere = false;
	n->first_core = node->first_core;
	n->nr_cores = node->nr_cores;
	n->tally.free = 0;
	n->tally.total = 0;
	n->tally.met = 0;
	return true;
}

/* Whether cores of other nodes matter: who is owed one here may have one there. */
bool must_look_elsewhere(struct need *n)
{
	const struct ledger *l = the_ledger();
	const struct claim *own;
	__u32 want;

	if (!n || !l)
		return false;
	n->tally.held = l->held[place(n->at)];
	own = claim_at(n->taker.slot, n->taker.id);
	if (own)
		n->tally.held -= own->held[place(n->at)];
	if (n->tally.held <= n->tally.met)
		return false;
	want = n->scope == SCOPE_SPREAD && n->tally.free < n->missing ? n->tally.free : n->missing;
	if (!want || n->tally.free < want)
		return false;
	return l->confined || n->tally.total < want + n->tally.held - n->tally.met;
}

/*
 * Looks how a node stands for a launch: whether the daemon knows it. Its tally then has the numbers,
 * and its print is more by what was seen. Call within an RCU read section only, and between
 * begin_judging() and end_judging(). A verdict may rest on what it says only if has_moved() says no
 * afterwards.
 */
bool look_at(struct need *n, __u32 node_id)
{
	struct walk w = { .need = n };
	__u64 *walk = these_walks();
	struct scheduler sched;

	if (!n || !walk || !begin_look(n, node_id))
		return false;
	n->taker.walk = __sync_fetch_and_add(walk, 1) + 1;
	n->taker.expected++;
	sched = loaded_scheduler();
	n->tally.source = sched.source;
	n->tally.companion = sched.companion;
	look_from_source(&w);
	if (must_look_elsewhere(n)) {
		__u32 next = n->first_core + n->nr_cores;

		w.mask = NULL;
		n->elsewhere = true;
		n->nr_cores = n->first_core;
		n->first_core = 0;
		bpf_loop(n->nr_cores, visit_core, &w, 0);
		n->first_core = next;
		bpf_loop(topology.nr_cores[n->version & 1] - next, visit_core, &w, 0);
	}
	return true;
}

#endif
