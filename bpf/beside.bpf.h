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

/* Whether another CPU of this one's core runs for somebody else. */
static bool is_shared(const struct cpu *c, __u64 id)
{
	const struct cpu *other;
	bool found = false;
	__u32 i;

	for (i = 0; i < MAX_THREADS && i < c->threads; i++) {
		other = known_cpu(c->thread[i]);
		if (other && other->whose != IDLE && other->whose != id)
			found = true;
	}
	return found;
}

/* Notes since when a CPU that runs for a claim shares its core, or for how long it did. */
__noinline int look_at(__u32 cpu, __u64 now)
{
	struct cpu *c = known_cpu(cpu);
	int i;

	if (!c)
		return 0;
	for (i = 0; i < LOOKS; i++) {
		__u64 id = c->whose;
		bool shared = is_claim(id) && is_shared(c, id);

		if (shared == !!c->beside)
			break;
		if (shared)
			__sync_val_compare_and_swap(&c->beside, 0, now);
		else
			count_time(c->slot, id, 0,
				   time_since(__sync_lock_test_and_set(&c->beside, 0), now));
	}
	return 0;
}

/* A CPU runs this task from now on, or still does. The CPU's runqueue is locked. */
static void account(__u32 cpu, struct task_struct *p)
{
	struct cpu *c = known_cpu(cpu), *other;
	__u64 old, id, now = 0;
	struct claim *claim;
	__u32 slot = 0, i;

	if (!c)
		return;
	claim = p->flags & PF_KTHREAD ? NULL : held_claim(p, &slot);
	id = claim ? claim->id : p->pid ? OTHERS : IDLE;
	old = c->whose;
	if (id == old && !claim)
		return;
	if (claim || is_claim(old))
		now = bpf_ktime_get_ns();
	if (id != old)
		__sync_lock_test_and_set(&c->whose, id);
	if (is_claim(old))
		count_time(c->slot, old, time_since(c->since, now),
			   time_since(__sync_lock_test_and_set(&c->beside, 0), now));
	c->slot = slot;
	c->since = now;
	for (i = 0; i < MAX_THREADS && i < c->threads; i++) {
		other = known_cpu(c->thread[i]);
		if (other && is_claim(other->whose))
			look_at(c->thread[i], now ?: bpf_ktime_get_ns());
	}
}

SEC("tp_btf/sched_switch")
int BPF_PROG(companion_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	account(bpf_get_smp_processor_id(), next);
	return 0;
}

#endif
