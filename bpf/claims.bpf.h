/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Claims: the cores that admitted launches hold until they are gone. All of it happens in the
 * kernel; the daemon is not needed for any of it.
 *
 * One ledger says how many cores of each node are held. Each change of it advances its ticket.
 * A launch reads the ticket, then looks at the cores without a lock, and then takes its claim
 * under the lock, but only if the ticket is still the one that it read: so what it saw and what
 * is held belong together, and of two launches that see the same free core one has to look
 * again. A launch that is denied never held anything, so it stood in nobody's way.
 */
#ifndef COREGATE_CLAIMS_H
#define COREGATE_CLAIMS_H

#include "abi.h"
#include "counts.bpf.h"
#include "domain.bpf.h"
#include "kernel.h"
#include "launch.bpf.h"

/* The daemon makes room for one claim per core, as each holds one at least, and one per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct claim);
} claims SEC(".maps");

/* Apart from what it protects: that is also read by a program that may sleep, and so may not lock. */
struct lock {
	struct bpf_spin_lock lock;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lock);
} locks SEC(".maps");

_Static_assert(__builtin_offsetof(struct claim, id) == 0, "claim_head");
_Static_assert(__builtin_offsetof(struct claim, rule) == 8, "claim_head");
_Static_assert(__builtin_offsetof(struct claim, since) == 16, "claim_head");
_Static_assert(__builtin_offsetof(struct claim, pid) == 24, "claim_head");

struct ledger {
	/* The first free slot plus 1, and how many slots were ever used. */
	__u32 free;
	__u32 used;
	__u32 live;
	/* Live claims with a domain, and domains that were ever used. */
	__u32 confined;
	__u32 domains;
	__u32 pad;
	__u64 ticket;
	__u32 held[NODES_MAX];
	/* See honour.bpf.h. */
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ledger);
} ledgers SEC(".maps");

/* What the daemon is to log: struct event, struct detailed_event, struct claim_end. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

/*
 * How many walks began on this CPU: each has a stamp of its own. Above them, in steps of JUDGING, how many
 * launches are being judged there: one, and those that it has preempted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} walks SEC(".maps");

/* Rings when a claim ends, while somebody waits for that: the daemon says so. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} bell SEC(".maps");

__u32 awaited;

/* When it is full it has been rung, and not been heard yet. */
static __always_inline void ring(void)
{
	if (awaited)
		bpf_ringbuf_output(&bell, &awaited, sizeof(awaited), 0);
}

static __always_inline const struct rq *this_rq(void)
{
	return bpf_per_cpu_ptr(&runqueues, bpf_get_smp_processor_id());
}

#define JUDGING (1ULL << 48)

static __always_inline __u64 *these_walks(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&walks, &key);
}

/* What a CPU keeps of looks is written between these two only; the first returns what the second takes. */
static __always_inline __u64 *begin_judging(void)
{
	__u64 *walk = these_walks();

	if (walk)
		__sync_fetch_and_add(walk, JUDGING);
	return walk;
}

static __always_inline void end_judging(__u64 *walk)
{
	if (walk)
		__sync_fetch_and_add(walk, -JUDGING);
}

static __always_inline struct ledger *the_ledger(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&ledgers, &key);
}

static __always_inline struct bpf_spin_lock *the_lock(void)
{
	__u32 key = 0;
	struct lock *lock = bpf_map_lookup_elem(&locks, &key);

	return lock ? &lock->lock : NULL;
}

/* Whether there are claims; where not, no task need be asked for its own. */
static __always_inline bool any_claims(void)
{
	const struct ledger *l = the_ledger();

	return l && l->live;
}

/* A claim that is still the one of this id, else NULL. */
static __always_inline struct claim *claim_at(__u32 slot, __u64 id)
{
	struct claim *c = id ? bpf_map_lookup_elem(&claims, &slot) : NULL;

	return c && c->id == id ? c : NULL;
}

/* A node's place in an array; the compiler may not know what the verifier must see. */
static __always_inline __u32 place(__u32 node)
{
	barrier_var(node);
	return node & (NODES_MAX - 1);
}

/*
 * What follows, up to take(), is called under the lock.
 */

/* Sets what the ledger counts for a claim on one node. */
static __always_inline void hold(struct ledger *l, struct claim *c, __u32 node, __u16 cores)
{
	node = place(node);
	l->held[node] += cores - c->held[node];
	c->held[node] = cores;
}

static __always_inline void hold_none(struct ledger *l, struct claim *c, const struct parts *parts)
{
	for (__u32 i = 0; i < PARTS_MAX && i < parts->nr; i++)
		hold(l, c, parts->part[i].node, 0);
}

