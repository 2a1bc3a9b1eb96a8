/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types, kfuncs and symbols that only the gate uses, and no others. Fields are
 * relocated at load (CO-RE), so only their names must be right; each entry says which
 * kernel brought it when that is later than 6.1, the oldest one supported.
 */
#ifndef COREGATE_KERNEL_H
#define COREGATE_KERNEL_H

#include "common.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

typedef struct {
	int counter;
} atomic_t;

struct group_info {
	int ngroups;
	/* In ascending order. */
	kgid_t gid[];
};

struct cred {
	kuid_t euid;
	kgid_t egid;
	struct group_info *group_info;
};

/* Up to CONFIG_NR_CPUS bits; Debian builds with 8192. */
struct cpumask {
	unsigned long bits[1];
};

struct signal_struct {
	/* Threads of the process that do not exit yet. */
	atomic_t live;
};

struct list_head {
	struct list_head *next;
};

struct sched_entity {
	struct list_head group_node;
	/* 6.12: it went to sleep and only waits to be taken off. */
	unsigned char sched_delayed;
};

/* 6.12. */
struct sched_ext_entity {
	struct list_head runnable_node;
};

struct mm_struct;
struct dentry;
struct vfsmount;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct fs_struct {
	struct path root;
};

struct mnt_namespace {
	struct user_namespace *user_ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct kernfs_node {
	const char *name;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
	/* By level, itself included. */
	struct cgroup *ancestors[];
};

struct css_set {
	/* In the unified hierarchy. */
	struct cgroup *dfl_cgrp;
};

struct thread_info {
	/* x86. */
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	/* 0 until it exits. */
	int exit_state;
	struct signal_struct *signal;
	struct mm_struct *mm;
	const struct cred *cred;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
	char comm[16];
	/*
	 * Not cpus_ptr: that points to the one present CPU for a task that was
	 * preempted while migration was disabled, as it is in a BPF program
	 * (migrate_disable_switch(), kernel/sched/core.c).
	 */
	struct cpumask cpus_mask;
	int nr_cpus_allowed;
	struct sched_entity se;
	/* 6.12. */
	struct sched_ext_entity scx;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct hlist_bl_node {
	/* NULL while it is in no list. */
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	/* Of a root, itself. */
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct vfsmount mnt;
	/* NULL or an errno where it is in none. */
	struct mnt_namespace *mnt_ns;
};

struct file {
	struct path f_path;
};

struct mm_struct {
	struct file *exe_file;
};

/* The registers with which a task asked for a system call. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs___call {
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs___call {
	__u64 regs[31];
	__s32 syscallno;
};
#endif

struct pid_namespace {
	/* Its PID 1. */
	struct task_struct *child_reaper;
};

struct linux_binprm {
	struct file *file;
	/* 6.14: an AT_EXECVE_CHECK probe, which starts nothing. */
	unsigned int is_check : 1;
};

struct cfs_rq {
	unsigned int h_nr_queued;
	/* 6.12: without those that only wait to be taken off. */
	unsigned int h_nr_runnable;
};

/* 6.12. */
struct scx_rq {
	struct list_head runnable_list;
};

struct rq {
	struct cfs_rq cfs;
	struct list_head cfs_tasks;
	/* 6.12. */
	struct scx_rq scx;
	/* 0 while the CPU is offline (kernel/sched/core.c, sched_cpu_deactivate()). */
	int online;
	unsigned int nr_running;
	unsigned int ttwu_pending;
	/* Ever growing. */
	__u64 nr_switches;
	struct task_struct *curr;
	struct task_struct *idle;
};

struct static_key {
	atomic_t enabled;
};

/* Read as what it is in memory: one pointer. */
struct hlist_head {
	struct hlist_node *first;
};

/* 6.12: sched_ext. */
struct sched_ext_ops {
	void (*update_idle)(__s32 cpu, bool idle);
	/* 7.1: sub-schedulers. */
	__s32 (*sub_attach)(void *args);
	__u64 flags;
	char name[128];
};

/* 6.16: one object holds a loaded scheduler, scx_root points to it. */
struct scx_sched {
	struct sched_ext_ops ops;
	/* 7.2: CPUs go by dense ids of the scheduler's own. */
	bool is_cid_type;
};

#pragma clang attribute pop

enum cpuhp_state {
	/* The step of a CPU's coming that lets tasks run there. */
	CPUHP_AP_ACTIVE = 235,
};

enum scx_ops_flags {
	SCX_OPS_KEEP_BUILTIN_IDLE = 1,
	/* 6.15. */
	SCX_OPS_BUILTIN_IDLE_PER_NODE = 64,
};

/* include/linux/sched.h; macros there, so not in BTF. */
#define PF_IO_WORKER 0x00000010
#define PF_USER_WORKER 0x00004000 /* 6.4; earlier the bit is free */

/* arch/x86/include/asm/thread_info.h: the system call is one of a 32-bit program. */
#define TS_COMPAT 0x0002

/* include/uapi/linux/sched.h. */
#define CLONE_THREAD 0x00010000

/* include/linux/err.h. */
#define MAX_ERRNO 4095

extern const struct rq runqueues __ksym;

/* kernel/pid.c: the first namespace. Weak only because its data has no type. */
extern const void init_pid_ns __ksym __weak;

/*
 * kernel/sched/ext.c and ext_idle.c. Data without a type: their addresses are known only
 * to kernels with CONFIG_KALLSYMS_ALL, else they are 0 here.
 */
extern const void scx_root __ksym __weak;
extern const void scx_enable_seq __ksym __weak;
extern const void scx_builtin_idle_enabled __ksym __weak;
extern const void scx_builtin_idle_per_node __ksym __weak;
/* kernel/cpu.c. It begins with the mask of no CPU, cpu_none_mask. */
extern const void cpu_bit_bitmap __ksym __weak;

/* 6.12. */
extern const struct cpumask *scx_bpf_get_idle_smtmask(void) __ksym __weak;

/*
 * 6.2. A pointer of the given type to anywhere: what it leads to may be read in place, and reads
 * as 0 where there is no memory.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define kernel_cast(type, ptr) ((const type *)bpf_rdonly_cast(ptr, bpf_core_type_id_kernel(type)))

/*
 * BPF_CORE_READ from a pointer to anywhere: in place where the kernel can cast, as each call that
 * reads costs as much as a dozen such loads.
 */
#define peek(type, ptr, ...)                                                              \
	(bpf_ksym_exists(bpf_rdonly_cast) ? ___arrow(kernel_cast(type, ptr), __VA_ARGS__) \
					  : BPF_CORE_READ((const type *)(ptr), __VA_ARGS__))

/* 6.2; by its number in the first namespace. */
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

/* 6.12. */
extern struct file *bpf_get_task_exe_file(struct task_struct *task) __ksym __weak;
extern void bpf_put_file(struct file *file) __ksym __weak;

/* 6.2. */
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

#endif
