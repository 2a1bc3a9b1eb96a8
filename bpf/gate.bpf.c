// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate: LSM hooks that judge launches. Hooks are doorways: another LSM's denial
 * passes, strangers pass, the rest is judged behind them.
 */
#include "abi.h"
#include "kernel.h"
#include "idle.bpf.h"
#include "match.bpf.h"

struct settings settings;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* 1 MiB holds some 2,900 events, until the daemon reads them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __u64 next_id;

/* What is known of a launch under judgement. */
struct launch {
	struct task_struct *task;
	const struct exe_key *exe;
	__u32 rule;
	__u32 uid;
	__u32 gid;
	enum hook hook;
};

/* What is said of it. */
struct judgement {
	enum verdict verdict;
	enum effect effect;
	struct idle idle;
	__u32 node;
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

static __always_inline void count(__u32 rule, const struct judgement *j)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);

	if (!c)
		return;
	__sync_fetch_and_add(&c->launches, 1);
	if (j->verdict == VERDICT_UNKNOWN)
		__sync_fetch_and_add(&c->unknown, 1);
	if (j->effect == EFFECT_ADMITTED)
		__sync_fetch_and_add(&c->admitted, 1);
	else if (j->effect == EFFECT_DENIED)
		__sync_fetch_and_add(&c->denied, 1);
	else
		__sync_fetch_and_add(&c->would_deny, 1);
}

static __always_inline void report(const struct launch *l, const struct rule *rule,
				   const struct judgement *j)
{
	__u64 id = __sync_fetch_and_add(&next_id, 1);
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&failures.events_lost, 1);
		return;
	}
	e->time = bpf_ktime_get_boot_ns();
	e->id = id;
	e->verdict = j->verdict;
	e->effect = j->effect;
	e->rule = l->rule;
	e->hook = l->hook;
	e->pid = l->task->tgid;
	e->uid = l->uid;
	e->gid = l->gid;
	e->cpu = bpf_get_smp_processor_id();
	e->node = j->node;
	e->cores_needed = rule->cores;
	e->cores_free = j->idle.free;
	e->cores_claimed = 0;
	e->source = j->idle.source;
	e->err = j->effect == EFFECT_DENIED ? -rule->denial : 0;
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

/* Judges a launch that a rule watches: 0, or the errno of its denial, negative. */
static __always_inline int judge(const struct launch *l)
{
	const struct rule *rule = bpf_map_lookup_elem(&rules, &l->rule);
	struct judgement j = { .verdict = VERDICT_UNKNOWN };

	if (!rule) {
		__sync_fetch_and_add(&failures.rules_unread, 1);
		return 0;
	}
	j.node = bpf_get_numa_node_id();
	j.idle = free_cores(j.node, l->task);
	if (j.idle.known)
		j.verdict = j.idle.free >= rule->cores ? VERDICT_ADMIT : VERDICT_DENY;
	j.effect = effect_of(j.verdict, rule);
	count(l->rule, &j);
	report(l, rule, &j);
	return j.effect == EFFECT_DENIED ? denial(rule) : 0;
}

static __always_inline int judge_exec(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct exe_key exe = {};
	struct launch l = { .task = task, .exe = &exe, .hook = HOOK_EXEC };
	__s64 rule;

	if (is_stranger(task) || !read_exe(bprm->file, &exe))
		return 0;
	l.uid = task->cred->euid.val;
	l.gid = task->cred->egid.val;
	rule = find_rule(&exe, l.uid);
	if (rule == NO_RULE)
		return 0;
	if (bpf_core_field_exists(bprm->is_check) && BPF_CORE_READ_BITFIELD(bprm, is_check))
		return 0;
	l.rule = rule;
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

/* No rule can watch forks or threads yet: all of them pass. */
SEC("lsm/task_alloc")
int BPF_PROG(on_fork, struct task_struct *task, unsigned long clone_flags, int ret)
{
	return ret;
}

/* Answers the daemon how a node stands, by the way that a launch there would be judged. */
SEC("syscall")
int survey(struct survey *s)
{
	bool rcu = bpf_ksym_exists(bpf_rcu_read_lock);
	struct scheduler sched;
	struct idle idle;

	if (rcu)
		bpf_rcu_read_lock();
	sched = loaded_scheduler();
	idle = free_cores(s->node, NULL);
	if (rcu)
		bpf_rcu_read_unlock();

	s->known = idle.known;
	s->source = idle.source;
	s->cores_free = idle.free;
	s->scheduler = sched.loaded;
	s->per_node = sched.per_node;
	s->tracking = sched.tracking;
	return 0;
}

/* Types of the ABI that neither a map nor a function names: this keeps their BTF. */
const struct {
	struct event event;
	enum limits limits;
} abi_types = {};

char LICENSE[] SEC("license") = "GPL";
