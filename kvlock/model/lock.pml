/*
 * The protocol of package kvlock for spin: the same rules as in handover.go, steps.go and worker.go, told once more as processes.
 * README.md says what is left out. spin_test.go sets, with -D:
 *
 *   N, K           operations (up to 4) and keys (up to 2)
 *   X0.., S0..     the keys that operation 0.. claims exclusively and shared, as bits
 *   REFUSED, LEAVES, LATE, DOWNGRADES   operations, as bits: refused by a conflict; may leave; have a deadline; may downgrade
 *   LIMIT          waiters that one commit grants or ends
 *   CRASHES, LOST, TWICE, BREAKS        how often each fault may happen
 *   V_...          a rule that is broken
 *
 * A commit is one d_step. What it writes or checks it reads as it stands; what it merely reads may be as it stood before the last write.
 */

#ifndef K
#define K 2
#endif
#ifndef X1
#define X1 0
#endif
#ifndef X2
#define X2 0
#endif
#ifndef X3
#define X3 0
#endif
#ifndef S0
#define S0 0
#endif
#ifndef S1
#define S1 0
#endif
#ifndef S2
#define S2 0
#endif
#ifndef S3
#define S3 0
#endif
#ifndef REFUSED
#define REFUSED 0
#endif
#ifndef LEAVES
#define LEAVES 0
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef DOWNGRADES
#define DOWNGRADES 0
#endif
#ifndef LIMIT
#define LIMIT 64
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef TWICE
#define TWICE 0
#endif
#ifndef BREAKS
#define BREAKS 0
#endif

/* phases of an operation */
#define ABSENT  0
#define QUEUED  1
#define GRANTED 2
#define RUNNING 3
#define VOID    4
#define ENDED   5
#define HOLDS(i) (phase[i] >= GRANTED && phase[i] <= VOID)

/* modes of a key */
#define FREE      0
#define SHARED    1
#define EXCLUSIVE 2
#define CONFLICTS(a, b) ((a) && (b) && ((a) == EXCLUSIVE || (b) == EXCLUSIVE))

/* stages of a worker */
#define IDLE       0
#define TAKEDOUBT  1
#define TAKEN      2
#define WORKING    3
#define ENDDOUBT   4
#define DONE       5

/* what a client was told */
#define NOTHING  0
#define ACCEPTED 1
#define TOLD_NO  2
#define DOUBT    3

/* what a commit does */
#define SUBMIT    0
#define LEAVE     1
#define RELEASE   2
#define DOWNGRADE 3
#define SERVE     4

#define EXCL(i) ((i) == 0 -> X0 : ((i) == 1 -> X1 : ((i) == 2 -> X2 : X3)))
#define SHRD(i) ((i) == 0 -> S0 : ((i) == 1 -> S1 : ((i) == 2 -> S2 : S3)))
#define CLAIMS(i, k) (((EXCL(i) | SHRD(i)) >> (k)) & 1)
#define IN(set, i) (((set) >> (i)) & 1)
/* the first exclusive key of an operation that was downgraded is shared */
#define DOWNKEY(i) ((EXCL(i) & 1) -> 0 : 1)
#define MODE(i, k) (CLAIMS(i, k) -> ((IN(EXCL(i), k) && !(IN(down, i) && (k) == DOWNKEY(i))) -> EXCLUSIVE : SHARED) : FREE)

byte phase[N];
byte epoch[N];
byte told[N];
byte taker[N];   /* 1 + the worker whose token the record has */
byte msgs;       /* operations with a dispatch that is not acknowledged */
byte down;       /* operations that were downgraded */
byte late;       /* operations whose deadline has passed */
byte wakes;      /* keys with a wake that is not acknowledged */

byte held[K];    /* holders, as bits */
byte mode[K];
byte n[K];       /* how many wait */
byte line[8];    /* of key k from 4*k on */
byte oheld[K];   /* the same as it stood before the last write */
byte omode[K];
byte on[K];
byte oline[8];

byte wstage[2];
byte wop[2];
byte wepoch[2];
byte wlow;       /* workers whose resource has seen a higher fence */

