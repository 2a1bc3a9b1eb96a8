// SPDX-License-Identifier: GPL-2.0-only
/*
 * The companion: a sched_ext scheduler that keeps the kernel's per-node idle masks on, so
 * that the gate can read them, and that fills whole idle cores first.
 *
 * Three kinds of queue, all ordered by weighted virtual time:
 *
 * - one for each node, with the tasks that may run on any CPU of the node;
 * - one for each CPU, with the tasks that may not (affinity, cpuset, migration disabled);
 * - one for each core, with threads of the claim that the core is reserved for.
 *
 * They are apart because a queue with one clock is fair, and free of starvation, only among
 * tasks that compete for the same CPUs. Each CPU divides its time between its own queue and
 * its node's by how many wait in each. A CPU of a reserved core serves the core's queue, and
 * nothing else for as long as that is so, but for tasks that could run nowhere else.
 */
#include "beside.bpf.h"
#include "compat.h"
#include "groups.bpf.h"
#include "places.bpf.h"
#include "reserve.bpf.h"
#include "farewell.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* Longest turn of a task while others wait, in ns. Default 20 ms. */
const volatile __u64 slice_ns = 20000000;
/* Shortest turn, for tasks of little weight, in ns. Default 1 ms. */
const volatile __u64 slice_min_ns = 1000000;
/*
 * How far ahead of its queue's clock a task may be, in slices. It bounds the wait of tasks of
 * little weight, which else grows with what everyone else weighs until the kernel's watchdog
 * ends the scheduler.
 */
#define MAX_AHEAD 10
/*
 * How much more load per CPU, in tasks, another node has before it is helped at once; and how long after
 * one task the next is taken in if it is less, in ns.
 */
#define IMBALANCE 2
#define HELP_NS 20000000ULL
/* How long after a task was confined CPUs look for such tasks when they have nothing to do. */
#define CONFINED_RECENT_NS 100000000ULL

/* When a task last went to a CPU's queue although other CPUs may run it as well. */
__u64 confined_at;

static __u64 *clock_of(__u64 queue)
{
	if (queue & NODE_QUEUE) {
		struct node *n = node_of((__u32)queue);

		return n ? &n->clock : NULL;
	} else if (queue & HOLD_QUEUE) {
		struct cpu *c = cpu_of((__s32)queue);

		return c ? &c->hold_clock : NULL;
	} else {
		struct cpu *c = cpu_of((__s32)queue);

		return c ? &c->clock : NULL;
	}
}

static __u64 weighted(const struct task *t, __u64 time)
{
	return time * WEIGHT_DFL / (t->weight ?: WEIGHT_DFL);
}

/* A light task has its share in shorter turns, so that it also waits less for the next. */
static __u64 slice_of(const struct task *t)
{
	__u64 slice = slice_ns * (t->weight ?: WEIGHT_DFL) / WEIGHT_DFL;

	if (slice > slice_ns)
		return slice_ns;
	return slice < slice_min_ns ? slice_min_ns : slice;
}

/* A task that wants to run on a CPU of the node is part of its load; of weight 0, of none. */
static void load(struct task *t, __u32 node, __u32 weight)
{
	struct node *old, *new;

	/* One after the other is in it, or out of it, so the sum would not be right. */
	if (t->spare || (t->load == weight && t->node == node))
		return;
	old = node_of(t->node);
	new = node_of(node);
	if (!old || !new)
		return;
	__sync_fetch_and_add(&old->load, -(__u64)t->load);
	__sync_fetch_and_add(&new->load, weight);
	t->load = weight;
	t->node = node;
}

static void advance(__u64 queue, __u64 vtime)
{
	__u64 *clock = queue == NO_QUEUE ? NULL : clock_of(queue);

	/* Racy between CPUs: at worst a step is taken again by the next task. */
	if (clock && before(*clock, vtime))
		*clock = vtime;
}

/*
 * Puts the task on the clock of @queue: as far ahead or behind as it was on its last one,
 * within bounds. Returns its virtual time there.
 */
