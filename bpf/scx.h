/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types, enumerators and kfuncs that only the companion uses, and no others.
 * Everything here is in 6.16, the oldest kernel the companion supports, unless the entry
 * says otherwise. Fields and enumerators are relocated at load (CO-RE): only their names
 * must be right, and the values written here mean nothing.
 */
#ifndef COREGATE_SCX_H
#define COREGATE_SCX_H

#include <linux/version.h>
#include "common.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
/* bpf_for() of libbpf wants it; the user-space headers have it since 6.4. */
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));
#endif

enum scx_exit_kind {
	SCX_EXIT_DONE = 1,
	SCX_EXIT_UNREG = 2,
	SCX_EXIT_UNREG_BPF = 3,
	SCX_EXIT_UNREG_KERN = 4,
	SCX_EXIT_SYSRQ = 5,
	SCX_EXIT_ERROR = 6,
	SCX_EXIT_ERROR_BPF = 7,
	SCX_EXIT_ERROR_STALL = 8,
};

/* The most CPUs a kernel can have: NR_CPUS under CONFIG_MAXSMP, arch/x86/Kconfig. */
#define MAX_CPUS 8192

/* Not relocated: the companion has cpumasks of its own. */
struct cpumask {
	unsigned long bits[MAX_CPUS / 64];
};

/* Opaque, and only on the stack: its size counts. */
struct bpf_iter_scx_dsq {
	__u64 __opaque[6];
} __attribute__((aligned(8)));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_ext_entity {
	__u32 flags;
	__u32 weight;
	__u64 slice;
	__u64 dsq_vtime;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
};

struct task_struct {
	unsigned int flags;
	struct sched_ext_entity scx;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	unsigned short migration_disabled;
	int pid;
};

struct scx_init_task_args {
	bool fork;
	/* Only with CONFIG_EXT_GROUP_SCHED. */
	struct cgroup *cgroup;
};

struct scx_cgroup_init_args {
	__u32 weight;
};

struct scx_exit_info {
	enum scx_exit_kind kind;
	__s64 exit_code;
	const char *reason;
	char *msg;
};

#pragma clang attribute pop

/* libbpf finds each member in the kernel's own struct, by name. */
struct sched_ext_ops {
	__s32 (*select_cpu)(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags);
	void (*enqueue)(struct task_struct *p, __u64 enq_flags);
	void (*dispatch)(__s32 cpu, struct task_struct *prev);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	void (*quiescent)(struct task_struct *p, __u64 deq_flags);
	__s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	/* Only with CONFIG_EXT_GROUP_SCHED; else the loader clears them. */
	__s32 (*cgroup_init)(struct cgroup *cgroup, struct scx_cgroup_init_args *args);
	void (*cgroup_exit)(struct cgroup *cgroup);
	void (*cgroup_move)(struct task_struct *p, struct cgroup *from, struct cgroup *to);
	void (*cgroup_set_weight)(struct cgroup *cgroup, __u32 weight);
	__s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	__u64 flags;
	__u64 hotplug_seq;
	char name[128];
};

enum scx_dsq_id_flags {
	SCX_DSQ_LOCAL = 1,
	SCX_DSQ_LOCAL_ON = 2,
};

enum scx_enq_flags {
	SCX_ENQ_WAKEUP = 1,
	SCX_ENQ_CPU_SELECTED = 2,
	SCX_ENQ_PREEMPT = 3,
	SCX_ENQ_LAST = 4,
};

enum scx_wake_flags {
	SCX_WAKE_FORK = 1,
};

enum scx_kick_flags {
	SCX_KICK_IDLE = 1,
	SCX_KICK_PREEMPT = 2,
};

enum scx_pick_idle_cpu_flags {
	SCX_PICK_IDLE_CORE = 1,
	SCX_PICK_IDLE_IN_NODE = 2,
};

enum scx_ent_flags {
	SCX_TASK_QUEUED = 1,
};

enum scx_exit_code {
	SCX_ECODE_ACT_RESTART = 1,
};