byte crashes = CRASHES;
byte lost = LOST;
byte twice = TWICE;
byte breaks = BREAKS;

/* scratch of one d_step: what the commit read and leaves */
hidden byte vheld[K], vmode[K], vn[K], vline[8];
hidden byte stale, wrote, chk, owed, look, handed, blk[4], ok, granted1;
hidden byte k, p, who, q, kk, j, ahead, isfree, again, blocked, m, entry, waits;
hidden byte one_writer, no_orphan, no_lost, fair_line, one_worker, no_late, fence_holder, no_forgotten, true_answer;

inline load(st) {
	stale = st; wrote = 0; chk = 0; owed = 0; look = 0; handed = 0;
	blk[0] = 0; blk[1] = 0; blk[2] = 0; blk[3] = 0;
	k = 0;
	do
	:: k < K ->
		if
		:: IN(stale, k) -> vheld[k] = oheld[k]; vmode[k] = omode[k]; vn[k] = on[k];
			p = 0; do :: p < 4 -> vline[4*k+p] = oline[4*k+p]; p++ :: else -> break od
		:: else -> vheld[k] = held[k]; vmode[k] = mode[k]; vn[k] = n[k];
			p = 0; do :: p < 4 -> vline[4*k+p] = line[4*k+p]; p++ :: else -> break od
		fi;
		k++
	:: else -> break
	od
}

/* takes operation x out of the line of key y */
inline out_of_line(x, y) {
	p = 0;
	do :: p < vn[y] && vline[4*(y)+p] != x -> p++ :: else -> break od;
	if
	:: p < vn[y] ->
		do :: p + 1 < vn[y] -> vline[4*(y)+p] = vline[4*(y)+p+1]; p++ :: else -> break od;
		vline[4*(y)+p] = 0; vn[y] = vn[y] - 1
	:: else -> skip
	fi
}

/* operation x gets its claims in this commit */
inline let_in(x) {
	kk = 0;
	do
	:: kk < K ->
		if
		:: CLAIMS(x, kk) ->
			p = 0; /* nobody in line before it conflicts */
			do
			:: p < vn[kk] && vline[4*kk+p] != x ->
				if :: CONFLICTS(MODE(x, kk), MODE(vline[4*kk+p], kk)) -> fair_line = 0 :: else -> skip fi;
				p++
			:: else -> break
			od;
			out_of_line(x, kk);
			vheld[kk] = vheld[kk] | (1 << x);
			vmode[kk] = (MODE(x, kk) > vmode[kk] -> MODE(x, kk) : vmode[kk]);
			wrote = wrote | (1 << kk)
		:: else -> skip
		fi;
		kk++
	:: else -> break
	od;
	granted1 = granted1 | (1 << x)
}

/* grants waiter x if it is free on all its keys: m says so. The keys that keep it are noted. */
inline grant(x) {
	blocked = 0; kk = 0;
	do
	:: kk < K ->
		if
		:: CLAIMS(x, kk) ->
			m = CONFLICTS(MODE(x, kk), vmode[kk]);
			q = 0;
			do
			:: q < vn[kk] && vline[4*kk+q] != x ->
#ifndef V_GRANT_PASSES_OLDER
				if :: CONFLICTS(MODE(x, kk), MODE(vline[4*kk+q], kk)) -> m = 1 :: else -> skip fi;
#endif
				q++
			:: else -> break
			od;
#ifndef V_QUEUE_IN_ONE_LINE
			if :: q == vn[kk] -> m = 1 :: else -> skip fi; /* it is not in the line: what was read is old */
#endif
			if :: m -> blocked = blocked | (1 << kk) :: else -> skip fi
		:: else -> skip
		fi;
		kk++
	:: else -> break
	od;
	blk[x] = blocked;
	m = (blocked == 0);
	if :: m -> let_in(x); handed++ :: else -> skip fi
}

