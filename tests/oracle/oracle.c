/*
 * oracle --seed S --count N [--only MNEMONIC,...] [--verbose] [--summary]: runs N random
 * sequences on the bare processor, on x86/ and on the translator, and reports disagreements,
 * minimised: the first few in full, or with --summary how many there are of each kind, by
 * mnemonics and what differs. Status 0: all agree.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oracle.h"

#define BATCH          128u
#define MAX_MISMATCHES 10u

struct options {
    u64 seed, count;
    const char *only;
    bool verbose, summary;
};

/* Disagreements of one kind. */
#define MAX_KINDS 512u
struct kind {
    char name[224];
    unsigned count;
    u64 number; /* of the first sequence */
};

struct totals {
    u64 sequences, faults, lost, settled, mismatches;
    struct kind kinds[MAX_KINDS]; /* summary */
    unsigned n_kinds;
};

struct arena {
    struct runner *runners[RUNNERS];
    unsigned n;          /* of them: the last one may be missing */
    struct job *jobs[2]; /* one batch runs while the next is made */
    struct job *trial;
};

static void run_both(struct arena *a, struct job *jobs, unsigned count)
{
    for (unsigned k = 0; k < a->n; k++)
        a->runners[k]->start(a->runners[k]->opaque, jobs, count);
    for (unsigned k = 0; k < a->n; k++)
        a->runners[k]->finish(a->runners[k]->opaque);
}

static bool agree(const struct arena *a, const struct job *job, bool print)
{
    bool all = true;
    for (unsigned k = SIM; k < a->n; k++) {
        struct difference d = {0};
        bool one = states_agree(&job->sequence, &job->out[BARE], &job->out[k], k == BT, &d);
        if (print && !one) {
            printf(" %s:\n", a->runners[k]->name);
            d.print = true;
            states_agree(&job->sequence, &job->out[BARE], &job->out[k], k == BT, &d);
        }
        all &= one;
    }
    return all;
}

/* Replaces instruction `k` by NOPs, which keeps branches right. */
static void blank(struct sequence *q, unsigned k)
{
    unsigned at = 0;
    for (unsigned j = 0; j < k; j++)
        at += q->length[j];
    memset(q->code + at, 0x90, q->length[k]);
}

static void minimise(struct arena *a, struct job *job)
{
    for (unsigned k = 0; k < job->sequence.n; k++) {
        memcpy(a->trial, job, sizeof(*job));
        blank(&a->trial->sequence, k);
        run_both(a, a->trial, 1);
        if (!agree(a, a->trial, false))
            memcpy(job, a->trial, sizeof(*job));
    }
    run_both(a, job, 1);
}

static void print_state(const struct job *job)
{
    const struct state *s = &job->in;
    for (unsigned k = 0; k < (job->sequence.code_size == 8 ? 16 : 8); k++)
        printf("  gpr%-2u %016llx%s", k, (unsigned long long)s->gpr[k], k % 4 == 3 ? "\n" : "");
    printf("  rflags %llx fcw %x fsw %x ftw %x mxcsr %x\n", (unsigned long long)s->rflags,
           s->fpu.fcw, s->fpu.fsw, s->fpu.ftw, s->fpu.mxcsr);
    const struct state *end = &job->out[BARE];
    printf("  cpu: %s at %llx, vector %u, error %x, cr2 %llx\n",
           end->outcome == OUTCOME_END ? "end" : "fault", (unsigned long long)end->rip,
           end->vector, end->error, (unsigned long long)end->cr2);
}

static void report(struct arena *a, struct job *job, u64 number)
{
    printf("\nsequence %llu, %u-bit code:\n", (unsigned long long)number,
           job->sequence.code_size * 8);
    sequence_print(&job->sequence);
    agree(a, job, true);
    minimise(a, job);
    printf(" minimised:\n");
    sequence_print(&job->sequence);
    print_state(job);
    agree(a, job, true);
}