/* The running kernel's value of an enumerator above. */
#define DSQ(name) bpf_core_enum_value(enum scx_dsq_id_flags, SCX_DSQ_##name)
#define ENQ(name) bpf_core_enum_value(enum scx_enq_flags, SCX_ENQ_##name)
#define KICK(name) bpf_core_enum_value(enum scx_kick_flags, SCX_KICK_##name)
#define PICK(name) bpf_core_enum_value(enum scx_pick_idle_cpu_flags, SCX_PICK_IDLE_##name)
#define WAKE(name) bpf_core_enum_value(enum scx_wake_flags, SCX_WAKE_##name)
#define EXIT(name) bpf_core_enum_value(enum scx_exit_kind, SCX_EXIT_##name)
#define TASK_FLAG(name) bpf_core_enum_value(enum scx_ent_flags, SCX_TASK_##name)
#define EXIT_CODE(name) bpf_core_enum_value(enum scx_exit_code, SCX_ECODE_##name)

extern __s32 scx_bpf_create_dsq(__u64 dsq_id, __s32 node) __ksym;
extern __s32 scx_bpf_dsq_nr_queued(__u64 dsq_id) __ksym;
extern void scx_bpf_dsq_insert(struct task_struct *p, __u64 dsq_id, __u64 slice,
			       __u64 enq_flags) __ksym;
extern int bpf_iter_scx_dsq_new(struct bpf_iter_scx_dsq *it, __u64 dsq_id, __u64 flags) __ksym;
extern struct task_struct *bpf_iter_scx_dsq_next(struct bpf_iter_scx_dsq *it) __ksym;
extern void bpf_iter_scx_dsq_destroy(struct bpf_iter_scx_dsq *it) __ksym;
extern void scx_bpf_kick_cpu(__s32 cpu, __u64 flags) __ksym;
extern __s32 scx_bpf_task_cpu(const struct task_struct *p) __ksym;
extern __u64 scx_bpf_now(void) __ksym;
extern void scx_bpf_error_bstr(char *fmt, unsigned long long *data, __u32 data__sz) __ksym;

extern __s32 scx_bpf_pick_idle_cpu_node(const struct cpumask *allowed, int node,
					__u64 flags) __ksym;
extern const struct cpumask *scx_bpf_get_idle_cpumask_node(int node) __ksym;

extern struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgroup, int level) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgroup) __ksym;

extern __u32 bpf_cpumask_any_distribute(const struct cpumask *mask) __ksym;

/* These return a bool, so they are called by the names below: see low_byte(). */
extern int scx_bpf_dsq_move_to_local(__u64 dsq_id) __ksym;
extern int scx_bpf_dsq_move(struct bpf_iter_scx_dsq *it__iter, struct task_struct *p, __u64 dsq_id,
			    __u64 enq_flags) __ksym;
extern int scx_bpf_test_and_clear_cpu_idle(__s32 cpu) __ksym;
extern int bpf_cpumask_subset(const struct cpumask *inner, const struct cpumask *outer) __ksym;
extern int bpf_cpumask_intersects(const struct cpumask *a, const struct cpumask *b) __ksym;

#define move_to_local(dsq_id) low_byte(scx_bpf_dsq_move_to_local(dsq_id))
#define move_one_to_local(it, p) low_byte(scx_bpf_dsq_move(it, p, DSQ(LOCAL), 0))
#define claim_idle(cpu) low_byte(scx_bpf_test_and_clear_cpu_idle(cpu))
#define mask_covers(outer, inner) low_byte(bpf_cpumask_subset(inner, outer))
#define mask_meets(a, b) low_byte(bpf_cpumask_intersects(a, b))

/* Ends the scheduler, with words and one number that ops.exit() passes on. */
#define scx_error(text, number)                                                  \
	({                                                                       \
		static char ___text[] = text;                                    \
		unsigned long long ___args[] = { (unsigned long long)(number) }; \
		scx_bpf_error_bstr(___text, ___args, sizeof(___args));           \
	})

#endif