/* takes waiter x out of all its lines and ends it */
inline leave(x) {
	kk = 0;
	do
	:: kk < K ->
		if
		:: CLAIMS(x, kk) ->
			out_of_line(x, kk);
			wrote = wrote | (1 << kk); look = look | (1 << kk);
#ifdef V_LEAVE_ONE_LINE
			break
#endif
		:: else -> skip
		fi;
		kk++
	:: else -> break
	od;
	granted1 = granted1 | (16 << x)
}

/* goes through the lines of the keys in look */
inline go_through() {
	do
	:: look ->
		k = (look & 1 -> 0 : 1);
		look = look & ~(1 << k);
		again = 1;
		do
		:: again ->
			again = 0; ahead = FREE; j = 0;
			do
			:: j < vn[k] ->
#ifdef V_GRANT_PASSES_OLDER
				if :: vmode[k] == EXCLUSIVE -> break :: else -> skip fi;
#else
				if :: vmode[k] == EXCLUSIVE || ahead == EXCLUSIVE -> break :: else -> skip fi;
#endif
				who = vline[4*k+j];
				isfree = !CONFLICTS(MODE(who, k), vmode[k]);
#ifndef V_GRANT_PASSES_OLDER
				isfree = isfree && !CONFLICTS(MODE(who, k), ahead);
#endif
				if
				:: (IN(late, who) || isfree) && handed >= LIMIT ->
#ifndef V_LIMIT_OWES_NOTHING
					owed = owed | (1 << k);
#endif
					break
				:: else -> skip
				fi;
				m = 0;
				if
				:: IN(late, who) ->
#ifdef V_EXPIRED_NOT_RELOOKED
					blocked = look; leave(who); look = blocked;
#else
					leave(who);
#endif
					blk[who] = 0; handed++; again = 1
				:: else ->
					if :: isfree -> grant(who) :: else -> skip fi
				fi;
				if :: again -> break :: else -> skip fi;
				if
				:: m -> skip /* it is out of the line: the next one is at its place */
				:: else -> ahead = (MODE(who, k) > ahead -> MODE(who, k) : ahead); j++
				fi
			:: else -> break
			od
		:: else -> break
		od
	:: else -> break
	od
}

/* settles what keeps a waiter although the commit only read it */
inline unsure(check) {
	j = 0;
	do
	:: j < N ->
		if
		:: blk[j] && !(blk[j] & wrote) ->
			if
			:: check ->
#ifndef V_WAKE_BELIEVES_READS
				chk = chk | blk[j]
#else
				skip
#endif
			:: else ->
#ifndef V_READ_IS_BELIEVED
				owed = owed | (blk[j] & 1 -> 1 : 2)
#else
				skip
#endif
			fi
		:: else -> skip
		fi;
		j++
	:: else -> break
	od
}

/* a new operation x: it gets its claims, or stands in all its lines, or is refused (waits and not ok) */
inline submit(x) {
	waits = 0; kk = 0;
	do
	:: kk < K ->
		if
		:: CLAIMS(x, kk) ->
			if :: CONFLICTS(MODE(x, kk), vmode[kk]) -> waits = 1 :: else -> skip fi;
			p = 0;
			do
			:: p < vn[kk] ->
#ifndef V_SUBMIT_PASSES_OLDER
				if :: CONFLICTS(MODE(x, kk), MODE(vline[4*kk+p], kk)) -> waits = 1 :: else -> skip fi;
#endif
				p++
			:: else -> break
			od
		:: else -> skip
		fi;
		kk++
	:: else -> break
	od;
	if
	:: !waits -> let_in(x)
	:: waits && IN(REFUSED, x) -> skip
	:: else ->
#ifdef V_QUEUE_WRITES_NO_LOCK
		load(0); /* it does not depend on what it read */
#endif
		kk = 0;
		do
		:: kk < K ->
			if
			:: CLAIMS(x, kk) ->
				vline[4*kk+vn[kk]] = x; vn[kk] = vn[kk] + 1;
#ifdef V_LINES_IN_OTHER_ORDER
				if
				:: kk > 0 -> /* the newest first */
					p = vn[kk] - 1;
					do :: p > 0 -> vline[4*kk+p] = vline[4*kk+p-1]; p-- :: else -> break od;
					vline[4*kk] = x
				:: else -> skip
				fi;
#endif
				wrote = wrote | (1 << kk);
#ifdef V_QUEUE_IN_ONE_LINE
				break
#endif
			:: else -> skip
			fi;
			kk++
		:: else -> break
		od;
		phase[x] = QUEUED
	fi
}