static __u64 settle(struct task *t, __u64 queue)
{
	__u64 *old = t->queue == NO_QUEUE ? NULL : clock_of(t->queue);
	__u64 *clock = clock_of(queue);
	__s64 ahead, most = MAX_AHEAD * slice_ns, least = -(__s64)slice_ns;

	if (!clock)
		return t->vtime;
	/* A new task begins a slice ahead, or a stream of short-lived ones would come first. */
	ahead = old ? (__s64)(t->vtime - *old) : (__s64)slice_ns;
	if (ahead > most)
		ahead = most;
	if (ahead < least)
		ahead = least;
	t->queue = queue;
	t->vtime = *clock + ahead;
	return t->vtime;
}

static bool may_use_node(const struct task_struct *p, __u32 node)
{
	struct node *n = node_of(node);

	return n && mask_covers(p->cpus_ptr, &n->cpus);
}

/* Whether all of the core's threads, @but excepted, are idle. */
static bool core_idle(const struct cpu *c, __u32 but)
{
	const struct cpumask *idle = scx_bpf_get_idle_cpumask_node(c->node);
	bool whole = true;
	__u32 i;

	for (i = 0; i < MAX_THREADS && i < c->threads; i++)
		if (c->thread[i] != but && !mask_has(idle, c->thread[i]))
			whole = false;
	scx_bpf_put_idle_cpumask(idle);
	return whole;
}

/*
 * An idle one of these CPUs for the task, now claimed for it, or less than 0. Whole idle cores come
 * first. @roam: a whole core of another node comes before a part of a core of this one; for tasks
 * that are new or that have run a full turn. Others have their data in this node's caches.
 */
static __s32 pick_idle_of(const struct cpumask *mask, __s32 prev, bool roam)
{
	bool may_stay = mask_has(mask, prev);
	__u64 core = PICK(CORE), here = PICK(IN_NODE);
	struct cpu *c = cpu_of(prev);
	__s32 cpu;

	if (!c)
		return -ENOENT;
	if (may_stay && core_idle(c, -1U) && claim_idle(prev))
		return prev;
	cpu = scx_bpf_pick_idle_cpu_node(mask, c->node, roam ? core : core | here);
	if (cpu >= 0)
		return cpu;
	if (may_stay && claim_idle(prev))
		return prev;
	cpu = scx_bpf_pick_idle_cpu_node(mask, c->node, here);
	if (cpu >= 0)
		return cpu;
	cpu = roam ? -EBUSY : scx_bpf_pick_idle_cpu_node(mask, c->node, core);
	if (cpu >= 0)
		return cpu;
	return scx_bpf_pick_idle_cpu_node(mask, c->node, 0);
}

/* An idle CPU for a task of no claim: not of a reserved core, unless as a last resort. */
static __s32 pick_idle(struct task_struct *p, __s32 prev, bool roam)
{
	__s32 cpu = pick_idle_of(open_cpus(p, false), prev, roam);

	if (cpu >= 0 || shut.count == reserved.count)
		return cpu;
	return pick_idle_of(open_cpus(p, true), prev, roam);
}

/* The queue that a task belongs to when it runs on, or waits for, @cpu. */
static __u64 home(struct task_struct *p, __s32 cpu)
{
	struct cpu *c = cpu_of(cpu);

	if (c && !must_stay(p) && may_use_node(p, c->node))
		return NODE_QUEUE | c->node;
	return cpu;
}

/* A task wants to run, since now if it did not before. */
static void want(struct task *t, __u64 now)
{
	if (!t->wants)
		t->wants = t->woke = now;
}

/* A thread of a claim runs next on a CPU of its claim's cores. */
static void run_at_once(struct task_struct *p, struct task *t, __s32 cpu, __u64 enq_flags)
{
	struct cpu *c = cpu_of(cpu), *core = c ? core_of(c) : NULL;

	if (!core)
		return;
	settle(t, HOLD_QUEUE | core->thread[0]);
	expect_holder(t, c);
	if (c->runs_other)
		enq_flags |= ENQ(PREEMPT);
	scx_bpf_dsq_insert(p, DSQ(LOCAL_ON) | cpu, slice_of(t), enq_flags);
}

