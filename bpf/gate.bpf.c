// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate: LSM hooks that judge launches. Hooks are doorways: another LSM's denial
 * passes, strangers pass, the rest is judged behind them.
 */
#include "abi.h"
#include "kernel.h"
#include "claims.bpf.h"
#include "counts.bpf.h"
#include "idle.bpf.h"
#include "match.bpf.h"
#include "need.bpf.h"

/* A bit for each hook that a rule of the policy watches. */
const volatile __u32 watched = 1 << HOOK_EXEC;

/* 1 MiB holds some 2,900 events, until the daemon reads them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __u64 next_id;

/* What is known of a launch under judgement. */
struct launch {
	/* Whose the claim will be. */
	struct task_struct *holder;
	const struct exe *exe;
	__u32 rule;
	__u32 uid;
	enum hook hook;
};

/*
 * Those that are never denied, whatever a rule says: threads of the kernel, its helpers such
 * as modprobe, which have no memory of their own before their exec (kernel/umh.c), PID 1.
 */
static __always_inline bool is_stranger(const struct task_struct *task)
{
	return task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER) || !task->mm ||
	       task->tgid == 1;
}

static __always_inline enum effect effect_of(enum verdict verdict, const struct rule *rule)
{
	if (verdict == VERDICT_ADMIT)
		return EFFECT_ADMITTED;
	if (verdict == VERDICT_UNKNOWN && settings.on_unknown != ACTION_DENY)
		return EFFECT_ADMITTED;
	if (settings.mode != MODE_ENFORCE || rule->action != ACTION_DENY)
		return EFFECT_LOGGED;
	return EFFECT_DENIED;
}

static __always_inline void report(const struct launch *l, const struct rule *rule,
				   const struct need *n, enum effect effect)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 id = __sync_fetch_and_add(&next_id, 1);
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&failures.events_lost, 1);
		return;
	}
	e->time = bpf_ktime_get_boot_ns();
	e->id = id;
	e->verdict = n->verdict;
	e->effect = effect;
	e->rule = l->rule;
	e->hook = l->hook;
	e->pid = task->tgid;
	e->uid = l->uid;
	e->gid = task->cred->egid.val;
	e->cpu = bpf_get_smp_processor_id();
	e->node = n->node;
	e->cores_needed = rule->cores;
	e->cores_free = n->free;
	e->cores_claimed = n->unmet;
	e->source = n->source;
	e->err = effect == EFFECT_DENIED ? -rule->denial : 0;
	e->mode = settings.mode;
	e->generation = settings.generation;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	__builtin_memcpy(e->exe, l->exe->path, sizeof(e->exe));
	bpf_ringbuf_submit(e, 0);
}

/*
 * What the hook answers for a denial. The verifier wants to see that it is an errno, and
 * tracks no negation before 6.17 (kernel/bpf/verifier.c): so it comes negative, and 64 bits
 * wide.
 */
static __always_inline int denial(const struct rule *rule)
{
	__s64 denial = rule->denial;

	if (denial < -MAX_ERRNO || denial >= 0)
		return -EAGAIN;
	return denial;
}

/* The claim that its process has already: the exec of a holder makes more or less of it. */
static __always_inline void begin_exec(struct holder *h)
{
	/* Left by an exec whose end was missed. */
	if (h->exec_id)
		end_exec(h, false);
	if (h->process && claim_at(h->slot, h->id)) {
		h->need.taker.slot = h->slot;
		h->need.taker.id = h->id;
	}
}

/* A child has the claim that was taken for it; of an exec that is seen when it is done. */
static __always_inline void begin_child(struct holder *h, enum hook hook)
{
	h->process = hook == HOOK_FORK;
	h->thread = hook == HOOK_THREAD;
	h->newborn = true;
	begin_at(h->slot, h->id);
}

