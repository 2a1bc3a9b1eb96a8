// SPDX-License-Identifier: GPL-2.0-only
/*
 * How launches take claims and give them up, for spin, which tries every order of events.
 *
 * One step here is what is one step in the kernel: reading the ticket, looking at one core,
 * and a section under the lock. Even a section that changes the ledger has two steps, as the
 * ticket is read without the lock. Between steps anybody may run, sleep and move.
 *
 * What is checked, by the names in the assertions:
 *
 * over_admitted (I3)
 *	If nothing moved since the ticket was read: the cores that are free at the grant cover
 *	the launch and what all other claims are still owed.
 *	Whatever moved: all claims that stand at the grant fit on the cores that the launch saw
 *	without a stranger. Not more, as cores are seen one by one: a stranger that goes from a
 *	core not yet seen to one already seen is seen on neither, so each core counts at a
 *	moment of its own. A holder that does so does no harm, it counts once at most.
 * denied_wrongly (I4)
 *	If nothing moved: the cores that are free at the denial do not cover that. A task that
 *	moves may be seen on two cores.
 * claim_lost, claim_leaked (I7)
 *	Nobody else gives up a claim; when all processes are gone, nothing is held.
 *
 * A deadlock is found by spin itself. Each WITHOUT_..., and each other word that an #ifdef
 * below names, is a fault in the protocol: with it, spin must find one of these.
 */

#ifdef RACES
/* One node, a stranger that moves about, launches that need one core. */
#define NODE_0 3
#define CORES 3
#define STRANGERS 1
#define RELOADS 0
#define REEXECS 0
#else
/* Two nodes, a reload after which a launch needs two cores, and a holder that execs again. */
#define NODE_0 2
#define CORES 3
#define STRANGERS 0
#define RELOADS 1
#define REEXECS 1
#endif

#define LAUNCHES 3
#define STRANGER LAUNCHES
#define TASKS (LAUNCHES + STRANGERS)
#define SLOTS 3
#define NONE SLOTS

#define bit_of(t) (1 << (t))
#define mine bit_of(me)
#define count(launches) (((launches) & 1) + ((launches) >> 1 & 1) + ((launches) >> 2))
#define is_one_launch(tasks) ((tasks) == 1 || (tasks) == 2 || (tasks) == 4)
#define node_of(c) ((c) >= NODE_0)
#define first_core(d) ((d) * NODE_0)
#define end_core(d) ((d) == 0 -> NODE_0 : CORES)

/* All launches are alike: what holds for this one holds for each. */
#define WITNESS 2
#define witnessed (me == WITNESS)

/* The others do without a second try: one that begins again is like one that comes later. */
#define TRIES (witnessed -> 2 : 1)

/* The tasks that run on each core, and all that there are; each set is a mask. */
byte on[CORES];
byte alive = STRANGERS * bit_of(STRANGER);
byte node[LAUNCHES];

/* The ledger; of each claim: whose it is, its cores, and how many of them `held` has. */
bit lock;
byte held[2];
byte owner[SLOTS];
byte size[SLOTS];
byte booked[SLOTS];
byte holders;

/* The ticket: all that matters is for which launches it changed since they read it. */
byte stale = 7;

bit generation;
byte reexecs = REEXECS;
bit begun;
byte gone;

/* The launches before their verdict, and what they saw: free cores, holders on their own. */
byte judging;
byte free_cores[LAUNCHES];
byte met[LAUNCHES];

/* Whether anything moved since the witness read the ticket; cores it saw without a stranger. */
bit moved;
byte open;

/* Used within one step, so no part of the state. */
hidden byte a_core, a_slot, a_task, others, need, unmet, idle;
hidden byte over_admitted, denied_wrongly, claim_lost, claim_leaked;

#ifdef WITHOUT_TICKET
#define fresh_for(t) 1
#else
#define fresh_for(t) ((stale & bit_of(t)) == 0)
#endif
#define fresh fresh_for(me)

inline scrub() {
	a_core = 0; a_slot = 0; a_task = 0; others = 0; need = 0; unmet = 0; idle = 0
}

inline stop_running(t) {
	for (a_core : 0 .. CORES - 1) {
		on[a_core] = on[a_core] & ~bit_of(t)
	}
	a_core = 0;
	moved = (judging & bit_of(WITNESS)) && fresh_for(WITNESS)
}

inline run_on(t, c) {
	stop_running(t);
	on[c] = on[c] | bit_of(t)
}

/* The cores that a process is owed: an exec under way replaces its claim or leaves it. */
inline find_need(t) {
	need = 0;
	for (a_slot : 0 .. SLOTS - 1) {
		if
		:: owner[a_slot] == t + 1 && size[a_slot] > need -> need = size[a_slot]
		:: else
		fi
	}
}

