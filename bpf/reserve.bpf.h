/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reservations: a core is one claim's while a thread of it runs there, is on its way there, or
 * went to sleep there not longer ago than the claim's rule says. It is taken by one exchange when
 * such a thread wakes, not when it runs, so nothing that comes in between opens the core again.
 *
 * A reservation is first published, and then whoever runs beside it is sent away; whoever begins
 * to run looks whether there is one. So one of the two sees the other.
 *
 * On each node some cores stay open to all: else its queue, and with it kernel threads that may run
 * nowhere else, would be served by nobody.
 */
#ifndef COREGATE_RESERVE_BPF_H
#define COREGATE_RESERVE_BPF_H

#include "held_back.bpf.h"
#include "places.bpf.h"
#include "claim.h"

/* How long a core is kept for a thread that is on its way there, in ns. */
#define ON_ITS_WAY_NS 20000000ULL
/* What an owner is while the reservation is being undone. */
#define LEAVING (~0ULL)

/* The gate's, if it is pinned; else nobody holds anything. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct claim);
} claims SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct holder);
} holders SEC(".maps");

/* By a core's first CPU: ends its reservation. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct alarm);
} alarms SEC(".maps");

/* Room for a mask. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpumask);
} masks SEC(".maps");

/* By node: how many of its cores have to stay open to all; the loader sets it. */
const volatile __u32 open_cores[NODES_MAX] = { 1 };

/* Cores, and their CPUs. */
struct cores {
	__u64 count;
	struct cpumask cpus;
};

/* Reserved ones; those of them that others may not even use as a last resort. */
struct cores reserved;
struct cores shut;

/* The claim that a task runs for, and its slot. */
static struct claim *held_claim(struct task_struct *p, __u32 *slot)
{
	struct holder *h = bpf_task_storage_get(&holders, p, NULL, 0);
	struct claim *c;

	if (!h || !h->id)
		return NULL;
	*slot = h->slot;
	c = bpf_map_lookup_elem(&claims, slot);
	return c && c->id == h->id ? c : NULL;
}

/* The same, if the companion is to do something about it. */
static struct claim *claim_of(struct task_struct *p, __u32 *slot)
{
	struct claim *c = held_claim(p, slot);

	return c && c->now.isolation != ISOLATION_NONE ? c : NULL;
}

/* The first CPU of a CPU's core, which stands for the core; NULL: the CPU is offline. */
static struct cpu *core_of(const struct cpu *c)
{
	return c->threads ? cpu_of(c->thread[0]) : NULL;
}

/* Whether a CPU is one of a reserved core: it does not look into its own queue, nor its node's. */
static bool is_reserved(__s32 cpu)
{
	struct cpu *c = cpu_of(cpu), *core = c ? core_of(c) : NULL;

	return core && core->owner;
}

/*
 * From here on, functions that are not static are verified once each, on their own, and not for each
 * state that each of their callers can be in. They take numbers: a core is known by its first CPU.
 */

/* Whether a task of the claim runs on the core. */
__noinline int runs_for(__u32 leader, __u64 id)
{
	struct cpu *core = cpu_of(leader), *c;
	int found = 0;
	__u32 i;

	if (!core)
		return 0;
	for (i = 0; i < MAX_THREADS && i < core->threads; i++) {
		c = cpu_of(core->thread[i]);
		if (c && c->runs_for == id)
			found = 1;
	}
	return found;
}

/* The claim that a core is reserved for, or 0. */
static __u64 owner_of(const struct cpu *core, __u64 now)
{
	__u64 owner = core->owner;

	if (!owner || owner == LEAVING)
		return 0;
	return before(now, core->until) || runs_for(core->thread[0], owner) ? owner : 0;
}

/* Takes a core in among the reserved ones, or the shut ones, or out of them. */
__noinline int mark(__u32 leader, bool in_shut, bool on)
{
	struct cores *cores = in_shut ? &shut : &reserved;
	struct cpu *core = cpu_of(leader);
	__u32 i;

	if (!core)
		return 0;
	for (i = 0; i < MAX_THREADS && i < core->threads; i++) {
		__u32 cpu = core->thread[i], word = cpu / 64 % (MAX_CPUS / 64);
		__u64 bit = 1ULL << cpu % 64;

		if (on)
			__sync_fetch_and_or(&cores->cpus.bits[word], bit);
		else
			__sync_fetch_and_and(&cores->cpus.bits[word], ~bit);
	}
	__sync_fetch_and_add(&cores->count, on ? 1 : -1);
	return 0;
}