/* Judges a launch that a rule watches: 0, or the errno of its denial, negative. */
static __always_inline int judge(const struct launch *l)
{
	const struct rule *rule = bpf_map_lookup_elem(&rules, &l->rule);
	struct task_struct *task = bpf_get_current_task_btf();
	struct holder *self, *h;
	enum effect effect;
	struct need *n;

	if (!rule) {
		__sync_fetch_and_add(&failures.rules_unread, 1);
		return 0;
	}
	if (rule->action == ACTION_EXEMPT) {
		count_exempt(l->rule);
		return 0;
	}
	self = note_of(task);
	h = l->holder == task ? self : note_of(l->holder);
	if (!self || !h) {
		effect = effect_of(VERDICT_UNKNOWN, rule);
		count_launch(l->rule, VERDICT_UNKNOWN, effect);
		__sync_fetch_and_add(&failures.events_lost, 1);
		return effect == EFFECT_DENIED ? denial(rule) : 0;
	}
	n = &self->need;
	n->taker.wants.rule = rule->key;
	n->taker.wants.holds = rule->hold != HOLD_NONE;
	n->taker.wants.settle_ns = rule->settle_ns;
	n->taker.exec = l->hook == HOOK_EXEC;
	n->taker.slot = 0;
	n->taker.id = 0;
	n->cores = rule->cores;
	n->scope = rule->scope;
	n->nodes = rule->nodes;
	n->own_cpu = bpf_get_smp_processor_id();
	n->own_core = rule->own_core >> l->hook & 1;
	n->own_tgid = 0;
	n->home = bpf_get_numa_node_id();
	n->source = SOURCE_NONE;
	/* By a gate that is just being replaced. */
	if (l->hook != HOOK_EXEC && h->newborn)
		release(h->slot, h->id);
	if (l->hook == HOOK_EXEC) {
		if (task->signal->live.counter > 1)
			n->own_tgid = task->tgid;
		begin_exec(self);
	}
	meet(n, h);
	if (n->verdict == VERDICT_ADMIT && n->taker.id && l->hook != HOOK_EXEC)
		begin_child(h, l->hook);
	effect = effect_of(n->verdict, rule);
	count_launch(l->rule, n->verdict, effect);
	report(l, rule, n, effect);
	return effect == EFFECT_DENIED ? denial(rule) : 0;
}

static __always_inline int judge_exec(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct launch l = { .holder = task, .hook = HOOK_EXEC };

	if (is_stranger(task))
		return 0;
	l.exe = find_exe(bprm->file);
	if (!l.exe)
		return 0;
	l.uid = task->cred->euid.val;
	l.rule = find_rule(l.exe, HOOK_EXEC, l.uid);
	if (l.rule == NO_RULE)
		return 0;
	if (bpf_core_field_exists(bprm->is_check) && BPF_CORE_READ_BITFIELD(bprm, is_check))
		return 0;
	return judge(&l);
}

/*
 * Once per exec, with the file that was asked for (a script, not its interpreter), before
 * the point of no return (bprm_execve(), fs/exec.c).
 */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(on_exec, struct linux_binprm *bprm, int ret)
{
	if (ret || !name_may_match(bprm->file))
		return ret;
	return judge_exec(bprm);
}

/* Forks and threads are known by the program that makes them. */
static __always_inline int judge_fork(struct task_struct *child, enum hook hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct launch l = { .holder = child, .hook = hook };
	struct file *file;

	if (is_stranger(task) || child->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER))
		return 0;
	if (!name_may_match(task->mm->exe_file))
		return 0;
	if (bpf_ksym_exists(bpf_get_task_exe_file)) {
		file = bpf_get_task_exe_file(task);
		if (!file)
			return 0;
		l.exe = find_exe(file);
		bpf_put_file(file);
	} else {
		l.exe = find_exe(task->mm->exe_file);
	}
	if (!l.exe)
		return 0;
	l.uid = task->cred->euid.val;
	l.rule = find_rule(l.exe, hook, l.uid);
	return l.rule == NO_RULE ? 0 : judge(&l);
}

/* Once per fork and thread, before the child has a number; the fork can still fail. */
SEC("lsm/task_alloc")
int BPF_PROG(on_fork, struct task_struct *task, unsigned long clone_flags, int ret)
{
	enum hook hook = clone_flags & CLONE_THREAD ? HOOK_THREAD : HOOK_FORK;

	if (ret)
		return ret;
	if (any_claims())
		inherit(bpf_get_current_task_btf(), task, hook == HOOK_THREAD);
	if (!(watched >> hook & 1))
		return 0;
	return judge_fork(task, hook);
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
static struct need anybody = { .own_cpu = NO_CPU, .anybody = true };

/* Answers the daemon how a node stands, by the way that a launch there would be judged. */
SEC("syscall")
int survey(struct survey *s)
{
	bool rcu = bpf_ksym_exists(bpf_rcu_read_lock);
	struct scheduler sched;
	enum look look;

	anybody.version = topology.version;
	if (rcu)
		bpf_rcu_read_lock();
	sched = loaded_scheduler();
	look = look_at(&anybody, s->node);
	if (rcu)
		bpf_rcu_read_unlock();

	if (look != LOOKED_AT_NOTHING) {
		s->known = true;
		s->source = anybody.tally.source;
		s->cores_free = anybody.tally.total;
		s->cores_claimed = anybody.tally.held;
	}
	s->scheduler = sched.loaded;
	s->per_node = sched.per_node;
	s->tracking = sched.tracking;
	return 0;
}

/* Types of the ABI that neither a map nor a function names: this keeps their BTF. */
const struct {
	struct event event;
	enum limits limits;
	struct claim_head claim_head;
} abi_types = {};

char LICENSE[] SEC("license") = "GPL";
