// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the gate's own C: launches that are preempted at any access to memory. Prints what they
 * find as Rust's test programs do; an argument chooses those whose name has it.
 */
#include <stdarg.h>
#include "machine.h"

#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
			     apply_to = function)

/* What the test that runs now found first; empty: nothing. */
static char failure[1024];

/* Notes that a test fails; the first reason counts. */
static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	if (failure[0])
		return;
	va_start(args, format);
	vsnprintf(failure, sizeof(failure), format, args);
	va_end(args);
}

/* The tasks that launch, and those that keep CPUs busy. */
static struct sim_task first, second, third, strangers[SIM_CPUS];

/* A task of a process that holds cores already, and what waits behind it. */
static struct sim_task holding, waiting;

/* A live claim: of one core of a node, by a program that may use these cores. */
static void hold_one(__u32 slot, __u32 node, __u64 leaders)
{
	struct claim *c = &sim.claim[slot];

	sim.ledger.ticket++;
	sim.ledger.used = slot + 1;
	sim.ledger.live++;
	sim.ledger.held[node]++;
	c->id = sim.ledger.ticket;
	c->rule = 1;
	c->held[node] = 1;
	c->now.holds = true;
	c->now.parts = (struct parts){ .nr = 1, .part = { { .node = node, .cores = 1 } } };
	if (!leaders)
		return;
	sim.ledger.confined++;
	sim.ledger.domains = slot + 1;
	c->domain = slot + 1;
	sim.domain[slot].cpus.word[0] = leaders;
}

static void keep_busy(__u32 cpu)
{
	make_task(&strangers[cpu], 90 + cpu, -1UL);
	wake(&strangers[cpu], cpu);
	switch_to(&strangers[cpu]);
}

/* The cores that a task may use, each as its lowest CPU; 0: every one. */
static unsigned long domain_of(const struct sim_task *t)
{
	unsigned long cpus = t->task.cpus_mask.bits[0];

	return t->task.nr_cpus_allowed < SIM_CPUS ? (cpus | cpus >> 1) & 0x55 : 0;
}

/* Whether each live claim has the domain of the program that has it. */
static bool domains_are_right(void)
{
	const struct sim_task *const by[] = { &first, &second, &third };

	for (__u32 i = 0; i < sim.ledger.used; i++) {
		const struct claim *c = &sim.claim[i];
		unsigned long domain = c->domain ? sim.domain[c->domain - 1].cpus.word[0] : 0;

		for (int j = 0; c->id && j < 3; j++)
			if ((int)c->pid == by[j]->task.tgid && domain != domain_of(by[j]))
				return false;
	}
	return true;
}

/* Three programs that may use these CPUs are launched from CPU 2, where the first one runs. */
static void make_contenders(unsigned long cpus)
{
	make_task(&first, 11, cpus);
	make_task(&second, 12, cpus);
	make_task(&third, 13, cpus);
	wake(&first, 2);
	begin_launch(&first, HOOK_EXEC);
	begin_launch(&second, HOOK_EXEC);
	begin_launch(&third, HOOK_EXEC);
}

/* Its launch has ended: what it became sleeps. */
static void settle_down(struct sim_task *t)
{
	end_exec_of(&t->task, !t->answer);
	sleep_now(t);
}

/* All of them have ended but the third, which has the CPU to itself. */
static void judge_contenders(const char *when)
{
	if (first.wants)
		settle_down(&first);
	if (second.wants)
		settle_down(&second);
	wake(&third, 2);
	go_on(&third, -1);
	if (admitted() != 1)
		fail("one core is free, and %llu launches are admitted; %s", admitted(), when);
	if (!domains_are_right())
		fail("a live claim has other cores than its program may use; %s", when);
	if (kept.failures.claims_contended)
		fail("a launch came to no verdict; %s", when);
}

/*
 * A node has a busy core and a free one, from which the launches come. Preempts the first one at each
 * access, and the second one, which is then begun, at each.
 */
static long preempted_once_each(void)
{
	long runs = 0;

	for (long i = 0;; i++) {
		for (long j = 0;; j++) {
			bool done;
			char when[80];

			make_machine(2, false);
			keep_busy(0);
			make_contenders(0xf);
			if (go_on(&first, i))
				return runs;
			wake(&second, 2);
			done = go_on(&second, j);
			if (done)
				settle_down(&second);
			go_on(&first, -1);
			settle_down(&first);
			go_on(&second, -1);
			snprintf(when, sizeof(when), "preempted after %ld and %ld accesses", i, j);
			judge_contenders(when);
			runs++;
			if (done)
				break;
		}
	}
}

static __u64 seed;

/* splitmix64. */
static __u64 any(__u64 below)
{
	__u64 z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % below;
}

/*
 * Of four cores only the last is free, and the launches may use it and some others. They take turns of
 * any length, on one CPU or on two, so that each comes back into what the other one has begun.
 */