/* takes the entry of x out of its locks and ends it */
inline release(x) {
	kk = 0;
	do
	:: kk < K ->
		entry = (1 << x);
#ifdef V_COUNT_HOLDERS
		entry = (vheld[kk] & 1 -> 1 : (vheld[kk] & 2 -> 2 : (vheld[kk] & 4 -> 4 : 8))); /* of whom, a counter does not know */
#endif
		if
		:: CLAIMS(x, kk) && (vheld[kk] & entry) ->
			vheld[kk] = vheld[kk] & ~entry;
			vmode[kk] = (vheld[kk] -> vmode[kk] : FREE);
			wrote = wrote | (1 << kk); look = look | (1 << kk)
		:: else -> skip
		fi;
		kk++
	:: else -> break
	od;
	granted1 = granted1 | (16 << x)
}

/* what stood earlier is forgotten when nobody decides on it any more */
inline forget() {
	k = 0;
	do
	:: k < K ->
		m = 0; j = 0;
		do
		:: j < N ->
#ifdef V_QUEUE_WRITES_NO_LOCK
			if :: phase[j] <= QUEUED -> m = 1 :: else -> skip fi;
#else
			if :: phase[j] <= QUEUED && told[j] != TOLD_NO && (EXCL(j) | SHRD(j)) == 3 -> m = 1 :: else -> skip fi;
#endif
			j++
		:: else -> break
		od;
		if
		:: !m -> oheld[k] = 0; omode[k] = 0; on[k] = 0; p = 0; do :: p < 4 -> oline[4*k+p] = 0; p++ :: else -> break od
		:: else -> skip
		fi;
		k++
	:: else -> break
	od
}

/* the properties; each is an assertion of its own, so that its name stands in the error */
inline check_records() {
	one_writer = 1; no_orphan = 1; no_lost = 1; no_forgotten = 1; true_answer = 1;
	j = 0;
	do
	:: j < N ->
		k = 0; m = 1; /* it is free on all its keys */
		do
		:: k < K ->
			q = 0;
			do
			:: q < j -> if :: HOLDS(j) && HOLDS(q) && CONFLICTS(MODE(j, k), MODE(q, k)) -> one_writer = 0 :: else -> skip fi; q++
			:: else -> break
			od;
#ifndef V_COUNT_HOLDERS
			if :: IN(held[k], j) && !(HOLDS(j) && CLAIMS(j, k)) -> no_orphan = 0 :: else -> skip fi;
#endif
			if :: CONFLICTS(MODE(j, k), mode[k]) -> m = 0 :: else -> skip fi;
			p = 0; again = 0; /* it was met in the line */
			do
			:: p < n[k] ->
				q = line[4*k+p];
				if :: q == j -> again = 1 :: else -> skip fi;
				if :: q == j && phase[j] != QUEUED -> no_orphan = 0 :: else -> skip fi;
				if :: !again && CONFLICTS(MODE(j, k), MODE(q, k)) -> m = 0 :: else -> skip fi;
				p++
			:: else -> break
			od;
			k++
		:: else -> break
		od;
		if :: phase[j] == QUEUED && m && !(wakes & (EXCL(j) | SHRD(j))) -> no_lost = 0 :: else -> skip fi;
		if :: (phase[j] == GRANTED || phase[j] == RUNNING) && !IN(msgs, j) -> no_forgotten = 0 :: else -> skip fi;
		if :: told[j] == TOLD_NO && phase[j] != ABSENT -> true_answer = 0 :: else -> skip fi;
		j++
	:: else -> break
	od;
	assert(one_writer); assert(no_orphan); assert(fair_line); assert(no_lost); assert(no_forgotten); assert(true_answer)
}