SEC("struct_ops/companion_select_cpu")
__s32 BPF_PROG(companion_select_cpu, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	struct task *t = task_of(p);
	struct wish wish = { .wakes = true, .queue = -1 };
	struct claim *c = claim_of(p, &wish.slot);
	__s32 cpu = -EBUSY;

	if (!t)
		return prev_cpu;
	if (c)
		cpu = place(p, c, &wish, prev_cpu);
	if (cpu >= 0) {
		want(t, scx_bpf_now());
		run_at_once(p, t, cpu, 0);
		return cpu;
	}
	if (wish.queue >= 0)
		return prev_cpu;
	cpu = pick_idle(p, prev_cpu, wake_flags & WAKE(FORK));
	if (cpu < 0)
		return prev_cpu;
	settle(t, home(p, cpu));
	scx_bpf_dsq_insert(p, DSQ(LOCAL), slice_of(t), 0);
	return cpu;
}

/* The CPU in whose queue a task that may run on a few CPUs waits: the emptier of two. */
static __s32 confined_cpu(struct task_struct *p, __s32 cpu)
{
	const struct cpumask *mask = open_cpus(p, false);
	__u32 other = bpf_cpumask_any_distribute(mask);
	struct cpu *c;

	confined_at = scx_bpf_now();
	if (other >= (__u32)nr_cpus) {
		/* All that it may use is reserved. */
		mask = p->cpus_ptr;
		other = bpf_cpumask_any_distribute(mask);
	}
	if (other >= (__u32)nr_cpus || other == (__u32)cpu)
		return cpu;
	c = cpu_of(other);
	if (!c || !c->threads)
		return cpu;
	if (!mask_has(mask, cpu))
		return other;
	return scx_bpf_dsq_nr_queued(other) < scx_bpf_dsq_nr_queued(cpu) ? (__s32)other : cpu;
}

/*
 * A CPU's kernel thread that wakes and has not had more than its share; on a reserved core, where
 * nothing is taken from that CPU's queue, in any case.
 */
static bool urgent(struct task_struct *p, struct task *t, __s32 cpu, __u64 enq_flags)
{
	struct cpu *c = cpu_of(cpu);

	if (!c || !is_of_cpu(p))
		return false;
	if (is_reserved(cpu))
		return true;
	return (enq_flags & ENQ(WAKEUP)) && before(t->vtime, c->clock + slice_ns);
}

/* The task waits in a queue: its node's, or that of one CPU. */
static void wait_in_queue(struct task_struct *p, struct task *t, __s32 cpu, __u64 enq_flags)
{
	__u64 queue = home(p, cpu), vtime;
	struct cpu *c = cpu_of(cpu);
	__s32 open;

	if (c)
		load(t, c->node, t->weight);
	if (!(queue & NODE_QUEUE) && !must_stay(p))
		queue = confined_cpu(p, cpu);
	vtime = settle(t, queue);
	dsq_insert_vtime(p, queue, slice_of(t), vtime, enq_flags);
	/*
	 * This CPU's run queue is locked, so it cannot go idle without seeing the task; another
	 * one can, between its look into its queue and this insertion. Hence the kick. A node's
	 * queue needs none: all its CPUs look into it, this one at the latest when the present
	 * slice ends; or if this one is reserved, one that is open does, at once if it is idle.
	 */
	if (queue & NODE_QUEUE) {
		open = is_reserved(cpu) ? next_open_core((__u32)queue, 0) : -1;
		if (open >= 0)
			scx_bpf_kick_cpu(open, 0);
		return;
	}
	if (queue != (__u64)cpu)
		scx_bpf_kick_cpu(queue, 0);
	expect_guest(queue);
}

/* A thread of a claim: it runs on the claim's cores, or waits for them; false if none is for it. */
static bool enqueue_holder(struct task_struct *p, struct task *t, __s32 prev, __u64 enq_flags)
{
	struct wish wish = { .wakes = enq_flags & ENQ(WAKEUP), .queue = -1 };
	struct claim *c = claim_of(p, &wish.slot);
	__u64 queue;
	__s32 cpu;

	if (!c)
		return false;
	cpu = place(p, c, &wish, prev);
	if (cpu >= 0) {
		run_at_once(p, t, cpu, enq_flags);
		scx_bpf_kick_cpu(cpu, 0);
		return true;
	}
	if (wish.queue < 0)
		return false;
	queue = HOLD_QUEUE | wish.queue;
	dsq_insert_vtime(p, queue, slice_of(t), settle(t, queue), enq_flags);
	kick_all(wish.queue, KICK(IDLE));
	if (enq_flags & ENQ(LAST))
		scx_bpf_kick_cpu(prev, 0);
	return true;
}

