/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Room: how many cores of a node a launch can have when it or a claim is confined to some cores.
 *
 * It can have so many if all claims that are still owed cores find them nevertheless. For
 * domains that lie apart or within each other, as those of cpusets do, that is so if in each set
 * of cores around the launch's own there are enough free ones for it and for the claims that are
 * confined to that set. A claim that finds no free core in its domain is not kept from one by the
 * launch, so it does not count. As many as can find one do if the smallest domains choose first: which
 * of its cores such a domain takes is all the same to those around it.
 */
#ifndef COREGATE_ROOM_H
#define COREGATE_ROOM_H

#include "claims.bpf.h"
#include "domain.bpf.h"
#include "idle.bpf.h"

/* How many sets within each other are compared; of more, the last is the node. */
#define SETS_MAX 8

/* What the claims of one domain are owed. */
struct owed {
	__u64 walk;
	__u32 cores;
	/* The last count in which they had their choice. */
	__u32 count;
};

/* By domain. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owed);
} owed SEC(".maps");

static __always_inline __u32 count_bits(__u64 word)
{
	return __builtin_popcountll(word);
}

struct counting {
	struct need *need;
	/* Cores owed to all confined claims, and how many domains these have. */
	__u32 confined;
	__u32 domains;
	/* Which count it is; how many cores those take that are confined to the set around. */
	__u32 count;
	__u32 within;
	/* The smallest domain of these that has not taken any yet: its number plus 1, and its cores. */
	__u32 first;
	__u32 fewest;
	/* The domain that adds least to that set: its number plus 1, and the cores of both. */
	__u32 next;
	__u32 size;
};

/* Adds what a claim is owed to its domain. */
static long add_owed(__u32 slot, struct counting *counting)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	const struct seen *s = bpf_map_lookup_elem(&seen, &slot);
	const struct need *n = counting->need;
	struct owed *o;
	__u32 domain, cores;

	if (!c || !s || !c->id || !c->domain || (n->taker.id && n->taker.slot == slot))
		return 0;
	cores = c->held[place(n->at)];
	if (s->walk == n->taker.walk)
		cores -= s->met;
	domain = c->domain - 1;
	o = bpf_map_lookup_elem(&owed, &domain);
	if (!o || !cores)
		return 0;
	if (o->walk != n->taker.walk) {
		o->walk = n->taker.walk;
		o->cores = 0;
		o->count = 0;
		counting->domains++;
	}
	o->cores += cores;
	counting->confined += cores;
	return 0;
}

/* Looks which domain comes first of those within the set around, and which is the next around that. */
static long visit_domain(__u32 i, struct counting *counting)
{
	const struct domain *d = bpf_map_lookup_elem(&domains, &i);
	const struct owed *o = bpf_map_lookup_elem(&owed, &i);
	const struct view *v = the_view();
	__u64 meets = 0, leaves = 0;
	__u32 cores = 0, size = 0;

	if (!d || !o || !v)
		return 1;
	if (o->walk != counting->need->taker.walk)
		return 0;
	for_each_word(w)
	{
		__u64 cpus = d->cpus.word[w] & v->node.word[w];

		cores += count_bits(cpus);
		size += count_bits(cpus | v->around.word[w]);
		meets |= cpus & v->around.word[w];
		leaves |= cpus & ~v->around.word[w];
	}
	if (!leaves && o->count != counting->count && cores < counting->fewest) {
		counting->first = i + 1;
		counting->fewest = cores;
	} else if (leaves && meets && size < counting->size) {
		counting->next = i + 1;
		counting->size = size;
	}
	return 0;
}

/* Takes one free core for the first domain. */
static long take_core(__u32 i, struct counting *counting)
{
	__u32 domain = counting->first - 1;
	const struct domain *d = bpf_map_lookup_elem(&domains, &domain);
	struct view *v = the_view();

	if (!d || !v)
		return 1;
	for_each_word(w)
	{
		__u64 cpus = d->cpus.word[w] & v->left.word[w];

		if (cpus) {
			v->left.word[w] &= ~(cpus & -cpus);
			counting->within++;
			return 0;
		}
	}
	return 1;
}

