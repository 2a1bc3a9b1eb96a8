// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate: LSM hooks that judge launches. Hooks are doorways: another LSM's denial
 * passes, strangers pass, the rest is judged behind them.
 */
#include "abi.h"
#include "kernel.h"
#include "claims.bpf.h"
#include "counts.bpf.h"
#include "honour.bpf.h"
#include "idle.bpf.h"
#include "match.bpf.h"
#include "mode.bpf.h"
#include "need.bpf.h"
#include "picture.bpf.h"

/*
 * Those that are never denied, whatever a rule says: threads of the kernel, its helpers such
 * as modprobe, which have no memory of their own before their exec (kernel/umh.c), PID 1.
 */
static __always_inline bool is_stranger(const struct task_struct *task)
{
	return task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER) || !task->mm ||
	       task->tgid == 1;
}

static __always_inline enum outcome outcome_of(enum effect effect)
{
	switch (effect) {
	case EFFECT_ADMITTED:
		return OUTCOME_ADMITTED;
	case EFFECT_DENIED:
		return OUTCOME_DENIED;
	default:
		return OUTCOME_LOGGED;
	}
}

/* Writes the path of a cgroup; empty if there is no room for all of it. */
static __always_inline void write_cgroup(struct event *e, struct cgroup *cgroup)
{
	__u64 end = 0;

	e->cgroup[0] = '/';
	e->cgroup[1] = 0;
#pragma unroll 1
	for (int level = 1; level < LEVELS_READ && level <= cgroup->level; level++) {
		long len;

		if (end > EXE_MAX - 2) {
			e->cgroup[0] = 0;
			return;
		}
		/* For the verifier, which does not see that it is less. */
		barrier_var(end);
		end &= EXE_MAX - 1;
		e->cgroup[end] = '/';
		len = cgroup_name(cgroup, level, &e->cgroup[end + 1]);
		if (len <= 0) {
			e->cgroup[0] = 0;
			return;
		}
		/* Its NUL is where the next slash goes. */
		end += len;
	}
}

/* Writes the supplementary groups if there is room for all of them. */
static __always_inline void write_groups(struct event *e, struct group_info *groups)
{
	__u32 size;

	e->groups = groups->ngroups;
	if (e->groups > GROUPS_KEPT)
		return;
	size = e->groups * sizeof(e->group[0]);
	bpf_probe_read_kernel(e->group, size, (void *)groups + bpf_core_field_offset(groups->gid));
}

/* Where the rule of a launch stands in the tables. */
static __always_inline __u32 number_of(const struct facts *f)
{
	return (f->half & 1) * RULES_MAX + f->rule;
}

/* Room for the event of a launch, with its details if they were read. */
static __always_inline struct event *reserve(const struct facts *f)
{
	const struct details *d;
	struct detailed_event *e;

	if (!f->asked)
		return bpf_ringbuf_reserve(&events, sizeof(struct event), 0);
	d = bpf_task_storage_get(&details, bpf_get_current_task_btf(), NULL, 0);
	e = d ? bpf_ringbuf_reserve(&events, sizeof(*e), 0) : NULL;
	if (!e)
		return NULL;
	bpf_probe_read_kernel(&e->details, sizeof(e->details), d);
	return &e->event;
}

__noinline int report(const struct facts *f, enum hook hook, const struct rule *rule,
		      const struct need *n, enum effect effect)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct event *e;
	__u64 now, id;

	if (!f || !rule || !n)
		return 0;
	now = n->taker.since;
	if (!keeps_pace(number_of(f), effect, settings[f->half & 1].event_interval_ns, now))
		return 0;
	id = __sync_fetch_and_add(&kept.next_event, 1);
	e = reserve(f);
	if (!e) {
		__sync_fetch_and_add(&kept.failures.events_lost, 1);
		return 0;
	}
	e->time = now;
	e->id = id;
	e->rule_key = rule->key;
	e->suppressed = take_untold(number_of(f), effect);
	e->verdict = n->verdict;
	e->effect = effect;
	e->rule = f->rule;
	e->hook = hook;
	e->pid = task->tgid;
	e->uid = task->cred->euid.val;
	e->gid = task->cred->egid.val;
	e->cpu = bpf_get_smp_processor_id();
	e->node = n->node;
	e->cores_needed = rule->cores;
	e->cores_free = n->free;
	e->cores_claimed = n->unmet;
	e->source = n->source;
	e->err = effect == EFFECT_DENIED ? -rule->denial : 0;
	e->mode = f->mode;
	e->generation = settings[f->half & 1].generation;
	e->container = f->hooks >> CONTAINED != 0;
	write_groups(e, task->cred->group_info);
	write_comm(e->comm);
	__builtin_memcpy(e->exe, f->exe.byte, sizeof(e->exe));
	write_cgroup(e, task->cgroups->dfl_cgrp);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/*
 * What a hook answers. The verifier wants to see that it is an errno, and tracks no negation before
 * 6.17 (kernel/bpf/verifier.c): so it comes negative. Looked at here, and not where it is read, it is
 * the same to the verifier on all ways that lead here. A denial is never 0, which would let the launch
 * go on.
 */