SEC("struct_ops/companion_enqueue")
void BPF_PROG(companion_enqueue, struct task_struct *p, __u64 enq_flags)
{
	__s32 cpu = scx_bpf_task_cpu(p), idle = -EBUSY;
	struct task *t = task_of(p);

	if (!t)
		return;
	want(t, scx_bpf_now());
	if (enqueue_holder(p, t, cpu, enq_flags))
		return;
	if (urgent(p, t, cpu, enq_flags)) {
		settle(t, cpu);
		if (hold_back(p, t, cpu, slice_of(t)))
			return;
		if (enq_flags & ENQ(WAKEUP))
			enq_flags |= ENQ(PREEMPT);
		scx_bpf_dsq_insert(p, DSQ(LOCAL), slice_of(t), enq_flags);
		return;
	}
	if (!(enq_flags & ENQ(CPU_SELECTED)) && !must_stay(p))
		idle = pick_idle(p, cpu, true);
	if (idle >= 0) {
		settle(t, home(p, idle));
		scx_bpf_dsq_insert(p, DSQ(LOCAL_ON) | idle, slice_of(t), enq_flags);
		scx_bpf_kick_cpu(idle, 0);
		return;
	}
	wait_in_queue(p, t, cpu, enq_flags);
	/* It was the last task here, and the CPU is about to go idle. */
	if (enq_flags & ENQ(LAST))
		scx_bpf_kick_cpu(cpu, 0);
}

/* Charges the present turn of @p on @cpu up to now. */
static void charge(struct task_struct *p, struct task *t, __s32 cpu)
{
	__u64 now = scx_bpf_now(), used = before(t->started, now) ? now - t->started : 0;
	struct cpu *c = cpu_of(cpu);
	__u64 node;
	struct node *n;

	t->started = now;
	t->vtime += weighted(t, used);
	tell(p, t, now);
	if (!c || t->queue == NO_QUEUE || t->queue & HOLD_QUEUE)
		return;
	if (!(t->queue & NODE_QUEUE)) {
		c->lead += used / (scx_bpf_dsq_nr_queued(cpu) + 1);
		return;
	}
	node = NODE_QUEUE | c->node;
	n = node_of(c->node);
	if (n && n->nr_cpus)
		c->lead -= used / (scx_bpf_dsq_nr_queued(node) / n->nr_cpus + 1);
}

/* What the first task of a queue weighs, or 0. */
static __u64 first_weight(__u64 queue)
{
	struct bpf_iter_scx_dsq it;
	struct task_struct *first;
	struct task *t = NULL;

	if (!bpf_iter_scx_dsq_new(&it, queue, 0)) {
		first = bpf_iter_scx_dsq_next(&it);
		t = first ? bpf_task_storage_get(&tasks, first, NULL, 0) : NULL;
	}
	bpf_iter_scx_dsq_destroy(&it);
	return t ? t->weight : 0;
}

/*
 * The node whose load, counted per CPU, is the most beyond this one's, if a task of it should run here:
 * if it is by more than IMBALANCE, or if they are still no less even with the first of its tasks here.
 */
static __s32 overloaded(__u32 node)
{
	struct node *own = node_of(node), *n, *most = own;
	__u64 now, weight;
	__s32 found = -ENOENT;
	int i;

	if (!own)
		return found;
	bpf_for(i, 0, nr_nodes) {
		n = node_of(i);
		if (n && n->nr_cpus && n->load * most->nr_cpus > most->load * n->nr_cpus &&
		    scx_bpf_dsq_nr_queued(NODE_QUEUE | i)) {
			most = n;
			found = i;
		}
	}
	if (found < 0 ||
	    most->load * own->nr_cpus >
		    (own->load + IMBALANCE * WEIGHT_DFL * own->nr_cpus) * most->nr_cpus)
		return found;
	now = scx_bpf_now();
	if (before(now, own->helped + HELP_NS))
		return -ENOENT;
	weight = first_weight(NODE_QUEUE | found);
	if (!weight || (most->load - weight) * own->nr_cpus <= (own->load + weight) * most->nr_cpus)
		return -ENOENT;
	own->helped = now;
	return found;
}