__noinline int kick_all(__u32 leader, __u64 flags)
{
	struct cpu *core = cpu_of(leader);
	__u32 i;

	if (!core)
		return 0;
	for (i = 0; i < MAX_THREADS && i < core->threads; i++)
		scx_bpf_kick_cpu(core->thread[i], flags);
	return 0;
}

/* Sends away what is not the claim's from its core's threads. */
__noinline int clear_core(__u32 leader)
{
	struct cpu *core = cpu_of(leader), *c;
	__u32 i;

	if (!core)
		return 0;
	for (i = 0; i < MAX_THREADS && i < core->threads; i++) {
		c = cpu_of(core->thread[i]);
		if (c && c->runs_other && !c->runs_guest)
			scx_bpf_kick_cpu(core->thread[i], KICK(PREEMPT));
	}
	return 0;
}

/* Looks after the reservation at its end, at the latest. */
static void set_alarm(struct cpu *core, __u64 ns)
{
	__u32 key = core->thread[0];
	struct alarm *a = bpf_map_lookup_elem(&alarms, &key);

	if (a && !__sync_lock_test_and_set(&core->alarmed, 1))
		bpf_timer_start(&a->timer, ns, 0);
}

/* Ends a reservation, if it is still this one, and lets its CPUs look for something to do. */
__noinline int release_core(__u32 leader, __u64 owner)
{
	struct cpu *core = cpu_of(leader);
	struct node *n = core ? node_of(core->node) : NULL;

	if (!n || __sync_val_compare_and_swap(&core->owner, owner, LEAVING) != owner)
		return 0;
	mark(leader, false, false);
	if (core->shut)
		mark(leader, true, false);
	__sync_fetch_and_sub(&n->reserved, 1);
	__sync_lock_test_and_set(&core->owner, 0);
	kick_all(leader, KICK(IDLE));
	return 0;
}

static int on_alarm(void *map, __u32 *key, struct alarm *a)
{
	__u32 leader = *key;
	struct cpu *core = cpu_of(leader);
	__u64 now = scx_bpf_now(), owner, until;

	if (!core)
		return 0;
	/* First: whoever stops from now on sets it anew. */
	__sync_lock_test_and_set(&core->alarmed, 0);
	owner = core->owner;
	until = core->until;
	if (!owner || owner == LEAVING || runs_for(leader, owner))
		return 0;
	if (before(now, until))
		set_alarm(core, until - now);
	else
		release_core(leader, owner);
	return 0;
}

/*
 * Guests: tasks that may run on CPUs of reserved cores only, but kernel threads of a CPU. They would
 * wait without end, so each such CPU has some of them for a short turn each now and then.
 */
#define GUEST_AFTER_NS 100000000ULL
/* Each so many that wait are one turn more: so they wait for 2 s at most, and not for the watchdog. */
#define GUESTS_PER_TURN 16

/* One element: the round that looks for guests. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct alarm);
} rounds SEC(".maps");

__u32 round_set;
/* A core was reserved since the last round. */
__u32 round_again;

static void set_round(void)
{
	__u32 zero = 0;
	struct alarm *a = bpf_map_lookup_elem(&rounds, &zero);

	if (a && !__sync_lock_test_and_set(&round_set, 1))
		bpf_timer_start(&a->timer, GUEST_AFTER_NS, 0);
}

/* A task waits for a CPU. */
static void expect_guest(__s32 cpu)
{
	if (is_reserved(cpu))
		set_round();
}

/*
 * A core was reserved; tasks may be waiting for its CPUs. One that is being queued just now did not
 * see that, and is in the queue a little later only: hence a whole round after this.
 */
static void expect_guests(void)
{
	__sync_lock_test_and_set(&round_again, 1);
	set_round();
}

