// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three sched_ext schedulers that differ in their idle tracking and leave everything else
 * to the kernel's defaults: one FIFO for all. Those that track stay when a CPU comes or goes;
 * the kernel ends one without these callbacks then.
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
	void (*cpu_online)(__s32 cpu);
	void (*cpu_offline)(__s32 cpu);
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

SEC("struct_ops/cpu_online")
void BPF_PROG(stay_online, __s32 cpu)
{
}

SEC("struct_ops/cpu_offline")
void BPF_PROG(stay_offline, __s32 cpu)
{
}

SEC(".struct_ops.link")
struct sched_ext_ops per_node = {
	.cpu_online = (void *)stay_online,
	.cpu_offline = (void *)stay_offline,
	.flags = PER_NODE,
	.name = "test_per_node",
};

SEC(".struct_ops.link")
struct sched_ext_ops flat = {
	.cpu_online = (void *)stay_online,
	.cpu_offline = (void *)stay_offline,
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