static __always_inline void hold_all(struct ledger *l, struct claim *c, const struct parts *parts)
{
	for (__u32 i = 0; i < PARTS_MAX && i < parts->nr; i++)
		if (parts->part[i].cores > c->held[place(parts->part[i].node)])
			hold(l, c, parts->part[i].node, parts->part[i].cores);
}

/*
 * Says that the ledger has changed. It comes last: who reads the ticket without the lock must not
 * see it before the change.
 */
static __always_inline void advance(struct ledger *l)
{
	__sync_fetch_and_add(&l->ticket, 1);
}

static __always_inline void drop(struct ledger *l, struct claim *c, __u32 slot)
{
	hold_none(l, c, &c->now.parts);
	hold_none(l, c, &c->then.parts);
	c->now.parts.nr = 0;
	c->then.parts.nr = 0;
	l->confined -= !!c->domain;
	c->domain = 0;
	c->id = 0;
	c->rule = 0;
	c->until = 0;
	c->next = l->free;
	l->free = slot + 1;
	l->live--;
	advance(l);
}

enum taken {
	TAKEN,
	/* It has to look again: see has_moved(). */
	TAKEN_LATE,
	/* All slots are in use. */
	TAKEN_FULL,
};

/*
 * Whether the ledger has changed since the ticket was read, or another launch may have written where
 * this one keeps what it sees: hooks can be preempted. None has if nothing else has run on the CPU, or
 * if no walk has begun there since and no launch was under way before. Only under the lock is the first
 * known: within a section of another the ledger has changed already, and the ticket has not.
 */
static __always_inline bool has_moved(const struct ledger *l, const struct taker *t,
				      const struct rq *rq, const __u64 *walk)
{
	bool is_alone = *walk == t->expected && t->expected / JUDGING == 1;

	return l->ticket != t->ticket || (rq->nr_switches != t->turns && !is_alone);
}

/* The same for a launch that takes no claim. */
static __always_inline bool is_late(const struct ledger *l, const struct taker *t)
{
	struct bpf_spin_lock *lock = the_lock();
	const __u64 *walk = these_walks();
	const struct rq *rq = this_rq();
	bool late;

	if (!lock || !walk || !rq)
		return true;
	bpf_spin_lock(lock);
	late = has_moved(l, t, rq, walk);
	bpf_spin_unlock(lock);
	return late;
}

/*
 * Takes a claim, or makes more of the one there is: for all parts at once. The holder is known as
 * one from the same moment on, or what it runs on would not count as its own.
 */
enum taken take(struct taker *t, struct holder *h)
{
	struct ledger *l = the_ledger();
	__u32 slot = !l || !t ? 0 : t->id ? t->slot : l->free ? l->free - 1 : l->used;
	__u32 domain = t ? t->domain - 1 : 0;
	struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	struct domain *d = bpf_map_lookup_elem(&domains, &domain);
	struct bpf_spin_lock *lock = the_lock();
	const __u64 *walk = these_walks();
	const struct view *v = the_view();
	const struct rq *rq = this_rq();
	bool late;

	if (!l || !t || !h || !c || !lock || !walk || !v || !rq || (t->domain && !d))
		return TAKEN_FULL;
	bpf_spin_lock(lock);
	late = has_moved(l, t, rq, walk);
	if (!late) {
		if (!t->id) {
			if (l->free)
				l->free = c->next;
			else
				l->used++;
			l->live++;
			t->id = l->ticket + 1;
			t->slot = slot;
			c->id = t->id;
			c->since = t->since;
			c->pid = t->pid;
			c->honour = (struct honour){};
		}
		if (d)
			d->cpus = v->allowed;
		if (t->domain > l->domains)
			l->domains = t->domain;
		l->confined += !!t->domain - !!c->domain;
		c->domain = t->domain;
		hold_all(l, c, &t->wants.parts);
		if (t->exec) {
			c->then = t->wants;
			h->exec_slot = t->slot;
			h->exec_id = t->id;
		} else {
			c->now = t->wants;
			c->rule = t->wants.rule;
			h->slot = t->slot;
			h->id = t->id;
		}
		advance(l);
	}
	bpf_spin_unlock(lock);
	return late ? TAKEN_LATE : TAKEN;
}

/* What there is to say of a claim that ends; under the lock. */
static __always_inline void note_end(struct claim_end *end, const struct claim *c)
{
	end->since = c->since;
	end->rule_key = c->rule;
	end->pid = c->pid;
	end->honour = c->honour;
}

