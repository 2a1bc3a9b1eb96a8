/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel threads of a CPU beside a holder. They can run nowhere else, and others wait for what they do, so
 * they run on reserved cores too. But while a holder runs on its CPU's sibling such a thread waits until it
 * sleeps, which most holders soon do: for a short time only, and not at all beside one that seems never
 * to sleep.
 *
 * As with reservations, each of the two first says that it runs, and then looks for the other.
 */
#ifndef COREGATE_HELD_BACK_BPF_H
#define COREGATE_HELD_BACK_BPF_H

#include "alarm.bpf.h"
#include "places.bpf.h"

/*
 * How long one waits at most until it has done what it woke for, and how long a holder may be awake for
 * others to wait for it, in ns.
 */
#define PATIENCE_NS 4000000ULL

/* By CPU: the end of what its kernel threads wait. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct alarm);
} patience SEC(".maps");

static int on_patience(void *map, __u32 *cpu, struct alarm *a)
{
	const struct cpu *c = cpu_of(*cpu);

	scx_bpf_kick_cpu(*cpu, KICK(IDLE));
	/* That CPU's clock may be a little behind. */
	if (c && c->held_back)
		bpf_timer_start(&a->timer, PATIENCE_NS, 0);
	return 0;
}

/* Whether the core's holder runs beside this CPU, or is about to, and may soon sleep. */
static bool is_beside(const struct cpu *c, __u64 now)
{
	struct cpu *core = c->threads ? cpu_of(c->thread[0]) : NULL;
	bool found = false;
	__u32 i;

	if (!core || !core->owner)
		return false;
	for (i = 0; i < MAX_THREADS && i < c->threads; i++) {
		struct cpu *other = cpu_of(c->thread[i]);

		if (other && other != c && other->awake && before(now, other->awake + PATIENCE_NS))
			found = true;
	}
	return found;
}

static bool is_patient(const struct task *t, __u64 now)
{
	return !t->patient || before(now, t->patient);
}

/* Takes in a kernel thread of this CPU if it has to wait; else false. */
static bool hold_back(struct task_struct *p, struct task *t, __s32 cpu, __u64 slice)
{
	struct cpu *c = cpu_of(cpu);
	struct alarm *a = bpf_map_lookup_elem(&patience, &cpu);
	__u64 now = scx_bpf_now();

	if (!c || !a || c->runs_for || !is_patient(t, now) || !is_beside(c, now))
		return false;
	/* All that wait here wait for as long, so that none is let through before its time. */
	if (!c->held_back)
		c->held_until = t->patient ?: now + PATIENCE_NS;
	t->patient = c->held_until;
	if (!is_patient(t, now))
		return false;
	if (!c->held_back && bpf_timer_start(&a->timer, c->held_until - now, 0))
		return false;
	scx_bpf_dsq_insert(p, BACK_QUEUE | cpu, slice, 0);
	__sync_lock_test_and_set(&c->held_back, 1);
	if (!is_beside(c, now))
		scx_bpf_kick_cpu(cpu, KICK(IDLE));
	return true;
}

/* Fetches the next one for this CPU, if it has waited for long enough. The CPU's runqueue is locked. */
static bool let_through(struct cpu *c, __s32 cpu)
{
	__u64 now = scx_bpf_now();
	bool moved;

	if (!c->held_back || (before(now, c->held_until) && is_beside(c, now)))
		return false;
	moved = move_to_local(BACK_QUEUE | cpu);
	if (!scx_bpf_dsq_nr_queued(BACK_QUEUE | cpu))
		__sync_lock_test_and_set(&c->held_back, 0);
	return moved;
}

/* A kernel thread of this CPU runs now. */
static void note_kernel_thread(struct task *t, struct cpu *c, __s32 cpu)
{
	__u64 now = scx_bpf_now();

	if (!is_patient(t, now))
		return;
	__sync_lock_test_and_set(&c->runs_patient, 1);
	if (is_beside(c, now))
		scx_bpf_kick_cpu(cpu, KICK(PREEMPT));
}

/* Kicks CPUs beside this one: to stop kernel threads there, or to let those go on that waited. */
static void kick_beside(const struct cpu *c, bool stop)
{
	__u32 i;

	for (i = 0; i < MAX_THREADS && i < c->threads; i++) {
		struct cpu *other = cpu_of(c->thread[i]);

		if (!other || other == c)
			continue;
		if (!stop && other->held_back)
			scx_bpf_kick_cpu(c->thread[i], KICK(IDLE));
		if (stop && other->runs_patient && is_beside(other, scx_bpf_now()))
			scx_bpf_kick_cpu(c->thread[i], KICK(PREEMPT));
	}
}

/* A holder's thread runs on this CPU next, or does already. */
static void expect_holder(const struct task *t, struct cpu *c)
{
	__sync_lock_test_and_set(&c->awake, t->woke);
	kick_beside(c, true);
}

#endif