static int on_round(void *map, __u32 *key, struct alarm *a)
{
	int i;

	__sync_lock_test_and_set(&round_set, 0);
	if (__sync_lock_test_and_set(&round_again, 0))
		set_round();
	bpf_for(i, 0, nr_cpus) {
		struct cpu *c = cpu_of(i);

		if (!c || !is_reserved(i) || !scx_bpf_dsq_nr_queued(i))
			continue;
		c->guest_due = 1 + (__u32)scx_bpf_dsq_nr_queued(i) / GUESTS_PER_TURN;
		scx_bpf_kick_cpu(i, KICK(PREEMPT));
		set_round();
	}
	return 0;
}

/* Whether one more core of the node may be reserved. */
static bool may_reserve(const struct node *n)
{
	return n->reserved + n->open < n->cores;
}

static bool has_room(const struct cpu *core)
{
	const struct node *n = node_of(core->node);

	return n && may_reserve(n);
}

/* Reserves a core for the claim in a slot; whether that was done. */
__noinline int reserve_core(__u32 leader, __u32 slot)
{
	struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	struct cpu *core = cpu_of(leader);
	struct node *n = core ? node_of(core->node) : NULL;
	__u64 now = scx_bpf_now(), id;

	if (!c || !n)
		return 0;
	id = c->id;
	if (!id || core->owner || !may_reserve(n))
		return 0;
	if (__sync_fetch_and_add(&n->reserved, 1) + n->open >= n->cores) {
		__sync_fetch_and_sub(&n->reserved, 1);
		return 0;
	}
	core->until = now + ON_ITS_WAY_NS;
	if (__sync_val_compare_and_swap(&core->owner, 0, id)) {
		__sync_fetch_and_sub(&n->reserved, 1);
		return 0;
	}
	core->keep_ns = c->now.keep_ns;
	core->shut = c->now.isolation == ISOLATION_STRICT;
	mark(leader, false, true);
	if (core->shut)
		mark(leader, true, true);
	set_alarm(core, ON_ITS_WAY_NS);
	clear_core(leader);
	expect_guests();
	return 1;
}

/* How many cores are reserved for a claim. */
__noinline int cores_of(__u64 id)
{
	int cores = 0, i;

	bpf_for(i, 0, nr_cpus) {
		struct cpu *core = cpu_of(i);

		if (core && core->owner == id)
			cores++;
	}
	return cores;
}

/* The first core from this CPU on that is reserved for a claim, or less than 0. */
__noinline int next_core_of(__u64 id, __s32 from)
{
	int i;

	bpf_for(i, from, nr_cpus) {
		struct cpu *core = cpu_of(i);

		if (core && core->owner == id)
			return i;
	}
	return -1;
}

/* The first core of a node from this CPU on that is reserved for nobody, or less than 0. */
__noinline int next_open_core(__u32 node, __s32 from)
{
	int i;

	bpf_for(i, from, nr_cpus) {
		struct cpu *core = cpu_of(i);

		if (core && core->node == node && core->threads && core->thread[0] == (__u32)i &&
		    !core->owner)
			return i;
	}
	return -1;
}

static __s32 cores_claimed(const struct claim *c)
{
	__s32 cores = 0;
	__u32 i;

	for (i = 0; i < PARTS_MAX && i < c->now.parts.nr; i++)
		cores += c->now.parts.part[i].cores;
	return cores;
}

/*
 * The CPUs that are open to a task of no claim. @last_resort: those of reserved cores that are not
 * shut, too.
 */
static const struct cpumask *open_cpus(const struct task_struct *p, bool last_resort)
{
	const struct cores *away = last_resort ? &shut : &reserved;
	__u32 zero = 0;
	int words = ((__u32)nr_cpus + 63) / 64;
	struct cpumask *open;
	int i;

	if (!away->count)
		return p->cpus_ptr;
	open = bpf_map_lookup_elem(&masks, &zero);
	if (!open || words < 1 || words > MAX_CPUS / 64 ||
	    bpf_probe_read_kernel(open, words * sizeof(open->bits[0]), p->cpus_ptr))
		return p->cpus_ptr;
	bpf_for(i, 0, words) {
		__u32 word = (__u32)i % (MAX_CPUS / 64);

		open->bits[word] &= ~away->cpus.bits[word];
	}
	return open;
}

