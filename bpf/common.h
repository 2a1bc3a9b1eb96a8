/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What both objects use of the kernel; kernel.h has what else the gate uses, scx.h what else
 * the companion does, and compat.h what differs between its kernels. An entry says which kernel
 * brought it when that is later than 6.1; it is then weak, because the gate does without.
 */
#ifndef COREGATE_COMMON_H
#define COREGATE_COMMON_H

#include <stdbool.h>
#include <linux/types.h>
#include <linux/errno.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Each of the two defines it: only the companion has masks of its own, of full size. */
struct cpumask;

/* include/linux/sched.h; a macro there, so not in BTF. */
#define PF_KTHREAD 0x00200000
/* include/uapi/linux/time.h. */
#define CLOCK_MONOTONIC 1

/* 6.12. */
extern void scx_bpf_put_idle_cpumask(const struct cpumask *mask) __ksym __weak;
/* 6.15. */
extern const struct cpumask *scx_bpf_get_idle_smtmask_node(int node) __ksym __weak;

/*
 * For functions of the kernel that return a bool: on x86 only the low byte is set, but clang
 * (14, at least) tests the whole register for BPF. So they are declared to return an int, and
 * their answers go through here.
 */
#define low_byte(call) (((call)&0xff) != 0)

/* 6.3. */
extern int bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *mask) __ksym __weak;
#define mask_has(mask, cpu) low_byte(bpf_cpumask_test_cpu(cpu, mask))

#endif