static long preempted_often(void)
{
	static const unsigned long masks[] = { 0xc4, 0xd4, 0xfc, 0xff };
	enum {
		RUNS = 200000
	};

	for (long run = 0; run < RUNS; run++) {
		char when[80];

		seed = run;
		make_machine(1, any(2));
		keep_busy(0);
		keep_busy(3);
		keep_busy(5);
		make_contenders(masks[any(4)]);
		make_task(&second, 12, masks[any(4)]);
		begin_launch(&second, HOOK_EXEC);
		wake(&second, any(2) ? 2 : 4);
		for (struct sim_task *t = &first; !first.ended || !second.ended;
		     t = t == &first ? &second : &first)
			if (!t->ended && go_on(t, any(2) ? any(40) : any(400)))
				settle_down(t);
		snprintf(when, sizeof(when), "seed %ld", run);
		judge_contenders(when);
	}
	return RUNS;
}

/*
 * A task that launches nothing has the launch's CPU after each so many accesses. It writes nothing of the
 * launch's look, which goes on.
 */
static long preempted_by_strangers(void)
{
	long runs = 0;

	for (long every = 10; every < 400; every++, runs++) {
		make_machine(1, false);
		sim.rule[0].own_core = 0;
		hold_one(0, 0, 0);
		make_contenders(0x3f);
		keep_busy(2);
		while (!go_on(&first, every))
			switch_to(&strangers[2]);
		if (first.answer)
			fail("preempted after each %ld accesses: %d", every, first.answer);
	}
	return runs;
}

/*
 * One node of four cores: one is busy, one is owed to a program that sleeps and may use two of the
 * others. Two launches that may use three of them come from one CPU; the second one takes nothing
 * before the first has its verdict.
 */
static long denied_wrongly(__u8 hold)
{
	long runs = 0;

	for (long i = 0;; i++) {
		for (long j = 0;; j++) {
			bool done;

			make_machine(1, false);
			sim.rule[0].hold = hold;
			hold_one(0, 0, 0x5);
			keep_busy(6);
			make_contenders(0x3f);
			if (go_on(&first, i))
				return runs;
			wake(&second, 2);
			done = go_on(&second, j);
			if (sim.ledger.live > 1)
				break;
			if (done)
				settle_down(&second);
			go_on(&first, -1);
			if (first.answer)
				fail("three cores are free and one is owed: %d; preempted after %ld "
				     "and %ld accesses",
				     first.answer, i, j);
			runs++;
			if (done)
				break;
		}
	}
}

static long denied_that_would_hold(void)
{
	return denied_wrongly(HOLD_EXIT);
}

static long denied_that_hold_nothing(void)
{
	return denied_wrongly(HOLD_NONE);
}

/*
 * Two threads of a holder take turns on a CPU of its core, which it has whole then. So the free core of the
 * node is owed to nobody; if what waits behind the holder is a stranger, it is owed to the holder.
 */
static void share_by_class(bool scx)
{
	for (int kin = 0; kin <= 1; kin++) {
		make_machine(2, scx);
		hold_one(0, 0, 0);
		make_task(&holding, 21, -1UL);
		make_task(&waiting, 22, -1UL);
		holding.has_note = true;
		holding.note.holder = (struct holder){ .id = 1, .process = true };
		if (kin)
			waiting.task.tgid = holding.task.tgid;
		wake(&holding, 2);
		switch_to(&holding);
		wake(&waiting, 2);
		make_task(&first, 11, -1UL);
		wake(&first, 0);
		begin_launch(&first, HOOK_EXEC);
		go_on(&first, -1);
		if ((first.answer == 0) != kin)
			fail("%s, %s waits behind a thread of a holder: the launch ends with %d",
			     scx ? "sched_ext" : "the fair class",
			     kin ? "another thread of it" : "a stranger", first.answer);
	}
}

static long threads_of_a_holder(void)
{
	share_by_class(false);
	share_by_class(true);
	return 4;
}

static const struct {
	const char *name;
	/* Returns how many runs it took. */
	long (*run)(void);
} tests[] = {
	{ "i3_launches_preempted_once_share_one_core_once", preempted_once_each },
	{ "i3_launches_preempted_often_share_one_core_once", preempted_often },
	{ "i11_a_launch_preempted_by_strangers_is_decided", preempted_by_strangers },
	{ "i4_a_preempted_launch_finds_its_core", denied_that_would_hold },
	{ "i4_a_preempted_launch_that_holds_nothing_finds_its_core", denied_that_hold_nothing },
	{ "i4_threads_of_a_holder_share_nothing_in_any_class", threads_of_a_holder },
};

int main(int argc, char **argv)
{
	enum {
		TESTS = sizeof(tests) / sizeof(tests[0])
	};
	static char failures[TESTS][sizeof(failure)];
	int failed = 0;

	for (int i = 0; i < TESTS; i++) {
		long runs;

		if (argc > 1 && !strstr(tests[i].name, argv[1]))
			continue;
		printf("test %s ... ", tests[i].name);
		fflush(stdout);
		failure[0] = 0;
		runs = tests[i].run();
		if (!runs)
			fail("nothing was run");
		memcpy(failures[i], failure, sizeof(failure));
		failed += !!failure[0];
		printf("%s\n", failure[0] ? "FAILED" : "ok");
		fprintf(stderr, "%s: %ld runs\n", tests[i].name, runs);
	}
	if (failed)
		printf("\nfailures:\n");
	for (int i = 0; i < TESTS; i++)
		if (failures[i][0])
			printf("\n---- %s ----\n%s\n", tests[i].name, failures[i]);
	return !!failed;
}

#pragma clang attribute pop
