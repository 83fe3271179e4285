/*
 * Runs the programs of a litmus test on real CPUs, many times, each time after a random delay, and counts how they end.
 *
 * What to do stands on stdin, one item a line, numbers in decimal (litmus.py writes it):
 *   run ITERATIONS SECONDS SEED PARENT
 *   span START LENGTH             all that the test may map: unmapped before each iteration
 *   vma START LENGTH PROT ADVICE  mapped anew for each iteration; ADVICE 0 for none
 *   fill START END VALUE          then written, a word at the start of each page
 *   drop START LENGTH             then MADV_DONTNEED
 *   look START                    then read
 *   final START                   its word is part of the outcome, if a page is present
 *   thread CPU                    what follows is this thread's
 *   warm START                    read just before the start
 *   read START REG / write START VALUE / call NR A0 A1 A2 A3 A4 A5 REG / mark / await THREAD MARKS
 * REG is -1 for none. Outcomes on stdout: a count, then every register of every thread, then every final word.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#define THREADS 64
#define REGISTERS 32
#define ITEMS 20000
#define OUTCOMES 4096
#define UNSET INT64_MIN
#define FAULTED (INT64_MIN + 1)
#define LONGEST_DELAY_LOG2 19

enum kind { VMA, FILL, DROP, LOOK, FINAL, SPAN, READ, WRITE, CALL, MARK, AWAIT, WARM };

struct item {
	enum kind kind;
	int64_t a[8];
};

struct list {
	struct item *items;
	int count;
};

struct thread {
	int cpu, index;
	struct list warm, program;
	int64_t registers[REGISTERS];
	int used;
	_Atomic int64_t marks;
	uint64_t random;
	sigjmp_buf refused;
	pthread_t handle;
} __attribute__((aligned(128)));

struct outcome {
	int64_t *values;
	int64_t count;
};

static struct thread threads[THREADS];
static int thread_count, width, outcome_count, pagemap;
static struct list prepare, finals;
static struct outcome outcomes[OUTCOMES];
static int64_t iterations, seconds, others;
static _Atomic int64_t round_number, warmed, finished;
static _Thread_local struct thread *me;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t next_random(uint64_t *state)	/* SplitMix64 */
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static struct item *add(struct list *list, enum kind kind)
{
	if (!list->items && !(list->items = calloc(ITEMS, sizeof(struct item))))
		die("memory");
	if (list->count == ITEMS) {
		fprintf(stderr, "more than %d operations\n", ITEMS);
		exit(1);
	}
	list->items[list->count].kind = kind;
	return &list->items[list->count++];
}

static void on_refusal(int number)
{
	(void)number;
	if (!me)
		_exit(3);
	siglongjmp(me->refused, 1);
}

static void wait_for(_Atomic int64_t *counter, int64_t least)
{
	for (int spins = 0; atomic_load_explicit(counter, memory_order_acquire) < least; spins++) {
		_mm_pause();
		if (spins > 20000) {	/* the other thread may want this CPU */
			sched_yield();
			spins = 0;
		}
	}
}

static int64_t load(struct thread *t, int64_t at)
{
	if (sigsetjmp(t->refused, 0))
		return FAULTED;
	return *(volatile int64_t *)at;
}

static void store(struct thread *t, int64_t at, int64_t value)
{
	if (!sigsetjmp(t->refused, 0))
		*(volatile int64_t *)at = value;
}

static int64_t call(const int64_t *a)
{
	long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);

	if (result == -1)
		return -errno;
	return a[0] == SYS_mmap ? 0 : result;
}

static void keep(struct thread *t, int64_t reg, int64_t result)
{
	if (reg >= 0)
		t->registers[reg] = result;
}

static void step(struct thread *t, const struct item *i)
{
	switch (i->kind) {
	case READ:
		keep(t, i->a[1], load(t, i->a[0]));
		break;
	case WARM:
		load(t, i->a[0]);
		break;
	case WRITE:
		store(t, i->a[0], i->a[1]);
		break;
	case CALL:
		keep(t, i->a[7], call(i->a));
		break;
	case MARK:
		atomic_fetch_add_explicit(&t->marks, 1, memory_order_release);
		break;
	case AWAIT:
		wait_for(&threads[i->a[0]].marks, i->a[1]);
		break;
	default:
		break;
	}
}

static void play(struct thread *t, int64_t number)
{
	uint64_t delay = next_random(&t->random), scale = next_random(&t->random) % (LONGEST_DELAY_LOG2 + 1), start;

	for (int n = 0; n < t->warm.count; n++)
		step(t, &t->warm.items[n]);
	atomic_fetch_add(&warmed, 1);
	wait_for(&warmed, number * thread_count);
	start = __rdtsc();
	delay &= ((uint64_t)1 << scale) - 1;
	while (__rdtsc() - start < delay)
		_mm_pause();
	for (int n = 0; n < t->program.count; n++)
		step(t, &t->program.items[n]);
	atomic_fetch_add(&finished, 1);
}

static void pin(struct thread *t)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t->cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set))
		die("sched_setaffinity");
	me = t;
}

static void *life(void *arg)
{
	struct thread *t = arg;

	pin(t);
	for (int64_t number = 1;; number++) {
		wait_for(&round_number, number);
		play(t, number);
	}
	return NULL;
}

