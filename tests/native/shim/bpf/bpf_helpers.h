/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In place of libbpf's header: the gate's own C as a program of this machine. What machine.h does not
 * define is not there: a call of it ends the test.
 */
#ifndef COREGATE_SHIM_BPF_HELPERS_H
#define COREGATE_SHIM_BPF_HELPERS_H

#include <stddef.h>

#define SEC(name)
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __ksym
#undef __weak
#define __weak __attribute__((weak))
#define __arg_trusted

#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]

#define barrier() asm volatile("" ::: "memory")
#define barrier_var(var) asm volatile("" : "+r"(var))
#define bpf_ksym_exists(symbol) (!!(symbol))

__weak void *bpf_map_lookup_elem(void *map, const void *key);
__weak long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
__weak long bpf_loop(__u32 nr, void *callback, void *context, __u64 flags);
__weak void bpf_spin_lock(struct bpf_spin_lock *lock);
__weak void bpf_spin_unlock(struct bpf_spin_lock *lock);
__weak void *bpf_task_storage_get(void *map, void *task, void *value, __u64 flags);
__weak struct task_struct *bpf_get_current_task_btf(void);
__weak __u64 bpf_ktime_get_ns(void);
__weak __u64 bpf_ktime_get_boot_ns(void);
__weak __u32 bpf_get_smp_processor_id(void);
__weak long bpf_get_numa_node_id(void);
__weak __u32 bpf_get_prandom_u32(void);
__weak void *bpf_per_cpu_ptr(const void *pointer, __u32 cpu);
__weak void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags);
__weak void bpf_ringbuf_submit(void *record, __u64 flags);
__weak long bpf_ringbuf_output(void *ring, void *data, __u64 size, __u64 flags);
__weak long bpf_timer_init(struct bpf_timer *timer, void *map, __u64 flags);
__weak long bpf_timer_set_callback(struct bpf_timer *timer, void *callback);
__weak long bpf_timer_start(struct bpf_timer *timer, __u64 ns, __u64 flags);
__weak long bpf_probe_read_kernel(void *to, __u32 size, const void *from);
__weak long bpf_probe_read_kernel_str(void *to, __u32 size, const void *from);
__weak long bpf_probe_read_user(void *to, __u32 size, const void *from);
__weak long bpf_probe_read_user_str(void *to, __u32 size, const void *from);
__weak long bpf_d_path(void *path, char *to, __u32 size);
__weak long bpf_seq_write(void *file, const void *data, __u32 size);
__weak long bpf_task_pt_regs(struct task_struct *task);

#endif
