// SPDX-License-Identifier: GPL-2.0-only
/*
 * sched_ext schedulers that differ in their idle tracking, and one that takes sub-schedulers.
 * They leave everything else to the kernel's defaults: one FIFO for all. Those that track stay
 * when a CPU comes or goes; the kernel ends one without these callbacks then.
 */
#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
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

/* 7.2: the same for schedulers that number CPUs in their own way, as a parent must. */
struct sched_ext_ops_cid {
	__s32 (*sub_attach)(void *args);
	__u64 flags;
	char name[128];
};

/* BPF_MAP_TYPE_ARENA. The kernel demands one of such a scheduler, and takes pages of it. */
struct {
	__uint(type, 33);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 10);
} arena SEC(".maps");

/* SCX_OPS_BUILTIN_IDLE_PER_NODE (kernel/sched/ext_internal.h). */
#define PER_NODE (1 << 6)

SEC("struct_ops/select_cpu")
__s32 BPF_PROG(stay, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	return prev_cpu;
}

extern int scx_bpf_test_and_clear_cpu_idle(__s32 cpu) __ksym __weak;

/* Claims all idle CPUs, and uses none of them. */
SEC("struct_ops/select_cpu")
__s32 BPF_PROG(lose_idle, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	for (__s32 cpu = 0; cpu < 8; cpu++)
		scx_bpf_test_and_clear_cpu_idle(cpu);
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

SEC("struct_ops/sub_attach")
__s32 BPF_PROG(take_all, void *args)
{
	/* What a program names is its own. */
	asm volatile("" : : "r"(&arena));
	return 0;
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

SEC(".struct_ops.link")
struct sched_ext_ops careless = {
	.select_cpu = (void *)lose_idle,
	.cpu_online = (void *)stay_online,
	.cpu_offline = (void *)stay_offline,
	.flags = PER_NODE,
	.name = "test_careless",
};

SEC(".struct_ops.link")
struct sched_ext_ops_cid parent = {
	.sub_attach = (void *)take_all,
	.flags = PER_NODE,
	.name = "test_parent",
};

char LICENSE[] SEC("license") = "GPL";