inline check_workers() {
	one_worker = 1; no_late = 1; fence_holder = 1;
	j = 0;
	do
	:: j < 2 ->
		q = wop[j];
		if :: (wstage[j] == TAKEN || wstage[j] == WORKING) && IN(wlow, j) && phase[q] == RUNNING && epoch[q] == wepoch[j] -> fence_holder = 0 :: else -> skip fi;
		if
		:: wstage[j] == WORKING && !IN(wlow, j) ->
			if
			:: wstage[1-j] == WORKING && wop[1-j] == q && !IN(wlow, 1-j) ->
				if :: wepoch[j] == wepoch[1-j] -> one_worker = 0 :: else -> no_late = 0 fi
			:: else -> skip
			fi;
			k = 0;
			do
			:: k < K ->
				p = 0;
				do
				:: p < N -> if :: p != q && HOLDS(p) && MODE(q, k) == EXCLUSIVE && CLAIMS(p, k) -> no_late = 0 :: else -> skip fi; p++
				:: else -> break
				od;
				k++
			:: else -> break
			od
		:: else -> skip
		fi;
		j++
	:: else -> break
	od;
	assert(one_worker); assert(no_late); assert(fence_holder)
}

/* a worker is to be told of x as long as it is to be driven */
inline check_told(x) {
	no_forgotten = !(phase[x] == GRANTED || phase[x] == RUNNING) || IN(msgs, x);
	assert(no_forgotten)
}

/* one commit. st: keys that it reads as they stood earlier, if it only reads them; a commit that was refused for them is made again */
inline commit(what, x, st) {
	load(st); granted1 = 0; fair_line = 1; ok = 0;
	do
	:: !ok ->
		if
		:: what == SUBMIT -> submit(x)
		:: what == LEAVE -> leave(x);
#ifndef V_LEAVE_GRANTS_NOBODY
			go_through(); unsure(0)
#endif
		:: what == RELEASE -> release(x);
#ifdef V_END_GRANTS_NOBODY
			look = 0;
#endif
#ifdef V_BREAK_GRANTS_NOBODY
			if :: phase[x] == VOID -> look = 0 :: else -> skip fi;
#endif
			go_through(); unsure(0)
		:: what == DOWNGRADE ->
			down = down | (1 << x); vmode[DOWNKEY(x)] = SHARED; wrote = wrote | (1 << DOWNKEY(x));
#ifndef V_DOWNGRADE_GRANTS_NOBODY
			look = (1 << DOWNKEY(x)); go_through(); unsure(0)
#endif
		:: what == SERVE -> look = (1 << x); wakes = wakes & ~(1 << x); go_through(); unsure(1); /* x is the key */
#ifndef V_WAKE_BELIEVES_READS
			chk = chk | (1 << x)
#endif
		fi;
		ok = !(stale & (wrote | chk));
		if :: !ok -> load(0); granted1 = 0; fair_line = 1 :: else -> skip fi
	:: else -> break
	od;
	/* it is made */
	k = 0;
	do
	:: k < K ->
		if
		:: IN(wrote, k) ->
			if
			:: held[k] || n[k] ->
				oheld[k] = held[k]; omode[k] = mode[k]; on[k] = n[k];
				p = 0; do :: p < 4 -> oline[4*k+p] = line[4*k+p]; p++ :: else -> break od
			:: else -> skip
			fi;
			held[k] = vheld[k]; mode[k] = vmode[k]; n[k] = vn[k];
			p = 0; do :: p < 4 -> line[4*k+p] = (p < vn[k] -> vline[4*k+p] : 0); p++ :: else -> break od
		:: else -> skip
		fi;
		k++
	:: else -> break
	od;
	j = 0;
	do
	:: j < N ->
		if
		:: IN(granted1, j) -> phase[j] = GRANTED; late = late & ~(1 << j);
#ifndef V_GRANT_WITHOUT_DISPATCH
			msgs = msgs | (1 << j)
#endif
		:: IN(granted1, 4 + j) -> phase[j] = ENDED; epoch[j] = 0; taker[j] = 0; late = late & ~(1 << j); down = down & ~(1 << j)
		:: else -> skip
		fi;
		j++
	:: else -> break
	od;
	wakes = wakes | owed;
	forget();
	check_records();
	check_workers()
}