/* The truth for a launch, at this moment: cores free for it, cores owed to others. */
inline survey() {
	scrub();
	for (a_core : first_core(node[me]) .. end_core(node[me]) - 1) {
		idle = idle + ((on[a_core] & ~mine) == 0)
	}
	for (a_task : 0 .. LAUNCHES - 1) {
		find_need(a_task);
		if
		:: need && a_task != me && node[a_task] == node[me] ->
			unmet = unmet + need;
			for (a_core : 0 .. CORES - 1) {
				unmet = unmet - (on[a_core] == bit_of(a_task))
			}
		:: else
		fi
	}
}

/* All that stands on the node with this launch, which needs `cores`, in its place. */
inline sum_needs() {
	scrub();
	unmet = cores;
	for (a_task : 0 .. LAUNCHES - 1) {
		find_need(a_task);
		unmet = unmet + (a_task != me && node[a_task] == node[me] -> need : 0)
	}
}

/* Once the ticket has changed, what was seen before counts no more: forget it. */
inline bump() {
	stale = 7;
#ifndef WITHOUT_TICKET
	for (a_task : 0 .. LAUNCHES - 1) {
		free_cores[a_task] = 0;
		met[a_task] = 0
	}
	a_task = 0;
	moved = 0;
	open = 0
#endif
}

inline read_ticket() {
	stale = stale & ~mine;
	next = first_core(node[me]);
	if
	:: witnessed -> moved = 0
	:: else
	fi
}

/*
 * A core counts once: as free, where at most the launch itself runs, or as what its holder
 * is owed. Both from one look: a holder that wakes up between two would count twice.
 */
#ifdef TWO_READINGS
#define looks(d) (2 * end_core(d) - first_core(d))
#define looks_for_free (next < end_core(node[me]))
#define seen_core (looks_for_free -> next : next - end_core(node[me]) + first_core(node[me]))
#define looks_for_met (!looks_for_free)
#else
#define looks(d) end_core(d)
#define seen_core next
#define looks_for_free 1
#define looks_for_met 1
#endif

inline look() {
	others = on[seen_core] & ~mine;
	if
	:: fresh && looks_for_free && others == 0 ->
		free_cores[me]++
	:: fresh && looks_for_met && others == on[seen_core] && is_one_launch(others) &&
	   (others & holders & ~met[me]) ->
		met[me] = met[me] | others
	:: else
	fi;
	open = open + (witnessed && fresh && looks_for_free && (others & ~holders) == 0);
	printf("%d sees tasks %x on core %d\n", me, others, seen_core);
	others = 0;
	next++;
	/* Only their number matters once all are seen. */
	met[me] = (next == looks(node[me]) -> count(met[me]) : met[me])
}

/* What the ledger says is owed to others: a new exec counts without the process's claim. */
#define held_by_others (held[node[me]] - (claim == NONE -> 0 : size[claim]))
#define owed (held_by_others > met[me] -> held_by_others - met[me] : 0)

/*
 * On one node a process is owed the larger of its claim and the one that is to replace it,
 * so only the difference is added.
 */
inline take() {
	owner[new] = me + 1;
	size[new] = cores;
	booked[new] = cores;
#ifndef BOOK_BOTH
	if
	:: claim != NONE -> booked[new] = (cores > size[claim] -> cores - size[claim] : 0)
	:: else
	fi;
#endif
	held[node[me]] = held[node[me]] + booked[new];
#ifndef MARK_LATER
	holders = holders | mine
#endif
}

inline drop(s) {
	claim_lost = owner[s] != me + 1;
	assert(!claim_lost);
	held[node[me]] = held[node[me]] - booked[s];
	owner[s] = 0;
	size[s] = 0;
	booked[s] = 0;
	holders = holders & ~mine;
	for (a_slot : 0 .. SLOTS - 1) {
		holders = holders | (owner[a_slot] == me + 1 -> mine : 0)
	}
	a_slot = 0;
	printf("%d gives up slot %d\n", me, s)
}

/* The ticket comes last: who reads the new one must see the new state of claims. */
inline begin_release(s) {
	lock = 1;
#ifdef BUMP_FIRST
	bump()
#else
	drop(s)
#endif
}

inline end_release(s) {
#ifdef BUMP_FIRST
	drop(s);
#else
#ifndef WITHOUT_BUMP_ON_RELEASE
	bump();
#endif
#endif
	lock = 0
}

/* Two threads may both be the last of a process; the slot may be another's by then. */
#ifdef RELEASE_BY_SLOT
#define stands(s) (owner[s] != 0)
#else
#define stands(s) (owner[s] == me + 1)
#endif

inline any_core(first, end) {
	next = first;
	do
	:: next < end - 1 -> next++
	:: break
	od
}

/* In its hook a launch stays on the core that it is on. */
inline start_judging() {
	printf("%d launches on core %d\n", me, next);
	judging = judging | mine;
	run_on(me, next);
	next = 0
}

/* Where tasks run is forgotten while nobody looks: they may move before somebody does. */
inline stop_judging() {
	stale = stale | mine;
	free_cores[me] = 0;
	met[me] = 0;
	tries = 0;
	cores = 0;
	next = 0;
	if
	:: witnessed -> moved = 0; open = 0
	:: else
	fi;
	judging = judging & ~mine;
	for (a_core : 0 .. CORES - 1) {
		on[a_core] = (judging -> on[a_core] : 0)
	}
	scrub()
}