/* A CPU of the core where a thread of its claim can run at once, or less than 0. */
__noinline int room_on(struct task_struct *p __arg_trusted, __u32 leader, __s32 prev, bool wakes)
{
	struct cpu *core = cpu_of(leader), *c = cpu_of(prev);
	bool stays = must_stay(p);
	int found = -EBUSY;
	__u32 i;

	if (!core || !c)
		return found;
	if (c->threads && c->thread[0] == leader && mask_has(p->cpus_ptr, prev) && claim_idle(prev))
		return prev;
	for (i = 0; i < MAX_THREADS && i < core->threads; i++) {
		__s32 cpu = core->thread[i];

		c = cpu_of(cpu);
		if (!c || !mask_has(p->cpus_ptr, cpu) || (stays && cpu != prev))
			continue;
		if (!stays && claim_idle(cpu))
			return cpu;
		/* Busy with something of others, or with a change of tasks. */
		if (wakes && !c->runs_for && (found < 0 || cpu == prev))
			found = cpu;
	}
	return found;
}

static bool may_use(struct task_struct *p, const struct cpu *core)
{
	bool found = false;
	__u32 i;

	for (i = 0; i < MAX_THREADS && i < core->threads; i++)
		found |= mask_has(p->cpus_ptr, core->thread[i]);
	return found;
}

/* Reserves a core of a node: a whole idle one, else one that others use. A CPU of it, or less than 0. */
__noinline int take_core_of(struct task_struct *p __arg_trusted, __u32 slot, __u32 node, __s32 prev)
{
	struct node *n = node < (__u32)nr_nodes ? node_of(node) : NULL;
	struct cpu *c, *core;
	__s32 cpu, leader;
	int i;

	if (!n || !may_reserve(n))
		return -EBUSY;
	cpu = scx_bpf_pick_idle_cpu_node(open_cpus(p, false), node, PICK(CORE) | PICK(IN_NODE));
	if (cpu >= 0) {
		c = cpu_of(cpu);
		if (c && c->threads && reserve_core(c->thread[0], slot))
			return cpu;
		/* Its mark as idle comes back when it goes idle anew. */
		scx_bpf_kick_cpu(cpu, 0);
	}
	c = cpu_of(prev);
	if (c && c->node == node && c->threads && mask_has(p->cpus_ptr, prev) &&
	    reserve_core(c->thread[0], slot))
		return room_on(p, c->thread[0], prev, true);
	leader = -1;
	bpf_for(i, 0, nr_cpus) {
		leader = next_open_core(node, leader + 1);
		if (leader < 0)
			break;
		core = cpu_of(leader);
		if (core && may_use(p, core) && reserve_core(leader, slot))
			return room_on(p, leader, prev, true);
	}
	return -EBUSY;
}

static __s32 take_core(struct task_struct *p, const struct claim *c, __u32 slot, __s32 prev)
{
	__s32 cpu = -EBUSY;
	__u32 i;

	for (i = 0; i < PARTS_MAX && i < c->now.parts.nr && cpu < 0; i++)
		cpu = take_core_of(p, slot, c->now.parts.part[i].node, prev);
	return cpu;
}

/* One of the claim's other cores where none of its threads runs: a CPU there, or less than 0. */
__noinline int spare_core(struct task_struct *p __arg_trusted, __u64 id, __s32 prev, bool wakes)
{
	__s32 leader = -1, cpu;
	struct cpu *core;
	int i;

	bpf_for(i, 0, nr_cpus) {
		leader = next_core_of(id, leader + 1);
		if (leader < 0)
			break;
		core = cpu_of(leader);
		if (!core || runs_for(leader, id))
			continue;
		cpu = room_on(p, leader, prev, wakes);
		if (cpu >= 0) {
			core->until = scx_bpf_now() + ON_ITS_WAY_NS;
			return cpu;
		}
	}
	return -EBUSY;
}

/* One of the claim's cores that the task may use, or less than 0. */
__noinline int any_core(struct task_struct *p __arg_trusted, __u64 id)
{
	__s32 leader = -1;
	struct cpu *core;
	int i;

	bpf_for(i, 0, nr_cpus) {
		leader = next_core_of(id, leader + 1);
		if (leader < 0)
			break;
		core = cpu_of(leader);
		if (core && may_use(p, core))
			return leader;
	}
	return -1;
}