/* The claims of one domain more take what they are owed. */
static long take_cores(__u32 i, struct counting *counting)
{
	const struct ledger *l = the_ledger();
	struct owed *o;
	__u32 domain;

	counting->first = 0;
	counting->fewest = -1;
	if (l)
		bpf_loop(l->domains, visit_domain, counting, 0);
	domain = counting->first - 1;
	o = bpf_map_lookup_elem(&owed, &domain);
	if (!o)
		return 1;
	o->count = counting->count;
	bpf_loop(o->cores, take_core, counting, 0);
	return 0;
}

/* Free cores of the set around that are owed to nobody who is confined to it. */
static __always_inline __u32 room_around(struct counting *counting, struct view *v,
					 __u32 unconfined)
{
	__u32 free = 0, taken;

	counting->count++;
	counting->within = 0;
	counting->next = 0;
	counting->size = -1;
	for_each_word(w)
	{
		v->left.word[w] = v->free.word[w] & v->around.word[w];
		free += count_bits(v->left.word[w]);
	}
	bpf_loop(counting->domains, take_cores, counting, 0);
	taken = counting->within + unconfined;
	return free > taken ? free - taken : 0;
}

/* How many cores of the node that it looked at last a launch can have. */
__u32 room(struct need *n)
{
	struct counting counting = { .need = n };
	const struct ledger *l = the_ledger();
	struct view *v = the_view();
	__u32 room, here, unmet;

	if (!n || !l || !v)
		return 0;
	unmet = n->tally.held > n->tally.met ? n->tally.held - n->tally.met : 0;
	bpf_loop(l->used, add_owed, &counting, 0);
	for_each_word(w) v->around.word[w] = v->node.word[w];
	room = room_around(&counting, v, unmet - counting.confined);
	if (!n->confined)
		return room;
	for_each_word(w) v->around.word[w] &= v->allowed.word[w];
	for (__u32 i = 0; i < SETS_MAX; i++) {
		const struct domain *d;
		__u32 next;

		here = room_around(&counting, v, 0);
		room = here < room ? here : room;
		next = counting.next - 1;
		d = bpf_map_lookup_elem(&domains, &next);
		if (!d)
			break;
		for_each_word(w) v->around.word[w] |= d->cpus.word[w] & v->node.word[w];
	}
	return room;
}

struct finding {
	const struct need *need;
	/* A domain's number plus 1. */
	__u32 domain;
};

static long is_domain(__u32 i, struct finding *f)
{
	const struct domain *d = bpf_map_lookup_elem(&domains, &i);
	const struct view *v = the_view();
	__u64 differ = 0;

	if (!d || !v)
		return 1;
	for_each_word(w) differ |= d->cpus.word[w] ^ v->allowed.word[w];
	if (!differ)
		f->domain = i + 1;
	return !differ;
}

/* Marks a claim's domain as in use. */
static long mark_domain(__u32 slot, struct finding *f)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	__u32 domain = c ? c->domain - 1 : -1;
	struct owed *o = bpf_map_lookup_elem(&owed, &domain);

	if (c && c->id && o)
		o->walk = f->need->taker.walk;
	return 0;
}

static long is_unused(__u32 i, struct finding *f)
{
	const struct owed *o = bpf_map_lookup_elem(&owed, &i);

	if (!o || o->walk == f->need->taker.walk)
		return !o;
	f->domain = i + 1;
	return 1;
}

/*
 * The number plus 1 of the domain of a confined launch; 0 if there is no room for it. It may be one
 * that is in the table, or a place where it can be written.
 */
__u32 find_domain(struct need *n)
{
	struct finding f = { .need = n };
	const struct ledger *l = the_ledger();

	if (!n || !l)
		return 0;
	bpf_loop(l->domains, is_domain, &f, 0);
	if (f.domain)
		return f.domain;
	if (bpf_map_lookup_elem(&domains, &l->domains))
		return l->domains + 1;
	bpf_loop(l->used, mark_domain, &f, 0);
	bpf_loop(l->domains, is_unused, &f, 0);
	return f.domain;
}

#endif