/* Says it. */
static __noinline int tell_end(struct claim_end *end)
{
	if (end && end->rule_key && end->time - end->since >= CLAIM_TOLD_NS &&
	    bpf_ringbuf_output(&events, end, sizeof(*end), 0))
		__sync_fetch_and_add(&kept.failures.events_lost, 1);
	return 0;
}

/* Ends the claim in a slot, if it is still this one. */
static __noinline int release(__u32 slot, __u64 id)
{
	struct claim_end end = { .time = bpf_ktime_get_boot_ns() };
	struct claim *c = claim_at(slot, id);
	struct bpf_spin_lock *lock = the_lock();
	struct ledger *l = the_ledger();

	if (!c || !l || !lock)
		return 0;
	bpf_spin_lock(lock);
	if (c->id == id) {
		note_end(&end, c);
		drop(l, c, slot);
	}
	bpf_spin_unlock(lock);
	ring();
	tell_end(&end);
	return 0;
}

/* A claim's time is over, unless its slot has another one by now. */
static int on_timer(void *map, __u32 *slot, struct claim *c)
{
	__u64 id = c->id, until = c->until;

	if (until && bpf_ktime_get_ns() >= until)
		release(*slot, id);
	return 0;
}

/* A claim is its program's from now on. */
static __always_inline void begin(struct claim *c)
{
	__u64 ns = c->now.settle_ns;

	if (!ns)
		return;
	c->until = bpf_ktime_get_ns() + ns;
	bpf_timer_init(&c->timer, &claims, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&c->timer, on_timer);
	if (bpf_timer_start(&c->timer, ns, 0))
		__sync_fetch_and_add(&kept.failures.timers_lost, 1);
}

static __always_inline void begin_at(__u32 slot, __u64 id)
{
	struct claim *c = claim_at(slot, id);

	if (c)
		begin(c);
}

/*
 * The exec that a task was in has ended: if it is done, the claim is the new program's, else
 * what it was before.
 */
static __always_inline void end_exec(struct holder *h, bool done)
{
	__u32 slot = h->exec_slot;
	struct claim *c = claim_at(slot, h->exec_id);
	struct bpf_spin_lock *lock = the_lock();
	struct ledger *l = the_ledger();
	__u64 id = h->exec_id;
	bool begins = false, less = false;
	struct claim_end end = { .time = bpf_ktime_get_boot_ns() };

	if (!c || !l || !lock) {
		h->exec_id = 0;
		return;
	}
	bpf_spin_lock(lock);
	if (c->id == id) {
		less = !done || c->now.parts.nr;
		hold_none(l, c, &c->now.parts);
		hold_none(l, c, &c->then.parts);
		if (done) {
			note_end(&end, c);
			c->now = c->then;
			c->since = end.time;
			c->rule = c->now.rule;
			c->honour = (struct honour){};
			c->until = 0;
			h->id = id;
			h->slot = slot;
			h->process = true;
			h->thread = false;
		}
		c->then.parts.nr = 0;
		hold_all(l, c, &c->now.parts);
		begins = done && c->now.parts.nr;
		if (c->now.parts.nr)
			advance(l);
		else
			drop(l, c, slot);
	}
	h->exec_id = 0;
	bpf_spin_unlock(lock);
	if (begins)
		begin(c);
	if (less)
		ring();
	tell_end(&end);
}

/* A task is gone: its own claim is too, its process's with the last one, and the exec's. */
static __always_inline void end_task(struct task_struct *task)
{
	struct holder *h = holder_of(task);

	if (!h)
		return;
	if (h->exec_id)
		end_exec(h, false);
	if (h->thread || (h->process && !task->signal->live.counter))
		release(h->slot, h->id);
}

/*
 * A task never was: its fork failed after the verdict. What it points to may be its parent's, or
 * freed, so its signal_struct says nothing (bad_fork_cleanup_security, kernel/fork.c).
 */
static __always_inline void end_unborn(struct task_struct *task)
{
	struct holder *h = holder_of(task);

	if (h && h->newborn)
		release(h->slot, h->id);
}

/* A task's child runs for the same claim, and has it too if it is of the same process. */
static __always_inline void inherit(struct task_struct *parent, struct task_struct *child,
				    bool same_process)
{
	struct holder *h = holder_of(parent), *heir;

	if (!h || !claim_at(h->slot, h->id))
		return;
	heir = made_holder_of(child);
	/* It may have one of its own, by a gate that is just being replaced. */
	if (!heir || heir->newborn)
		return;
	heir->id = h->id;
	heir->slot = h->slot;
	heir->process = h->process && same_process;
}

#endif