static __always_inline int answer(const struct facts *f, int error)
{
	barrier_var(error);
	if (error < -MAX_ERRNO || error > 0)
		return -EAGAIN;
	return !error && f->outcome == OUTCOME_DENIED ? -EAGAIN : error;
}

/* The claim that its process has already: the exec of a holder makes more or less of it. */
__noinline int begin_exec(struct holder *h, struct taker *t)
{
	if (!h || !t)
		return 0;
	/* Left by an exec whose end was missed. */
	if (h->exec_id)
		end_exec(h, false);
	if (h->process && claim_at(h->slot, h->id)) {
		t->slot = h->slot;
		t->id = h->id;
	}
	return 0;
}

/* A child has the claim that was taken for it; of an exec that is seen when it is done. */
static __always_inline void begin_child(struct holder *h, enum hook hook)
{
	h->process = hook == HOOK_FORK;
	h->thread = hook == HOOK_THREAD;
	h->newborn = true;
	begin_at(h->slot, h->id);
}

/*
 * Judges a launch that a rule watches: 0, or the errno of its denial, negative. The claim will be the
 * holder's.
 */
static __always_inline int judge(struct note *note, struct task_struct *holder, enum hook hook)
{
	struct facts *f = &note->facts;
	__u32 number = number_of(f);
	const struct rule *rule = bpf_map_lookup_elem(&rules, &number);
	struct task_struct *task = bpf_get_current_task_btf();
	struct need *n = &note->need;
	enum effect effect;
	struct holder *h;

	if (!rule) {
		__sync_fetch_and_add(&kept.failures.rules_unread, 1);
		return 0;
	}
	if (rule->action == ACTION_EXEMPT) {
		f->outcome = OUTCOME_EXEMPT;
		if (!f->rehearsed)
			count_exempt(number);
		return 0;
	}
	h = holder == task ? &note->holder : made_holder_of(holder);
	if (!h) {
		effect = effect_of(f, rule, VERDICT_UNKNOWN);
		f->outcome = outcome_of(effect);
		if (f->rehearsed)
			return 0;
		count_launch(number_of(f), VERDICT_UNKNOWN, effect);
		__sync_fetch_and_add(&kept.failures.events_lost, 1);
		return effect == EFFECT_DENIED ? rule->denial : 0;
	}
	n->rehearsed = f->rehearsed;
	n->half = f->half;
	n->taker.wants.rule = rule->key;
	n->taker.wants.holds = rule->hold != HOLD_NONE;
	n->taker.wants.settle_ns = rule->settle_ns;
	n->taker.wants.keep_ns = rule->keep_ns;
	n->taker.wants.isolation = rule->isolation;
	n->taker.exec = hook == HOOK_EXEC;
	n->taker.slot = 0;
	n->taker.id = 0;
	n->taker.pid = task->tgid;
	n->taker.since = bpf_ktime_get_boot_ns();
	n->cores = rule->cores;
	n->scope = rule->scope;
	n->nodes = rule->nodes;
	n->own_cpu = bpf_get_smp_processor_id();
	n->own_core = rule->own_core >> hook & 1;
	n->own_tgid = 0;
	n->home = bpf_get_numa_node_id();
	n->source = SOURCE_NONE;
	n->by_queues = false;
	/* By a gate that is just being replaced. */
	if (hook != HOOK_EXEC && h->newborn)
		release(h->slot, h->id);
	if (hook == HOOK_EXEC) {
		if (task->signal->live.counter > 1)
			n->own_tgid = task->tgid;
		begin_exec(h, &n->taker);
	}
	meet(n, h);
	effect = effect_of(f, rule, n->verdict);
	f->outcome = outcome_of(effect);
	if (f->rehearsed)
		return 0;
	if (n->verdict == VERDICT_ADMIT && n->taker.id && hook != HOOK_EXEC)
		begin_child(h, hook);
	count_launch(number_of(f), n->verdict, effect);
	report(f, hook, rule, n, effect);
	return effect == EFFECT_DENIED ? rule->denial : 0;
}