/* any keys, of those that have stood otherwise, are read as they stood; those in sure are not */
inline reads(var, sure) {
	if
	:: var = 0
	:: (oheld[0] || on[0]) && !((sure) & 1) -> var = 1
#if K > 1
	:: (oheld[1] || on[1]) && !((sure) & 2) -> var = 2
	:: (oheld[0] || on[0]) && !((sure) & 1) && (oheld[1] || on[1]) && !((sure) & 2) -> var = 3
#endif
	fi
}

#ifdef V_QUEUE_WRITES_NO_LOCK
#define SUBMITS 0
#else
#define SUBMITS 3
#endif

/* the client of operation i: it submits it, and may give up waiting; or the deadline passes, and somebody ends it for that */
proctype Client(byte i) {
	byte old, what = SUBMIT;
end_client:
	do
	:: atomic {
		if
		:: what == SUBMIT -> reads(old, SUBMITS); told[i] = ACCEPTED
		:: what == SUBMIT && lost && !IN(REFUSED, i) -> reads(old, SUBMITS); told[i] = DOUBT; lost--
		:: what == LEAVE && phase[i] == QUEUED && (IN(LEAVES, i) || IN(late, i)) -> reads(old, EXCL(i) | SHRD(i))
		fi;
		d_step {
			commit(what, i, old);
			told[i] = (what == SUBMIT && phase[i] == ABSENT -> TOLD_NO : told[i]);
			if
			:: what == SUBMIT && told[i] == DOUBT -> printf("the client of op-%d submits it; the answer is lost\n", i + 1)
			:: what == SUBMIT && told[i] != DOUBT -> printf("the client of op-%d submits it and is answered\n", i + 1)
			:: else -> printf("op-%d gives up waiting\n", i + 1)
			fi;
			old = 0; what = LEAVE
		} }
	:: told[i] == DOUBT -> d_step {
#ifdef V_DOUBT_IS_REFUSED
		told[i] = TOLD_NO;
#else
		told[i] = ACCEPTED;
#endif
		true_answer = (told[i] == ACCEPTED || phase[i] == ABSENT);
		printf("the client of op-%d, whose answer was lost, submits it again\n", i + 1);
		assert(true_answer) }
	:: d_step {
		what == LEAVE && phase[i] == QUEUED && IN(LATE, i) && !IN(late, i) ->
		late = late | (1 << i); printf("the deadline of op-%d passes\n", i + 1) }
	od
}

#define OTHER_HAS(i) (wstage[1-w] != IDLE && wop[1-w] == (i))
/* idle workers are alike: the first one takes it */
#define DELIVERABLE(i) ((w == 0 || wstage[0] != IDLE) && IN(msgs, i) && phase[i] != QUEUED && (!OTHER_HAS(i) || twice))
#ifdef V_END_IGNORES_EPOCH
#define MINE (phase[i] == RUNNING)
#else
#define MINE (phase[i] == RUNNING && epoch[i] == wepoch[w])
#endif
#ifdef V_TAKE_OVER_BY_NAME
#define TOOK_IT (phase[i] == RUNNING)
#else
#define TOOK_IT (phase[i] == RUNNING && taker[i] == w + 1)
#endif

inline idle() {
	taker[i] = (taker[i] == w + 1 -> 0 : taker[i]);
	wstage[w] = IDLE; wop[w] = 0; wepoch[w] = 0; wlow = wlow & ~(1 << w); i = 0
}

/* shows the fence of worker me, or of a break (2), to the resources of x: whoever had them before is shut out */
inline raise(x, me, own) {
	j = 0;
	do
	:: j < 2 ->
		if
		:: j == me || wstage[j] == IDLE -> skip
		:: j != me && wstage[j] != IDLE ->
			if
			:: wop[j] == x && (me == 2 || wepoch[j] < wepoch[me & 1] && wstage[j] != TAKEDOUBT) -> wlow = wlow | (1 << j)
			:: wop[j] != x && (HOLDS(x) || own) && (EXCL(wop[j]) & EXCL(x)) -> wlow = wlow | (1 << j)
			:: else -> skip
			fi
		fi;
		j++
	:: else -> break
	od;
	check_workers()
}

