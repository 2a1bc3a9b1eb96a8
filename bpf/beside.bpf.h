/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long others ran beside claims, by every switch: for how long each CPU ran for a claim, and for how
 * long of that another CPU of its core ran for somebody else, tasks above sched_ext and the kernel's threads
 * among them. The gate takes samples of the same under any scheduler.
 *
 * A CPU that switches first says for whom it runs, and then looks which CPUs of its core are shared now. So
 * of two that switch at once, the one that looks last sees both; whoever changed something by what is
 * not so any more looks again.
 */
#ifndef COREGATE_BESIDE_BPF_H
#define COREGATE_BESIDE_BPF_H

#include "honours.bpf.h"
#include "places.bpf.h"
#include "reserve.bpf.h"

/* For whom a CPU runs that does not run for a claim: for nobody, or not seen yet; for somebody else. */
#define IDLE 0ULL
#define OTHERS (~0ULL)
/* It is seldom looked at more than twice; a bound for the verifier. */
#define LOOKS 4

static bool is_claim(__u64 id)
{
	return id != IDLE && id != OTHERS;
}

static void count_time(__u32 slot, __u64 id, __u64 ran, __u64 beside)
{
	const struct honour more = { .ran_ns = ran, .shared_ns = beside };
	struct claim *c = bpf_map_lookup_elem(&claims, &slot);

	if (c && c->id == id)
		honour(c, &more);
}

/* The time since then, or 0: clocks of two CPUs may differ a little. */
static __u64 time_since(__u64 then, __u64 now)
{
	return then && before(then, now) ? now - then : 0;
}

/* Whether a CPU runs for a claim, and another one of its core for somebody else. */
__noinline int is_shared(__u32 cpu)
{
	struct cpu *c = known_cpu(cpu), *other;
	int found = 0;
	__u64 id;
	__u32 i;

	if (!c)
		return 0;
	id = c->whose;
	if (!is_claim(id))
		return 0;
	for (i = 0; i < MAX_THREADS && i < c->threads; i++) {
		other = known_cpu(c->thread[i]);
		if (other && other->whose != IDLE && other->whose != id)
			found = 1;
	}
	return found;
}

/* Notes since when a CPU's core is shared, or for how long it was. */
__noinline int look_at(__u32 cpu, __u64 now)
{
	struct cpu *c = known_cpu(cpu);
	int i;

	if (!c)
		return 0;
	for (i = 0; i < LOOKS; i++) {
		int shared = is_shared(cpu);

		if (shared == !!c->beside)
			break;
		if (shared)
			__sync_val_compare_and_swap(&c->beside, 0, now);
		else
			count_time(c->slot, c->whose, 0,
				   time_since(__sync_lock_test_and_set(&c->beside, 0), now));
	}
	return 0;
}

/* A CPU runs this task from now on, or still does. The CPU's runqueue is locked. */
static void account(__u32 cpu, struct task_struct *p)
{
	struct cpu *c = known_cpu(cpu);
	__u64 now = bpf_ktime_get_ns(), old, id, since;
	__u32 slot = 0, old_slot, i;
	struct claim *claim;

	if (!c)
		return;
	claim = p->flags & PF_KTHREAD ? NULL : held_claim(p, &slot);
	id = claim ? claim->id : p->pid ? OTHERS : IDLE;
	old = c->whose;
	if (id == old && !claim)
		return;
	old_slot = c->slot;
	since = c->since;
	c->since = now;
	if (id != old) {
		c->slot = slot;
		__sync_lock_test_and_set(&c->whose, id);
	}
	if (is_claim(old))
		count_time(old_slot, old, time_since(since, now),
			   time_since(__sync_lock_test_and_set(&c->beside, 0), now));
	for (i = 0; i < MAX_THREADS && i < c->threads; i++)
		look_at(c->thread[i], now);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(companion_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	account(bpf_get_smp_processor_id(), next);
	return 0;
}

#endif