/* The key of a rule; 0 if there is none. */
static __always_inline __u64 key_of(__u32 half, __u32 number)
{
	const struct rule *rule;

	if (number == NO_RULE)
		return 0;
	number += (half & 1) * RULES_MAX;
	rule = bpf_map_lookup_elem(&rules, &number);
	return rule ? rule->key : 0;
}

/* Notes what both policies came to for a launch. */
__noinline int note_rehearsal(struct facts *f)
{
	struct change change;

	if (!f || (f->rule == NO_RULE && f->new_rule == NO_RULE))
		return 0;
	__sync_fetch_and_add(&rehearsed, 1);
	if (f->outcome == f->new_outcome &&
	    key_of(f->half, f->rule) == key_of(f->half ^ 1, f->new_rule))
		return 0;
	change.rule = f->rule;
	change.outcome = f->outcome;
	change.new_rule = f->new_rule;
	change.new_outcome = f->new_outcome;
	count_change(&change);
	return 0;
}

/*
 * Judges an exec of this file or, without one, a fork or thread. A policy that is rehearsed comes
 * first, before a claim is taken: both see the same, but for what moves in between.
 */
static __always_inline int judge_launch(struct task_struct *holder, struct file *file, __u32 now,
					enum hook hook)
{
	struct note *note = note_of(bpf_get_current_task_btf());
	struct facts *f;
	int error = 0;

	if (!note) {
		__sync_fetch_and_add(&kept.failures.rules_unread, 1);
		return 0;
	}
	f = &note->facts;
	f->asked = 0;
	/* One loop, so that what it calls is there once. */
#pragma unroll 1
	for (__u32 left = now & ACTIVE_REHEARSING ? 2 : 1; left; left--) {
		f->rehearsed = left == 2;
		f->half = (now & ACTIVE_HALF) ^ f->rehearsed;
		f->outcome = OUTCOME_UNMATCHED;
		if (find_rule(f, file, hook) && note_mode(f) != MODE_OFF)
			error = judge(note, holder, hook);
		if (f->rehearsed) {
			f->new_rule = f->rule;
			f->new_outcome = f->outcome;
		}
	}
	if (now & ACTIVE_REHEARSING)
		note_rehearsal(f);
	return answer(f, error);
}

static __always_inline int judge_exec(struct linux_binprm *bprm, __u32 now)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (is_stranger(task))
		return 0;
	if (bpf_core_field_exists(bprm->is_check) && BPF_CORE_READ_BITFIELD(bprm, is_check))
		return 0;
	return judge_launch(task, bprm->file, now, HOOK_EXEC);
}

/*
 * Once per exec, with the file that was asked for (a script, not its interpreter), before
 * the point of no return (bprm_execve(), fs/exec.c).
 */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(on_exec, struct linux_binprm *bprm, int ret)
{
	__u32 now = active;

	if (ret || !may_match(bprm->file, now, HOOK_EXEC))
		return ret;
	return judge_exec(bprm, now);
}

/* Forks and threads are known by the program that makes them. */
static __always_inline int judge_fork(struct task_struct *child, __u32 now, enum hook hook)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (is_stranger(task) || child->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER))
		return 0;
	if (!may_match(task->mm->exe_file, now, hook))
		return 0;
	return judge_launch(child, NULL, now, hook);
}

/* Once per fork and thread, before the child has a number; the fork can still fail. */
SEC("lsm/task_alloc")
int BPF_PROG(on_fork, struct task_struct *task, unsigned long clone_flags, int ret)
{
	enum hook hook = clone_flags & CLONE_THREAD ? HOOK_THREAD : HOOK_FORK;
	__u32 now = active;

	if (ret)
		return ret;
	if (any_claims())
		inherit(bpf_get_current_task_btf(), task, hook == HOOK_THREAD);
	if (!(settings[now & 1].watched >> hook & 1))
		return 0;
	return judge_fork(task, now, hook);
}

static __always_inline void end_exec_of(struct task_struct *task, bool done)
{
	struct holder *h = any_claims() ? holder_of(task) : NULL;

	if (h && h->exec_id)
		end_exec(h, done);
}

/* An exec is past the point of no return, and done. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec_done, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	end_exec_of(task, true);
	sample_claims();
	return 0;
}

/*
 * An exec failed before the point of no return, after the verdict or by it: its credentials are
 * given back (free_bprm(), fs/exec.c). Other failures of the same kind are not meant.
 */