/*
 * Whose turn it is on this CPU, its own queue's or its node's, by what waits in each; the
 * task that runs, @t or NULL, counts as one that waits.
 */
static __u64 whose_turn(struct cpu *c, __s32 cpu, struct task *t)
{
	__u64 own = cpu, node = NODE_QUEUE | c->node;
	__s32 in_own = scx_bpf_dsq_nr_queued(own), in_node = scx_bpf_dsq_nr_queued(node);

	if (t && t->queue == own)
		in_own++;
	if (t && t->queue == node)
		in_node++;
	if (in_own && in_node)
		return c->lead > 0 ? node : own;
	c->lead = 0;
	if (in_own)
		return own;
	return in_node ? node : NO_QUEUE;
}

/* Whether a task waits in @queue that comes before the one that runs. */
static bool outrun(__u64 queue, struct task *t)
{
	struct bpf_iter_scx_dsq it;
	struct task_struct *first;
	bool yes = false;

	if (t->queue != queue)
		return true;
	if (!bpf_iter_scx_dsq_new(&it, queue, 0)) {
		first = bpf_iter_scx_dsq_next(&it);
		yes = first && before(first->scx.dsq_vtime, t->vtime);
	}
	bpf_iter_scx_dsq_destroy(&it);
	return yes;
}

/* Fetches the next task for this CPU; false if the one that runs, @t or NULL, is the next. */
static bool take(struct cpu *c, __s32 cpu, struct task *t)
{
	__u64 own = cpu, node = NODE_QUEUE | c->node, queue = whose_turn(c, cpu, t);

	if (queue == NO_QUEUE || (t && !outrun(queue, t)))
		return false;
	return move_to_local(queue) || move_to_local(queue == own ? node : own);
}

/* This CPU has nothing to do: is there a task elsewhere that it may run? */
static bool steal(struct cpu *c, __s32 cpu)
{
	struct node *n;
	int i;

	bpf_for(i, 0, nr_nodes) {
		n = node_of(i);
		if (n && n->nr_cpus && (__u32)i != c->node &&
		    scx_bpf_dsq_nr_queued(NODE_QUEUE | i) && move_to_local(NODE_QUEUE | i))
			return true;
	}
	if (before(confined_at + CONFINED_RECENT_NS, scx_bpf_now()))
		return false;
	bpf_for(i, 0, nr_cpus) {
		struct cpu *other = cpu_of(i);

		if (other && other->threads && i != cpu && scx_bpf_dsq_nr_queued(i) &&
		    move_to_local(i))
			return true;
	}
	return false;
}

/* Whether a task that shares its core could have a whole one instead. */
static bool could_have_core(struct task_struct *p, struct cpu *c, __s32 cpu)
{
	const struct cpumask *open;
	bool found = false;
	int i;

	if (must_stay(p) || core_idle(c, cpu))
		return false;
	open = open_cpus(p, false);
	bpf_for(i, 0, nr_nodes) {
		const struct cpumask *whole;
		struct node *n = node_of(i);

		if (!n || !n->nr_cpus)
			continue;
		whole = scx_bpf_get_idle_smtmask_node(i);
		found |= mask_meets(whole, open);
		scx_bpf_put_idle_cpumask(whole);
	}
	return found;
}

/* A thread waits for another core of the claim. */
__noinline int help_claim(__u64 owner)
{
	__s32 leader = -1;
	int i;

	bpf_for(i, 0, nr_cpus) {
		leader = next_core_of(owner, leader + 1);
		if (leader < 0)
			break;
		if (scx_bpf_dsq_nr_queued(HOLD_QUEUE | leader) &&
		    move_to_local(HOLD_QUEUE | leader))
			return 1;
	}
	return 0;
}

/*
 * Fetches the task of this CPU's queue that has not run for the longest time. Guests have so little time
 * that one whose virtual time is ahead of the others' would wait for minutes.
 */