inline take_over() {
	wop[w] = i; phase[i] = RUNNING; taker[i] = w + 1;
#ifndef V_NO_EPOCH
	epoch[i] = epoch[i] + 1;
#endif
#ifdef V_ACK_AT_TAKE_OVER
	msgs = msgs & ~(1 << i);
#endif
	wepoch[w] = (wstage[w] == TAKEN -> epoch[i] : 0);
	check_told(i)
}

proctype Worker(byte w) {
	byte i, old, what;
end_idle:
	atomic {
		if
		:: DELIVERABLE(0) -> i = 0
		:: DELIVERABLE(1) -> i = 1
#if N > 2
		:: DELIVERABLE(2) -> i = 2
#endif
#if N > 3
		:: DELIVERABLE(3) -> i = 3
#endif
		fi;
		if :: OTHER_HAS(i) -> twice-- :: else -> skip fi;
		if
		:: phase[i] == ENDED || phase[i] == VOID -> d_step { msgs = msgs & ~(1 << i); i = 0 }; goto end_idle
		:: phase[i] == GRANTED || phase[i] == RUNNING ->
			if
			:: wstage[w] = TAKEN
			:: lost -> lost--; wstage[w] = TAKEDOUBT
			:: lost -> d_step {
				lost--; wstage[w] = TAKEDOUBT; wop[w] = i;
				printf("worker %d sends a take-over of op-%d that is not made; the answer is lost\n", w + 1, i + 1) };
				goto doubt
			fi
		fi;
		d_step {
			take_over();
			if
			:: wstage[w] == TAKEN -> printf("worker %d takes op-%d over\n", w + 1, i + 1)
			:: else -> printf("worker %d takes op-%d over; the answer is lost\n", w + 1, i + 1)
			fi
		}
	}
	if
	:: wstage[w] == TAKEN -> goto taken
	:: else -> goto doubt
	fi;
doubt:
	if
	:: atomic { crashes -> crashes-- }; goto dies
	:: d_step { TOOK_IT -> wstage[w] = TAKEN; wepoch[w] = epoch[i]; printf("worker %d finds that it has taken op-%d over\n", w + 1, i + 1) }
	:: d_step { !TOOK_IT -> printf("worker %d finds that it has not taken op-%d over\n", w + 1, i + 1); idle() }; goto end_idle
	fi;
taken:
	if
	:: atomic { crashes -> crashes-- }; goto dies
	:: !MINE || IN(wlow, w) -> goto stops
	:: d_step {
		!IN(wlow, w) -> wstage[w] = WORKING;
		printf("worker %d shows its fence and begins to work on op-%d\n", w + 1, i + 1);
#ifdef V_NO_FENCE_AT_TAKE_OVER
		check_workers()
#else
		raise(i, w, 0)
#endif
		}
	fi;
work:
	atomic {
		if
		:: !MINE -> goto stops
		:: crashes -> crashes--; goto dies
		:: MINE -> what = RELEASE; reads(old, EXCL(i) | SHRD(i))
		:: MINE && lost -> what = RELEASE; reads(old, EXCL(i) | SHRD(i)); lost--; wstage[w] = ENDDOUBT
		:: MINE && IN(DOWNGRADES, i) && !IN(down, i) -> what = DOWNGRADE; reads(old, 1 << DOWNKEY(i))
		fi;
		d_step {
			if
			:: what == RELEASE && wstage[w] != ENDDOUBT -> wstage[w] = DONE; printf("worker %d ends op-%d\n", w + 1, i + 1)
			:: what == RELEASE && wstage[w] == ENDDOUBT -> printf("worker %d ends op-%d; the answer is lost\n", w + 1, i + 1)
			:: else -> printf("worker %d downgrades op-%d\n", w + 1, i + 1)
			fi;
			if :: what == RELEASE -> wepoch[w] = 0; wlow = wlow & ~(1 << w) :: else -> skip fi;
#ifdef V_END_IN_TWO
			phase[i] = ENDED; fair_line = 1; check_records(); /* the entries later */
#else
			commit(what, i, old);
#endif
			old = 0; what = 0
		};
		if :: wstage[w] == WORKING -> goto work :: else -> skip fi
	}
	if
	:: wstage[w] == DONE -> skip
	:: wstage[w] == ENDDOUBT -> d_step {
		wstage[w] = DONE; printf("worker %d sends the end of op-%d again\n", w + 1, i + 1);
#ifdef V_COUNT_HOLDERS
		commit(RELEASE, i, 0) /* a counter can only be decremented once more */
#endif
		}
	:: atomic { crashes -> crashes-- }; goto dies
	fi;
	if
	:: d_step { msgs = msgs & ~(1 << i); printf("worker %d acknowledges op-%d\n", w + 1, i + 1); idle() }; goto end_idle
	:: atomic { crashes -> crashes-- }; goto dies
	fi;
stops:
	atomic {
		skip;
		d_step {
			printf("worker %d was overtaken with op-%d, and stops\n", w + 1, i + 1);
#ifdef V_OVERTAKEN_ACKS
			msgs = msgs & ~(1 << i);
			check_told(i);
#endif
			idle() };
		goto end_idle
	}
dies:
	atomic {
		skip;
		d_step { printf("worker %d dies with op-%d\n", w + 1, i + 1); idle() };
		goto end_idle
	}
}

