/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel functions that differ between the kernels that the companion supports. An entry
 * says from which kernel on it differs, and when it may go.
 *
 * Each form is an extern of its own with a suffix, ___form, and weak: libbpf leaves the suffix
 * out when it looks for the function, and where the function is missing or takes other arguments
 * the extern is 0 (bpf_object__resolve_ksym_func_btf_id(), libbpf.c). A function without a suffix
 * has no other form: the companion is not loaded where the kernel refuses to take its calls
 * (src/companion/preflight.rs).
 *
 * What no form mends: functions with an argument that the verifier fills in (KF_IMPLICIT_ARGS,
 * 7.1). The kernel's build gives each two descriptions, `name` as programs call it and
 * `name_impl` (tools/bpf/resolve_btfids). Where it missed one, `name` still has the argument and
 * the verifier refuses all calls, as it finds no `name_impl` (find_kfunc_impl_proto(),
 * kernel/bpf/verifier.c). Debian's 7.1 and some of its 7.2 are such builds.
 */
#ifndef COREGATE_COMPAT_H
#define COREGATE_COMPAT_H

#include "scx.h"

/* 6.19: the arguments of __scx_bpf_dsq_insert_vtime(); passed on, so not relocated. */
struct scx_bpf_dsq_insert_vtime_args {
	__u64 dsq_id;
	__u64 slice;
	__u64 vtime;
	__u64 enq_flags;
};

/*
 * 6.19 packs the arguments; the plain form stays until 6.23, so 7.3 still has both
 * (kernel/sched/ext.c). The plain form may go when 6.18 does.
 */
extern bool __scx_bpf_dsq_insert_vtime___args(struct task_struct *p,
					      struct scx_bpf_dsq_insert_vtime_args *args) __ksym
	__weak;
extern void scx_bpf_dsq_insert_vtime___plain(struct task_struct *p, __u64 dsq_id, __u64 slice,
					     __u64 vtime, __u64 enq_flags) __ksym __weak;

static inline void dsq_insert_vtime(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 vtime,
				    __u64 enq_flags)
{
	if (bpf_ksym_exists(__scx_bpf_dsq_insert_vtime___args)) {
		struct scx_bpf_dsq_insert_vtime_args args = {
			.dsq_id = dsq_id,
			.slice = slice,
			.vtime = vtime,
			.enq_flags = enq_flags,
		};

		__scx_bpf_dsq_insert_vtime___args(p, &args);
	} else {
		scx_bpf_dsq_insert_vtime___plain(p, dsq_id, slice, vtime, enq_flags);
	}
}

/* 6.19: a call; before, a store. The store may go when 6.18 does. */
extern bool scx_bpf_task_set_slice___call(struct task_struct *p, __u64 slice) __ksym __weak;

static inline void task_set_slice(struct task_struct *p, __u64 slice)
{
	if (bpf_ksym_exists(scx_bpf_task_set_slice___call))
		scx_bpf_task_set_slice___call(p, slice);
	else
		p->scx.slice = slice;
}

#endif