/* A thread of a claim that wants to run. */
struct wish {
	/* Where its claim is. */
	__u32 slot;
	/* It has slept. */
	bool wakes;
	/* The core whose queue it waits in, or less than 0. */
	__s32 queue;
};

/*
 * Where a thread of a claim goes: a CPU of the claim's cores where it can run at once; or less than
 * 0, and its wish says where it waits. If that is nowhere none of the claim's cores is for it, and
 * it goes wherever everybody goes.
 */
static __s32 place(struct task_struct *p, const struct claim *c, struct wish *w, __s32 prev)
{
	struct cpu *last = cpu_of(prev), *own = last ? core_of(last) : NULL;
	__u64 id = c->id, soon = scx_bpf_now() + ON_ITS_WAY_NS;
	bool stays = must_stay(p);
	__s32 cpu = -EBUSY;

	w->queue = -1;
	if (!own)
		return cpu;
	if (own->owner == id) {
		if (before(own->until, soon))
			own->until = soon;
		w->queue = own->thread[0];
		if (stays || !runs_for(own->thread[0], id))
			cpu = room_on(p, own->thread[0], prev, w->wakes);
		if (cpu >= 0 || stays)
			return cpu;
	}
	if (stays) {
		if (cores_of(id) >= cores_claimed(c) || !reserve_core(own->thread[0], w->slot))
			return cpu;
		w->queue = own->thread[0];
		return room_on(p, own->thread[0], prev, w->wakes);
	}
	cpu = spare_core(p, id, prev, w->wakes);
	if (cpu < 0 && cores_of(id) < cores_claimed(c))
		cpu = take_core(p, c, w->slot, prev);
	if (cpu >= 0)
		return cpu;
	if (w->queue < 0)
		w->queue = any_core(p, id);
	/* Its threads share their core. */
	return w->queue < 0 ? -EBUSY : room_on(p, w->queue, prev, w->wakes);
}

/*
 * A task begins to run on a CPU, or goes on there: reserves the core for its claim, or goes if it may
 * not be there.
 */
static void enter_core(struct task_struct *p, struct task *t, struct cpu *cpu, __s32 number)
{
	__u32 slot = 0;
	struct claim *c = claim_of(p, &slot);
	struct cpu *core = core_of(cpu);
	__u64 now = scx_bpf_now(), id;

	if (!core)
		return;
	if (c) {
		id = c->id;
		cpu->runs_other = 0;
		/* Before the owner is read: see the alarm. */
		__sync_lock_test_and_set(&cpu->runs_for, id);
		if (core->owner == id) {
			core->until = now + ON_ITS_WAY_NS;
			core->keep_ns = c->now.keep_ns;
			clear_core(core->thread[0]);
			expect_holder(t, cpu);
		} else if (!core->owner && has_room(core) && cores_of(id) < cores_claimed(c)) {
			reserve_core(core->thread[0], slot);
		}
		if (core->owner == id)
			return;
	}
	if (is_of_cpu(p)) {
		note_kernel_thread(t, cpu, number);
		return;
	}
	/* Only now, since the task before it has left only now. */
	cpu->runs_guest = cpu->guest_next;
	cpu->guest_next = 0;
	__sync_lock_test_and_set(&cpu->runs_other, 1);
	if (core->shut && owner_of(core, now) && !cpu->runs_guest)
		scx_bpf_kick_cpu(number, KICK(PREEMPT));
}

/* The task stops running there. @sleeps: else it waits for its next turn. */
static void leave_core(struct cpu *cpu, bool sleeps)
{
	struct cpu *core = core_of(cpu);
	__u64 id = cpu->runs_for, ns;

	cpu->runs_other = 0;
	cpu->runs_guest = 0;
	cpu->runs_patient = 0;
	if (!id)
		return;
	ns = sleeps && core ? core->keep_ns : ON_ITS_WAY_NS;
	if (core && core->owner == id)
		core->until = scx_bpf_now() + ns;
	cpu->awake = 0;
	__sync_lock_test_and_set(&cpu->runs_for, 0);
	kick_beside(cpu, false);
	if (!core || core->owner != id || runs_for(core->thread[0], id))
		return;
	if (ns)
		set_alarm(core, ns);
	else
		release_core(core->thread[0], id);
}

#endif