inline leave() {
	printf("%d is gone\n", me);
	alive = alive & ~mine;
	stop_running(me);
	claim = NONE;
	node[me] = 0;
	gone++
}

proctype launch(byte me) {
	byte cores, tries, next;
	byte claim = NONE, new = NONE;

	/* The two that are not the witness are alike, so their order does not matter. */
	atomic {
		me != 1 || begun;
		begun = begun || me == 0;
		any_core(0, CORES);
		node[me] = node_of(next);
		alive = alive | mine;
		start_judging()
	}
judge:
	atomic {
		/* The policy is read once; whatever is loaded later does not matter. */
		cores = 1 + generation;
		read_ticket()
	}
	do
	:: d_step { next < looks(node[me]) -> look() }
	:: atomic { next == looks(node[me]) && lock == 0 ->
		d_step {
			new = 0;
			do
			:: new < SLOTS && owner[new] != 0 -> new++
			:: else -> break
			od;
			survey()
		}
		if
		:: !fresh && tries < TRIES - 1 ->
			printf("%d begins again\n", me);
			new = NONE;
			tries++;
			scrub();
			read_ticket()
		:: else ->
			if
			:: !fresh && tries == TRIES - 1 ->
				printf("%d: unknown, the claims kept changing\n", me);
				new = NONE
			:: fresh && new == NONE ->
				printf("%d: unknown, the table is full\n", me)
			:: fresh && new != NONE && free_cores[me] < owed + cores ->
				printf("%d: deny, %d free, %d owed\n", me, idle, unmet);
				denied_wrongly = witnessed && !moved && idle >= unmet + cores;
#ifndef ONLY_OVER_ADMITTED
				assert(!denied_wrongly);
#endif
				new = NONE
			:: else ->
				printf("%d: admit, %d free, %d owed\n", me, idle, unmet);
				d_step {
					lock = 1;
					over_admitted = witnessed && !moved && idle < unmet + cores;
					take();
					sum_needs();
					over_admitted = over_admitted || (witnessed && unmet > open);
					assert(!over_admitted)
				}
			fi;
			stop_judging();
			if
			:: new != NONE -> break
			:: new == NONE && claim != NONE -> goto hold
			:: else -> leave(); goto end
			fi
		fi
	   }
	od;
	atomic {
		bump();
		lock = 0;
		if
		:: claim == NONE -> claim = new; new = NONE; goto hold
		:: else
		fi
	}
	/* An exec under way, by a process that has a claim. A kill now is a failure, then an exit. */
	if
	:: atomic { lock == 0 -> printf("%d: exec fails\n", me); begin_release(new) };
	   d_step { end_release(new); new = NONE }
	:: atomic { lock == 0 ->
		printf("%d: exec succeeds\n", me);
		lock = 1;
		held[node[me]] = held[node[me]] + size[new] - booked[new];
		booked[new] = size[new];
		drop(claim);
		claim = new;
		new = NONE
	   };
	   d_step { bump(); lock = 0 }
	fi;
hold:
#ifdef MARK_LATER
	atomic { holders = holders | mine };
#endif
	if
	:: atomic { reexecs > 0 ->
		reexecs--;
		any_core(first_core(node[me]), end_core(node[me]));
		start_judging();
		goto judge
	   }
	/* An exec that fails, an exit and a kill: the claim goes while the process still runs. */
	:: do
	   :: atomic { lock == 0 && stands(claim) -> begin_release(claim) };
	      d_step { end_release(claim) }
	   :: atomic { lock == 0 && !stands(claim) -> leave(); break }
	   od
	fi;
end:
	false
}

/* Tasks that are not being judged run, sleep and move between the cores of their node. */
#define may_move(t) (judging && (alive & ~judging & bit_of(t)))
#define may_run(t, c) (may_move(t) && !(on[c] & bit_of(t)) && \
		       ((t) == STRANGER || node_of(c) == node[t]))

proctype motion(byte me) {
end:
	do
	:: d_step { may_run(me, 0) -> run_on(me, 0); printf("%d runs on core 0\n", me) }
	:: d_step { may_run(me, 1) -> run_on(me, 1); printf("%d runs on core 1\n", me) }
	:: d_step { may_run(me, 2) -> run_on(me, 2); printf("%d runs on core 2\n", me) }
	:: d_step { may_move(me) && ((on[0] | on[1] | on[2]) & mine) ->
		stop_running(me);
		printf("%d sleeps\n", me)
	   }
	od
}

init {
	byte t;

	atomic {
		for (t : 0 .. TASKS - 1) {
			run motion(t)
		}
		for (t : 0 .. LAUNCHES - 1) {
			run launch(t)
		}
		t = 0
	}
	generation = RELOADS;
	gone == LAUNCHES;
	claim_leaked = held[0] || held[1] || owner[0] || owner[1] || owner[2];
	assert(!claim_leaked)
}
