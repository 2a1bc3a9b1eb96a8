/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Alarms of the companion: timers in arrays, by numbers.
 */
#ifndef COREGATE_ALARM_BPF_H
#define COREGATE_ALARM_BPF_H

#include "scx.h"

struct alarm {
	struct bpf_timer timer;
};

/* Makes one ready, once: @on is called when it goes off. Inline, as the verifier has to see which map it is. */
static __always_inline __s32 init_alarm(void *map, __u32 number,
					int (*on)(void *map, __u32 *number, struct alarm *a))
{
	struct alarm *a = bpf_map_lookup_elem(map, &number);
	__s32 err;

	if (!a)
		return -ENOENT;
	err = bpf_timer_init(&a->timer, map, CLOCK_MONOTONIC);
	return err ?: bpf_timer_set_callback(&a->timer, on);
}

#endif