SEC("fentry/abort_creds")
int BPF_PROG(on_exec_failed)
{
	end_exec_of(bpf_get_current_task_btf(), false);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	if (any_claims())
		end_task(task);
	/* Of a fork or thread, and of what the gate before has left. */
	sample_claims();
	return 0;
}

/*
 * A task whose fork failed; and whatever the exit program missed: the kernel leaves out a tracing
 * program that would interrupt itself on one CPU.
 */
SEC("lsm/task_free")
int BPF_PROG(on_task_free, struct task_struct *task)
{
	if (!any_claims())
		return 0;
	if (task->exit_state)
		end_task(task);
	else
		end_unborn(task);
	return 0;
}

/* A CPU comes online; of one that the daemon has never seen, nobody knows whose sibling it is. */
SEC("tp_btf/cpuhp_enter")
int BPF_PROG(on_cpu, unsigned int cpu, int target, int step)
{
	if (step == (int)bpf_core_enum_value(enum cpuhp_state, CPUHP_AP_ACTIVE) &&
	    !index_of(topology.version, cpu))
		__sync_fetch_and_add(&newcomers, 1);
	return 0;
}

/* A launch by nobody; too large for the stack. One daemon asks at a time. */
static struct need anybody = { .own_cpu = NO_CPU, .anybody = true, .by_queues = true };

/* Answers the daemon how a node stands, by the way that a launch there would be judged. */
SEC("syscall")
int survey(struct survey *s)
{
	bool rcu = bpf_ksym_exists(bpf_rcu_read_lock);
	struct scheduler sched;
	__u64 *walk;

	anybody.version = topology.version;
	if (rcu)
		bpf_rcu_read_lock();
	sched = loaded_scheduler();
	walk = begin_judging();
	s->known = look_at(&anybody, s->node);
	end_judging(walk);
	if (rcu)
		bpf_rcu_read_unlock();

	if (s->known) {
		s->source = anybody.tally.source;
		s->cores_free = anybody.tally.total;
		s->cores_claimed = anybody.tally.held;
		s->cores_owed = anybody.tally.held > anybody.tally.met
					? anybody.tally.held - anybody.tally.met
					: 0;
	}
	s->scheduler = sched.loaded;
	s->per_node = sched.per_node;
	s->tracking = sched.tracking;
	return 0;
}

/* Answers the daemon what a core does. */
SEC("syscall")
int draw(struct picture *p)
{
	bool rcu = bpf_ksym_exists(bpf_rcu_read_lock);
	__u64 *walk;

	if (rcu)
		bpf_rcu_read_lock();
	walk = begin_judging();
	draw_core(p->core);
	end_judging(walk);
	if (rcu)
		bpf_rcu_read_unlock();
	*p = drawn;
	return 0;
}

/* Lists the live claims, and whose they are: of a process, its first thread. */
SEC("iter/task")
int list_claims(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	const struct holder *h = task && any_claims() ? holder_of(task) : NULL;
	const struct claim *c;
	struct live_claim l = {};

	if (!h || !(h->thread || (h->process && task->pid == task->tgid)))
		return 0;
	c = claim_at(h->slot, h->id);
	if (!c)
		return 0;
	l.id = c->id;
	l.rule = c->rule;
	l.pid = task->tgid;
	l.tid = task->pid;
	bpf_probe_read_kernel_str(l.comm, sizeof(l.comm), task->comm);
	__builtin_memcpy(l.held, c->held, sizeof(l.held));
	bpf_seq_write(ctx->meta->seq, &l, sizeof(l));
	return 0;
}

/*
 * An update of a map of maps returns when no program runs any more that had begun before
 * (maybe_wait_bpf_programs(), kernel/bpf/syscall.c). This one is there for that alone: before the
 * daemon writes into the half of the tables that held last.
 */
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} turn_inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct inner);
} turn SEC(".maps");

/* Types of the ABI that neither a map nor a function names: this keeps their BTF. */
const struct {
	struct event event;
	enum limits limits;
	enum claim_limits claim_limits;
	enum active active;
	enum shape shape;
	enum string_kind string_kind;
	enum literal_kind literal_kind;
	enum key_exe key_exe;
	struct claim_head claim_head;
	enum order_word order_word;
	enum doing doing;
	struct live_claim live_claim;
} abi_types = {};

char LICENSE[] SEC("license") = "GPL";