static bool move_guest(__s32 cpu)
{
	struct bpf_iter_scx_dsq it;
	struct task_struct *p;
	__u64 oldest = ~0ULL;
	__s32 pid = 0;
	bool moved = false;

	if (!bpf_iter_scx_dsq_new(&it, cpu, 0)) {
		while ((p = bpf_iter_scx_dsq_next(&it))) {
			struct task *t = bpf_task_storage_get(&tasks, p, NULL, 0);

			if (t && t->started < oldest) {
				oldest = t->started;
				pid = p->pid;
			}
		}
	}
	bpf_iter_scx_dsq_destroy(&it);
	if (!bpf_iter_scx_dsq_new(&it, cpu, 0)) {
		while ((p = bpf_iter_scx_dsq_next(&it))) {
			if (p->pid == pid) {
				moved = move_one_to_local(&it, p);
				break;
			}
		}
	}
	bpf_iter_scx_dsq_destroy(&it);
	return moved || move_to_local(cpu);
}

/*
 * Serves a CPU of a reserved core; false if it is none, or one that others may use and that has
 * nothing else to do. @t: that of prev if it can go on, else NULL.
 */
static bool serve_holders(struct cpu *c, __s32 cpu, struct task_struct *prev, struct task *t)
{
	struct cpu *core = core_of(c);
	struct claim *claim;
	__u64 owner, queue;
	__u32 slot = 0;

	if (!core)
		return false;
	queue = HOLD_QUEUE | core->thread[0];
	claim = prev && t ? claim_of(prev, &slot) : NULL;
	/* It has run since before it held anything, or before there was a core for it. */
	if (claim && core->owner != claim->id)
		enter_core(prev, t, c, cpu);
	owner = owner_of(core, scx_bpf_now());
	if (!owner) {
		c->guest_due = 0;
		/* Who waited for a core that is reserved no more. */
		return scx_bpf_dsq_nr_queued(queue) && move_to_local(queue);
	}
	/* There is nothing to divide between queues that are not served. */
	c->lead = 0;
	if (c->guest_due) {
		if (move_guest(cpu)) {
			c->guest_due--;
			c->guest_next = 1;
			return true;
		}
		c->guest_due = 0;
	}
	if (claim && claim->id == owner) {
		if (outrun(queue, t) && move_to_local(queue))
			return true;
		advance(t->queue, t->vtime);
		task_set_slice(prev, slice_of(t));
		return true;
	}
	return move_to_local(queue) || help_claim(owner) || core->shut;
}

SEC("struct_ops/companion_dispatch")
void BPF_PROG(companion_dispatch, __s32 cpu, struct task_struct *prev)
{
	struct cpu *c = cpu_of(cpu);
	struct task *t = NULL;
	__s32 node;

	if (!c)
		return;
	if (prev && (prev->scx.flags & TASK_FLAG(QUEUED))) {
		t = task_of(prev);
		if (!t)
			return;
		charge(prev, t, cpu);
		account(cpu, prev);
	}
	if (let_through(c, cpu) || serve_holders(c, cpu, prev, t))
		return;
	node = overloaded(c->node);
	if (node >= 0 && move_to_local(NODE_QUEUE | node))
		return;
	if (take(c, cpu, t))
		return;
	if (!prev || !t) {
		steal(c, cpu);
		return;
	}
	/* Without a new slice the task comes to enqueue() with SCX_ENQ_LAST, and is moved. */
	if (could_have_core(prev, c, cpu))
		return;
	advance(t->queue, t->vtime);
	task_set_slice(prev, slice_of(t));
}

SEC("struct_ops/companion_running")
void BPF_PROG(companion_running, struct task_struct *p)
{
	__s32 cpu = scx_bpf_task_cpu(p);
	struct task *t = task_of(p);
	struct cpu *c;

	if (!t)
		return;
	t->started = scx_bpf_now();
	want(t, t->started);
	if (!t->weight)
		weigh(p, t);
	advance(t->queue, t->vtime);
	c = cpu_of(cpu);
	if (!c)
		return;
	load(t, c->node, t->weight);
	enter_core(p, t, c, cpu);
	if (c->runs_guest)
		task_set_slice(p, slice_min_ns);
}

SEC("struct_ops/companion_stopping")
void BPF_PROG(companion_stopping, struct task_struct *p, bool runnable)
{
	__s32 cpu = scx_bpf_task_cpu(p);
	struct cpu *c = cpu_of(cpu);
	struct task *t = task_of(p);

	if (t)
		charge(p, t, cpu);
	if (c)
		leave_core(c, !runnable);
}