/* "adc: bt gpr rflags" */
static void name_kind(const struct arena *a, const struct job *job, char *name, size_t size)
{
    sequence_mnemonics(&job->sequence, name, size / 2);
    strcat(name, ":");
    for (unsigned k = SIM; k < a->n; k++) {
        struct difference d = {0};
        size_t used = strlen(name);
        if (!states_agree(&job->sequence, &job->out[BARE], &job->out[k], k == BT, &d))
            snprintf(name + used, size - used, " %s%s", a->runners[k]->name, d.in);
    }
}

static void summarise(struct arena *a, struct job *job, struct totals *t)
{
    struct kind kind = {.number = t->sequences};
    unsigned k = 0;
    minimise(a, job);
    name_kind(a, job, kind.name, sizeof(kind.name));
    while (k < t->n_kinds && strcmp(t->kinds[k].name, kind.name) != 0)
        k++;
    if (k == MAX_KINDS)
        return;
    if (k == t->n_kinds)
        t->kinds[t->n_kinds++] = kind;
    t->kinds[k].count++;
}

static int more_frequent(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->count < y->count) - (x->count > y->count);
}

static void print_summary(struct totals *t)
{
    qsort(t->kinds, t->n_kinds, sizeof(t->kinds[0]), more_frequent);
    for (unsigned k = 0; k < t->n_kinds; k++)
        printf("%6u %s (sequence %llu)\n", t->kinds[k].count, t->kinds[k].name,
               (unsigned long long)t->kinds[k].number);
}

/*
 * An interrupt in the middle may change what the processor answers: AMD's forget the pointers
 * to the last x87 instruction at a switch of tasks. What agrees when repeated was that.
 */
static bool settles(struct arena *a, struct job *job)
{
    for (unsigned k = 0; k < 3; k++) {
        memcpy(a->trial, job, sizeof(*job));
        run_both(a, a->trial, 1);
        if (agree(a, a->trial, false))
            return true;
    }
    return false;
}

/* Branches skip a few that are counted all the same. */
static void count_forms(struct forms *forms, const struct job *job)
{
    const struct sequence *q = &job->sequence;
    const struct state *s = &job->out[BARE];
    u64 end = s->outcome == OUTCOME_END ? q->bytes : s->rip - q->start;
    for (unsigned k = 0, at = 0; k < q->n && at <= end; at += q->length[k++]) {
        if (q->form[k] == NO_FORM)
            continue;
        forms->list[q->form[k]].runs++;
        forms->list[q->form[k]].completed += at < end;
    }
}

static void account(struct arena *a, const struct options *o, struct forms *forms,
                    struct job *job, struct totals *t)
{
    t->sequences++;
    t->faults += job->out[BARE].outcome == OUTCOME_FAULT;
    for (unsigned k = 0, lost = 0; k < a->n && !lost; k++)
        t->lost += lost = job->out[k].outcome == OUTCOME_LOST;
    count_forms(forms, job);
    if (o->verbose) {
        printf("%llu:\n", (unsigned long long)t->sequences);
        sequence_print(&job->sequence);
    }
    if (agree(a, job, false))
        return;
    if (settles(a, job)) {
        t->settled++;
        return;
    }
    t->mismatches++;
    if (o->summary)
        summarise(a, job, t);
    else if (t->mismatches <= MAX_MISMATCHES)
        report(a, job, t->sequences);
}

static void print_mnemonics(const char *what, const u8 *seen, u8 value)
{
    unsigned count = 0;
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
        count += seen[m] == value;
    printf("mnemonics %s: %u%s", what, count, value == 3 ? "" : ":");
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE && value != 3; m++)
        if (seen[m] == value)
            printf(" %s", ZydisMnemonicGetString(m));
    printf("\n");
}