static void set_up(void)
{
	for (int n = 0; n < prepare.count; n++) {
		const struct item *i = &prepare.items[n];
		char *at = (char *)i->a[0];

		switch (i->kind) {
		case SPAN:
			munmap(at, i->a[1]);
			break;
		case VMA:
			if (mmap(at, i->a[1], i->a[2] | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
				die("mmap");
			if (i->a[3] && madvise(at, i->a[1], i->a[3]))
				die("madvise");
			break;
		case FILL:
			for (char *end = (char *)i->a[1]; at < end; at += 4096)
				*(volatile int64_t *)at = i->a[2];
			break;
		case DROP:
			madvise(at, i->a[1], MADV_DONTNEED);
			break;
		case LOOK:
			(void)*(volatile int64_t *)at;
			break;
		default:
			if (i->kind == CALL && call(i->a))
				die("set-up");
		}
	}
	for (int n = 0; n < thread_count; n++) {
		for (int r = 0; r < threads[n].used; r++)
			threads[n].registers[r] = UNSET;
		atomic_store(&threads[n].marks, 0);
	}
}

static int64_t final_word(int64_t at)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, 8, at / 4096 * 8) != 8 || !(entry >> 63))
		return UNSET;
	return load(me, at);
}

static void count(void)
{
	int64_t values[THREADS * REGISTERS + 256], *end = values;
	int n;

	for (n = 0; n < thread_count; n++)
		for (int r = 0; r < threads[n].used; r++)
			*end++ = threads[n].registers[r];
	for (n = 0; n < finals.count; n++)
		*end++ = final_word(finals.items[n].a[0]);
	width = end - values;
	for (n = 0; n < outcome_count; n++)
		if (!memcmp(outcomes[n].values, values, width * sizeof *values))
			break;
	if (n == OUTCOMES) {
		others++;
		return;
	}
	if (n == outcome_count) {
		if (!(outcomes[n].values = malloc((width + 1) * sizeof *values)))
			die("memory");
		memcpy(outcomes[n].values, values, width * sizeof *values);
		outcome_count++;
	}
	outcomes[n].count++;
}

static int64_t parse(struct item *i, const char *rest, int wanted)
{
	for (int n = 0; n < wanted; n++) {
		char *end;

		i->a[n] = strtoll(rest, &end, 10);
		if (end == rest) {
			fprintf(stderr, "a number is missing in '%s'\n", rest);
			exit(1);
		}
		rest = end;
	}
	return i->a[0];
}

static void note_register(struct thread *t, int64_t reg)
{
	if (reg >= REGISTERS) {
		fprintf(stderr, "more than %d registers\n", REGISTERS);
		exit(1);
	}
	if (reg >= t->used)
		t->used = reg + 1;
}

static void read_items(void)
{
	static const struct {
		const char *word;
		enum kind kind;
		int numbers, reg;
	} forms[] = {
		{ "span", SPAN, 2, -1 }, { "vma", VMA, 4, -1 }, { "fill", FILL, 3, -1 }, { "drop", DROP, 2, -1 },
		{ "look", LOOK, 1, -1 }, { "final", FINAL, 1, -1 }, { "warm", WARM, 1, -1 }, { "read", READ, 2, 1 },
		{ "write", WRITE, 2, -1 }, { "call", CALL, 8, 7 }, { "mark", MARK, 0, -1 }, { "await", AWAIT, 2, -1 },
	};
	char line[512], word[16];
	struct thread *t = NULL;
	struct item numbers;
	int at;

	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%15s%n", word, &at) != 1)
			continue;
		if (!strcmp(word, "run")) {
			parse(&numbers, line + at, 4);
			iterations = numbers.a[0];
			seconds = numbers.a[1];
			for (int n = 0; n < THREADS; n++)
				threads[n].random = numbers.a[2] * THREADS + n;
			if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != numbers.a[3])
				exit(1);
		} else if (!strcmp(word, "thread")) {
			t = &threads[thread_count];
			t->index = thread_count++;
			t->cpu = parse(&numbers, line + at, 1);
		}
		for (size_t n = 0; n < sizeof forms / sizeof *forms; n++) {
			if (strcmp(word, forms[n].word))
				continue;
			struct list *list = forms[n].kind == FINAL ? &finals : !t ? &prepare : forms[n].kind == WARM ? &t->warm : &t->program;
			struct item *item = add(list, forms[n].kind);

			parse(item, line + at, forms[n].numbers);
			if (t && forms[n].reg >= 0)
				note_register(t, item->a[forms[n].reg]);
		}
	}
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_refusal, .sa_flags = SA_NODEFER };
	time_t start = time(NULL);

	read_items();
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if ((pagemap = open("/proc/self/pagemap", O_RDONLY)) < 0)
		die("/proc/self/pagemap");
	pin(&threads[0]);
	set_up();
	for (int n = 1; n < thread_count; n++)
		if (pthread_create(&threads[n].handle, NULL, life, &threads[n]))
			die("pthread_create");
	for (int64_t number = 1; number <= iterations && time(NULL) - start < seconds; number++) {
		if (number > 1)
			set_up();
		atomic_store(&round_number, number);
		play(&threads[0], number);
		wait_for(&finished, number * thread_count);
		count();
	}
	for (int n = 0; n < outcome_count; n++) {
		printf("%" PRId64, outcomes[n].count);
		for (int v = 0; v < width; v++)
			printf(" %" PRId64, outcomes[n].values[v]);
		printf("\n");
	}
	printf("others %" PRId64 "\n", others);
	return 0;
}