SEC("struct_ops/companion_quiescent")
void BPF_PROG(companion_quiescent, struct task_struct *p, __u64 deq_flags)
{
	struct task *t = task_of(p);

	if (!t)
		return;
	t->wants = 0;
	t->patient = 0;
	load(t, t->node, 0);
}

SEC("struct_ops.s/companion_init_task")
__s32 BPF_PROG(companion_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	struct task *t = task_of(p);

	if (t && !t->spare && bpf_core_field_exists(args->cgroup))
		t->group = place_of(args->cgroup);
	return 0;
}

SEC("struct_ops/companion_cgroup_init")
__s32 BPF_PROG(companion_cgroup_init, struct cgroup *cgroup, struct scx_cgroup_init_args *args)
{
	join(cgroup, args->weight);
	return 0;
}

SEC("struct_ops/companion_cgroup_exit")
void BPF_PROG(companion_cgroup_exit, struct cgroup *cgroup)
{
	leave(cgroup);
}

SEC("struct_ops/companion_cgroup_move")
void BPF_PROG(companion_cgroup_move, struct task_struct *p, struct cgroup *from, struct cgroup *to)
{
	struct task *t = task_of(p);

	if (!t)
		return;
	t->group = place_of(to);
	weigh(p, t);
}

SEC("struct_ops/companion_cgroup_set_weight")
void BPF_PROG(companion_cgroup_set_weight, struct cgroup *cgroup, __u32 weight)
{
	struct group *g = group_at(place_of(cgroup));

	if (g && g->id == cgroup->kn->id)
		g->weight = weight;
}

/* Makes the CPU one of its node's, with a queue for the node if it is the first. */
static __s32 join_node(__u32 cpu, __u32 node)
{
	struct node *n = node_of(node);
	struct cpu *c;
	__s32 err = 0;

	if (!n || cpu >= MAX_CPUS)
		return -EINVAL;
	if (!n->nr_cpus)
		err = scx_bpf_create_dsq(NODE_QUEUE | node, -1);
	n->cpus.bits[cpu / 64] |= 1ULL << (cpu % 64);
	n->nr_cpus++;
	c = cpu_of(cpu);
	if (c && c->thread[0] == cpu)
		n->cores++;
	n->open = node < NODES_MAX ? open_cores[node] : -1U;
	return err;
}

SEC("struct_ops.s/companion_init")
__s32 BPF_PROG(companion_init)
{
	struct cpu *c;
	__s32 err = init_root();
	int i;

	if (err)
		return err;
	bpf_for(i, 0, nr_cpus) {
		/*
		 * An offline CPU has a queue too: when it comes, its own threads are queued before
		 * the kernel ends the scheduler for it.
		 */
		err = scx_bpf_create_dsq(i, -1);
		if (!err)
			err = scx_bpf_create_dsq(HOLD_QUEUE | i, -1);
		if (!err)
			err = scx_bpf_create_dsq(BACK_QUEUE | i, -1);
		if (!err)
			err = init_alarm(&alarms, i, on_alarm);
		if (!err)
			err = init_alarm(&patience, i, on_patience);
		c = cpu_of(i);
		if (!err && c && c->threads)
			err = join_node(i, c->node);
		if (err) {
			scx_error("no queue could be made for CPU %lld", i);
			return err;
		}
	}
	return init_alarm(&rounds, 0, on_round);
}

/* The loader sets flags, from the running kernel's enumerators, and hotplug_seq. */
SEC(".struct_ops.link")
struct sched_ext_ops companion = {
	.select_cpu = (void *)companion_select_cpu,
	.enqueue = (void *)companion_enqueue,
	.dispatch = (void *)companion_dispatch,
	.running = (void *)companion_running,
	.stopping = (void *)companion_stopping,
	.quiescent = (void *)companion_quiescent,
	.init_task = (void *)companion_init_task,
	.cgroup_init = (void *)companion_cgroup_init,
	.cgroup_exit = (void *)companion_cgroup_exit,
	.cgroup_move = (void *)companion_cgroup_move,
	.cgroup_set_weight = (void *)companion_cgroup_set_weight,
	.init = (void *)companion_init,
	.exit = (void *)companion_exit,
	.name = COMPANION,
};
