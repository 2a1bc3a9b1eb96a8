// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three sched_ext schedulers that differ in their idle tracking and leave everything else
 * to the kernel's defaults: one FIFO for all.
 */
#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct task_struct;

/* libbpf finds the members in the kernel's own struct, by name. */
struct sched_ext_ops {
	__s32 (*select_cpu)(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags);
	void (*update_idle)(__s32 cpu, bool idle);
	__u64 flags;
	char name[128];
};

/* SCX_OPS_BUILTIN_IDLE_PER_NODE (kernel/sched/ext_internal.h). */
#define PER_NODE (1 << 6)

SEC("struct_ops/select_cpu")
__s32 BPF_PROG(stay, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	return prev_cpu;
}

SEC("struct_ops/update_idle")
void BPF_PROG(track_nothing, __s32 cpu, bool idle)
{
}

SEC(".struct_ops.link")
struct sched_ext_ops per_node = {
	.flags = PER_NODE,
	.name = "test_per_node",
};

SEC(".struct_ops.link")
struct sched_ext_ops flat = {
	.name = "test_flat",
};

/* update_idle without SCX_OPS_KEEP_BUILTIN_IDLE turns the kernel's own tracking off. */
SEC(".struct_ops.link")
struct sched_ext_ops untracked = {
	.select_cpu = (void *)stay,
	.update_idle = (void *)track_nothing,
	.name = "test_untracked",
};

char LICENSE[] SEC("license") = "GPL";