#ifdef V_WAKE_BELIEVES_READS
#define SERVES(key) 0
#else
#define SERVES(key) (1 << (key))
#endif

proctype Wakes() {
	byte key, old;
end_wakes:
	do
	:: atomic {
		if
		:: IN(wakes, 0) -> key = 0
		:: IN(wakes, 1) -> key = 1
		fi;
		reads(old, SERVES(key));
		d_step { printf("a wake of key %d is served\n", key); commit(SERVE, key, old); old = 0; key = 0 } }
#ifdef V_WAKE_ACKED_FIRST
	:: d_step {
		crashes && wakes -> crashes--; wakes = 0; printf("a wake is acknowledged; who was to serve it dies\n"); fair_line = 1; check_records() }
#endif
	od
}

#if BREAKS
/* an operator breaks operation i: it is void, then its fence is raised, then it gives its locks up */
proctype Operator(byte i) {
	byte old;
end_operator:
	d_step {
		breaks && (phase[i] == GRANTED || phase[i] == RUNNING) ->
		breaks--; phase[i] = VOID; taker[i] = 0; epoch[i] = epoch[i] + 1;
		printf("an operator breaks op-%d: it is void\n", i + 1)
	}
#ifndef V_BREAK_WITHOUT_FENCE
	d_step { printf("its fence is raised\n"); raise(i, 2, 0) }
#endif
	atomic { reads(old, EXCL(i) | SHRD(i)); d_step { printf("the break of op-%d releases its locks\n", i + 1); commit(RELEASE, i, old); old = 0 } }
#ifdef V_BREAK_OWN_NUMBER
	d_step { printf("the fence is raised by another one who repeats the break\n"); raise(i, 2, 1) }
#endif
}
#endif

/* when nothing moves any more, all has ended, and nothing is left of it */
proctype Monitor() {
	byte progress;
	timeout -> d_step {
		progress = (msgs == 0 && wakes == 0 && wstage[0] == IDLE && wstage[1] == IDLE);
		j = 0;
		do
		:: j < N ->
			if :: !(phase[j] == ENDED || phase[j] == ABSENT && told[j] == TOLD_NO) -> progress = 0 :: else -> skip fi;
			j++
		:: else -> break
		od;
		j = 0;
		do :: j < K -> if :: held[j] || n[j] -> progress = 0 :: else -> skip fi; j++ :: else -> break od;
		assert(progress)
	}
}

init {
	byte i;
	atomic {
		do
		:: i < N ->
			run Client(i);
#if BREAKS
			run Operator(i);
#endif
			i++
		:: else -> break
		od;
		run Worker(0); run Worker(1); run Wakes(); run Monitor();
		i = 0
	}
}
