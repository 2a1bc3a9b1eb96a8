/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a rule's need to a verdict: which cores of its scope are free and owed to nobody, and
 * the claim on them.
 */
#ifndef COREGATE_NEED_H
#define COREGATE_NEED_H

#include "abi.h"
#include "claims.bpf.h"
#include "idle.bpf.h"
#include "kernel.h"
#include "room.bpf.h"
#include "strings.bpf.h"

/* How often a launch looks again when something moves meanwhile. */
#define ATTEMPTS 64

static __always_inline __u64 ticket_of(const struct ledger *l)
{
	return *(const volatile __u64 *)&l->ticket;
}

/* Takes so many cores of a node into what the launch wants. */
static __always_inline void want(struct need *n, __u32 node, __u32 cores)
{
	struct parts *parts = &n->taker.wants.parts;
	__u32 i = parts->nr;

	if (i >= PARTS_MAX)
		return;
	parts->part[i].node = node;
	parts->part[i].cores = cores;
	parts->nr = i + 1;
	n->missing -= cores;
}

/*
 * How many more cores of the node that it looked at last a launch can hold. The companion keeps some
 * open to all: who is promised one of these would share it.
 */
static __always_inline __u32 can_hold(const struct need *n)
{
	const struct settings *s = &settings[n->half & 1];
	const struct holding *wants = &n->taker.wants;
	const struct node *node = node_at(n->version, n->at);
	__u32 open, most;

	if (!n->tally.companion || !wants->holds || wants->isolation == ISOLATION_NONE || !node)
		return -1;
	open = s->open_cores + (node->nr_cores * s->open_percent + 99) / 100;
	most = node->nr_cores > open ? node->nr_cores - open : 0;
	return most > n->tally.held ? most - n->tally.held : 0;
}

/* Looks for cores on one node. */
__noinline int weigh(struct need *n, __u32 node)
{
	const struct ledger *l = the_ledger();
	__u32 unmet, spare, cores, free;
	const struct tally *t;

	if (!n || !l || !look_at(n, node))
		return 0;
	t = &n->tally;
	unmet = t->held > t->met ? t->held - t->met : 0;
	spare = t->total > unmet ? t->total - unmet : 0;
	if (unmet && l->confined)
		spare = room(n);
	free = can_hold(n);
	free = t->free < free ? t->free : free;
	cores = spare < free ? spare : free;
	n->source = t->source;
	if (n->scope == SCOPE_SPREAD) {
		n->free += free;
		n->unmet += unmet;
	} else if (!n->seen || free + n->unmet > n->free + unmet) {
		n->free = free;
		n->unmet = unmet;
		n->node = node;
	}
	n->seen = true;
	if (cores >= n->missing)
		want(n, node, n->missing);
	else if (cores && n->scope == SCOPE_SPREAD)
		want(n, node, cores);
	return 0;
}

struct search {
	struct need *need;
	/* Whose the claim will be. */
	struct holder *holder;
};

/* The caller's node comes first. */
static long weigh_next(__u32 i, struct search *s)
{
	struct need *n = s->need;
	__u32 node = n->home + i;

	if (node >= nr_nodes)
		node -= nr_nodes;
	if (node >= NODES_MAX || !(n->nodes >> node & 1))
		return 0;
	weigh(n, node);
	return !n->missing;
}

/*
 * Whether the cores that suffice are still as they were seen. While nobody holds a claim nothing else
 * matters, so there is no need to look at the others again.
 */
__noinline int is_confirmed(struct need *n)
{
	__u64 print;

	if (!n || n->live || n->missing || n->nr_chosen > CHOSEN_MAX)
		return false;
	print = n->print;
	n->print = 0;
#pragma unroll 1
	for (__u32 i = 0; i < CHOSEN_MAX && i < n->nr_chosen; i++)
		sign(n, n->chosen[i], who_runs_on_core(n->chosen[i], n));
	return n->print == print;
}

/*
 * Looks, and takes; whether that is settled. Cores are seen one after the other, so a task that
 * moves may be seen on two of them or on none. What two looks have seen alike was so at the moment
 * between them, all of it at once.
 */
static long attempt(__u32 i, struct search *s)
{
	struct need *n = s->need;
	struct ledger *l = the_ledger();
	__u64 before = n->print, ticket = n->taker.ticket;
	const struct rq *rq = this_rq();
	__u64 *walk = these_walks();
	struct view *v = the_view();
	bool holds;

	if (!l || !v || !rq || !walk)
		return 1;
	/* First of all: what this CPU keeps may be another launch's look until now. */
	n->taker.turns = *(const volatile __u64 *)&rq->nr_switches;
	n->taker.expected = __sync_fetch_and_add(walk, 1) + 1;
	n->version = topology.version;
	/* The daemon read the topology before a CPU came that it does not know. */
	if (newcomers != topology.newcomers || !index_of(n->version, n->own_cpu))
		return 1;
	n->taker.ticket = ticket_of(l);
	n->taker.wants.parts.nr = 0;
	n->missing = n->cores;
	n->node = n->home;
	n->free = 0;
	n->unmet = 0;
	n->seen = false;
	n->print = 0;
	n->nr_chosen = 0;
	clear(&v->allowed);

	if (n->scope == SCOPE_NODE)
		weigh(n, n->home);
	else
		bpf_loop(nr_nodes, weigh_next, s, 0);
	if (n->version != topology.version)
		return 0;
	if ((!i || n->print != before || n->taker.ticket != ticket) && !is_confirmed(n))
		return 0;
	holds = n->taker.wants.holds;
	if (n->missing || n->rehearsed || (!holds && !n->taker.id)) {
		if (is_late(l, &n->taker))
			return 0;
		/*
		 * A scheduler can take an idle CPU out of the mask and then not use it, which
		 * brings it back only when it has been busy. So nobody is denied by a mask alone.
		 */
		if (n->missing && !n->by_queues && n->source != SOURCE_RUNQUEUE) {
			n->by_queues = true;
			return 0;
		}
		n->verdict = n->missing ? VERDICT_DENY : VERDICT_ADMIT;
		return 1;
	}
	if (!holds)
		n->taker.wants.parts.nr = 0;
	n->taker.domain = 0;
	if (n->confined && nr_cpu_ids <= CPUS_MAX)
		n->taker.domain = find_domain(n);
	switch (take(&n->taker, s->holder)) {
	case TAKEN:
		n->verdict = VERDICT_ADMIT;
		return 1;
	case TAKEN_FULL:
		__sync_fetch_and_add(&kept.failures.claims_full, 1);
		return 1;
	default:
		return 0;
	}
}

/* Comes to a verdict, and takes the claim of an admitted launch; its id is in the taker. */
static __always_inline void meet(struct need *n, struct holder *holder)
{
	struct search s = { .need = n, .holder = holder };
	__u64 *walk;

	n->verdict = VERDICT_UNKNOWN;
	walk = begin_judging();
	if (bpf_loop(ATTEMPTS, attempt, &s, 0) >= ATTEMPTS)
		__sync_fetch_and_add(&kept.failures.claims_contended, 1);
	end_judging(walk);
}

#endif