static void print_coverage(const struct forms *forms)
{
    unsigned completed = 0, faulted = 0, missed = 0, excluded = 0;
    /* 1: not met, 2: only faulted, 3: completed */
    u8 seen[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {0};
    for (unsigned k = 0; k < forms->count; k++) {
        const struct form *f = &forms->list[k];
        u8 level = f->completed ? 3 : f->runs ? 2 : 1;
        if (f->excluded) {
            excluded++;
            continue;
        }
        completed += level == 3;
        faulted += level == 2;
        missed += level == 1;
        if (level > seen[f->mnemonic])
            seen[f->mnemonic] = level;
    }
    printf("forms covered: %u, only ever faulting: %u, not covered: %u, excluded: %u\n",
           completed, faulted, missed, excluded);
    print_mnemonics("covered", seen, 3);
    print_mnemonics("only ever faulting", seen, 2);
    print_mnemonics("not covered", seen, 1);
}

/* One batch is made while the processor runs the one before. */
static void run_batches(struct arena *a, const struct options *o, struct forms *forms,
                        struct totals *t)
{
    struct random random;
    unsigned now = 0, count = 0;
    random_seed(&random, o->seed);
    for (u64 left = o->count; left || count;) {
        unsigned next = left < BATCH ? (unsigned)left : BATCH;
        if (count)
            a->runners[BARE]->start(a->runners[BARE]->opaque, a->jobs[now], count);
        for (unsigned k = 0; k < next; k++)
            generate(forms, &random, &a->jobs[!now][k]);
        if (count) {
            for (unsigned k = SIM; k < a->n; k++)
                a->runners[k]->start(a->runners[k]->opaque, a->jobs[now], count);
            for (unsigned k = 0; k < a->n; k++)
                a->runners[k]->finish(a->runners[k]->opaque);
        }
        for (unsigned k = 0; k < count; k++)
            account(a, o, forms, &a->jobs[now][k], t);
        left -= next;
        count = next;
        now = !now;
    }
}

static int run(const struct options *o, struct forms *forms)
{
    const char *why;
    struct arena a = {.runners = {bare_runner(), sim_runner(), bt_runner(&why)}};
    struct totals t = {0};
    a.n = a.runners[BT] ? RUNNERS : BT;
    if (a.n == BT)
        printf("without the translator: %s\n", why);
    /* In one mapping, made before the child is. */
    a.jobs[0] = bare_alloc((2 * BATCH + 1) * sizeof(struct job));
    a.jobs[1] = a.jobs[0] + BATCH;
    a.trial = a.jobs[0] + 2 * BATCH;
    printf("seed %llu\n", (unsigned long long)o->seed);
    run_batches(&a, o, forms, &t);
    printf("sequences: %llu, ended by a fault: %llu, lost: %llu, settled when repeated: %llu, "
           "disagreements: %llu\n",
           (unsigned long long)t.sequences, (unsigned long long)t.faults,
           (unsigned long long)t.lost, (unsigned long long)t.settled,
           (unsigned long long)t.mismatches);
    print_summary(&t);
    print_coverage(forms);
    for (unsigned k = 0; k < a.n; k++)
        a.runners[k]->free(a.runners[k]);
    return t.mismatches != 0;
}

static bool any_form(const struct forms *forms)
{
    for (unsigned k = 0; k < forms->count; k++)
        if (!forms->list[k].excluded)
            return true;
    return false;
}

int main(int argc, char **argv)
{
#ifdef __SANITIZE_ADDRESS__
    /* Its shadow lies where sequences expect nothing. */
    fputs("oracle: skipped: AddressSanitizer maps memory below 4 GiB\n", stderr);
    return 77;
#endif
    static const struct option words[] = {
        {"seed", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'c'},
        {"only", required_argument, NULL, 'o'}, {"verbose", no_argument, NULL, 'v'},
        {"summary", no_argument, NULL, 'S'},    {0}};
    struct options o = {.seed = (u64)time(NULL), .count = 200000};
    for (int c; (c = getopt_long(argc, argv, "", words, NULL)) != -1;) {
        switch (c) {
        case 's':
            o.seed = strtoull(optarg, NULL, 0);
            break;
        case 'c':
            o.count = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            o.only = optarg;
            break;
        case 'v':
            o.verbose = true;
            break;
        case 'S':
            o.summary = true;
            break;
        default:
            return 2;
        }
    }
    struct forms forms;
    forms_init(&forms, o.only);
    int status = 2;
    if (any_form(&forms))
        status = run(&o, &forms);
    else
        fprintf(stderr, "oracle: no such mnemonic: %s\n", o.only);
    forms_free(&forms);
    return status;
}
