// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many whole cores of the launcher's NUMA node are idle, at each exec, by sched_ext's idle
 * SMT mask: the program that docs/idle-smtmask.md takes apart.
 */
#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* With a body: libbpf does not take a type without one for the kernel's. */
struct cpumask {
	unsigned long bits[1];
};

extern const struct cpumask *scx_bpf_get_idle_smtmask_node(int node) __ksym __weak;
extern void scx_bpf_put_idle_cpumask(const struct cpumask *mask) __ksym __weak;
/* A bool in the kernel. On x86 only its low byte is set, and clang may test all of it. */
extern int bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *mask) __ksym __weak;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* Data of kernel/sched/ext.c and ext_idle.c, and of kernel/cpu.c; BTF has no types for it. */
extern const void scx_root __ksym __weak;
extern const void scx_enable_seq __ksym __weak;
extern const void scx_builtin_idle_enabled __ksym __weak;
extern const void scx_builtin_idle_per_node __ksym __weak;
extern const void cpu_bit_bitmap __ksym __weak;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct linux_binprm;

struct sched_ext_ops {
	void (*update_idle)(__s32 cpu, bool idle);
	/* Since 7.1. */
	__s32 (*sub_attach)(void *args);
	__u64 flags;
};

struct scx_sched {
	struct sched_ext_ops ops;
	/* Since 7.2. */
	bool is_cid_type;
};

/* One that is a pointer to anything, and one that is a counter. */
struct hlist_head {
	void *first;
};

struct static_key {
	struct {
		int counter;
	} enabled;
};

#pragma clang attribute pop

enum scx_ops_flags {
	SCX_OPS_KEEP_BUILTIN_IDLE = 1,
	SCX_OPS_BUILTIN_IDLE_PER_NODE = 64,
};

#define kernel_cast(type, ptr) ((const type *)bpf_rdonly_cast(ptr, bpf_core_type_id_kernel(type)))

/* A static key: 1 on, 0 off, -1 while its code is being patched. */
static int key_at(const void *at)
{
	return kernel_cast(struct static_key, at)->enabled.counter;
}

/* How long the masks of a scheduler that was just seen are not believed, in ns. */
#define SETTLES 500000000ULL

__u32 seen_seq;
__u64 seen_since;

static bool has_settled(void)
{
	__u32 seq = key_at(&scx_enable_seq);
	__u64 now = bpf_ktime_get_ns();

	if (seq != seen_seq) {
		seen_since = now;
		barrier();
		seen_seq = seq;
	}
	return now - seen_since >= SETTLES;
}

/*
 * Whether the kfunc may be called now. The answer holds for the RCU read section in which it
 * was given, and no longer: within one, no scheduler takes the place of another.
 */
static bool may_ask(void)
{
	const struct scx_sched *sched;
	__u64 flags;

	if (!bpf_core_type_exists(struct scx_sched) || !bpf_ksym_exists(&scx_root) ||
	    !bpf_ksym_exists(&scx_enable_seq) || !bpf_ksym_exists(&scx_builtin_idle_enabled) ||
	    !bpf_ksym_exists(&scx_builtin_idle_per_node) ||
	    !bpf_ksym_exists(scx_bpf_get_idle_smtmask_node))
		return false;
	sched = kernel_cast(struct scx_sched, kernel_cast(struct hlist_head, &scx_root)->first);
	if (!sched)
		return false;
	/* What it asked for: fixed for its life. */
	flags = sched->ops.flags;
	if (!(flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_BUILTIN_IDLE_PER_NODE)))
		return false;
	if (sched->ops.update_idle &&
	    !(flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_KEEP_BUILTIN_IDLE)))
		return false;
	/* It answers none but its own. */
	if (bpf_core_field_exists(sched->ops.sub_attach) && sched->ops.sub_attach)
		return false;
	if (bpf_core_field_exists(sched->is_cid_type) && sched->is_cid_type)
		return false;
	/* What is in force: while a scheduler comes or goes the two differ. */
	return key_at(&scx_builtin_idle_enabled) == 1 && key_at(&scx_builtin_idle_per_node) == 1 &&
	       has_settled();
}

/* The kernel's nr_cpu_ids, and by CPU: the node of the core whose first online thread it is, or -1. */
#define CPUS_MAX 1024

const volatile __u32 nr_cpus;
const volatile __s32 leads_on[CPUS_MAX];

/* A core is counted by its first thread: the mask has the others, too. */
static __s32 count_cores(const struct cpumask *mask, __s32 node)
{
	__s32 cores = 0;

	for (__u32 cpu = 0; cpu < CPUS_MAX && cpu < nr_cpus; cpu++)
		if (leads_on[cpu] == node && bpf_cpumask_test_cpu(cpu, mask) & 0xff)
			cores++;
	return cores;
}

/* Idle cores of the node, or -1: it is not known. */
static __s32 idle_cores(__s32 node)
{
	const struct cpumask *mask;
	__s32 cores;

	if (!may_ask())
		return -1;
	mask = scx_bpf_get_idle_smtmask_node(node);
	/* For a program that no scheduler is for: not "no core is idle". */
	cores = mask == (const void *)&cpu_bit_bitmap ? -1 : count_cores(mask, node);
	scx_bpf_put_idle_cpumask(mask);
	return cores;
}

__s32 idle_at_last_exec;
__u64 execs;

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(count_at_exec, struct linux_binprm *bprm, int ret)
{
	idle_at_last_exec = idle_cores(bpf_get_numa_node_id());
	__sync_fetch_and_add(&execs, 1);
	/* What another LSM said stands. */
	return ret;
}

char LICENSE[] SEC("license") = "GPL";
