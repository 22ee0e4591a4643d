/*
 * The CPU as oracle: random user-mode instruction sequences run on the bare processor and on
 * the semantics of x86/, and every architectural result must agree.
 *
 * Everything lives below 4 GiB at the same addresses on both sides, so that 32-bit code can
 * reach it: two pages of code, and a window of three data pages, two writable, one read-only,
 * with nothing mapped around. A sequence ends where it meets INT3, of which the rest of the
 * code pages consists, or at a fault. It may begin anywhere in them: instructions then cross
 * from one page to the other, or from the last one to where nothing is. Some sequences rewrite
 * an instruction that follows: only for them the code pages are writable.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/cpu.h"

#define CODE_BASE    0x10000000ull
#define WINDOW_BASE  0x20000000ull
#define WINDOW_PAGES 3 /* the last one read-only */
#define WINDOW_SIZE  (WINDOW_PAGES * PAGE_SIZE)
#define CODE_PAGES   2
#define CODE_SIZE    (CODE_PAGES * PAGE_SIZE)
#define FS_BASE      (WINDOW_BASE + 0x400)
#define GS_BASE      (WINDOW_BASE + 0x1400)
#define MAX_INSNS    16
#define MAX_CODE     (MAX_INSNS * 15)

/* Selectors that Linux gives user code, hence the only ones the processor can run us with. */
#define USER_CS64 0x33
#define USER_CS32 0x23
#define USER_DS   0x2b

#define NO_FORM 0xffff

struct sequence {
    u64 start;     /* of its first instruction */
    bool modifies; /* itself: the code pages are writable */
    u8 code_size;  /* 8 or 4: 64-bit or compatibility mode */
    u8 n;
    u8 length[MAX_INSNS]; /* bytes of each instruction */
    u8 code[MAX_CODE];
    u16 form[MAX_INSNS]; /* index into the list of forms, or NO_FORM */
    u16 bytes;
};

enum outcome {
    OUTCOME_END,   /* met INT3 at rip */
    OUTCOME_FAULT, /* vector, error, cr2 */
    OUTCOME_LOST,  /* took too long, or took the runner down: nothing to compare */
};

struct state {
    u64 gpr[16];
    u64 rip;
    u64 rflags;
    struct x86_fpu fpu;
    u8 memory[WINDOW_SIZE];
    u8 code[CODE_SIZE]; /* only in results */
    /* Only in results: */
    u8 outcome; /* enum outcome */
    u8 vector;
    u32 error;
    u64 cr2;
    bool flags_unknown; /* the translator says: dead arithmetic flags may be older ones */
};

enum { BARE, SIM, BT, RUNNERS };

struct job {
    struct sequence sequence;
    struct state in;
    struct state out[RUNNERS];
};

/* A way of running sequences. */
struct runner {
    const char *name;
    /* Starts on `count` jobs, fills its element of their `out`; `finish` returns when that is
     * done. */
    void (*start)(void *opaque, struct job *jobs, unsigned count);
    void (*finish)(void *opaque);
    void (*free)(struct runner *r);
    void *opaque;
};

/* The processor itself, in a child process. `jobs` given to it must lie in memory from
 * bare_alloc. */
void *bare_alloc(size_t size);
struct runner *bare_runner(void);
/* The semantics of x86/. */
struct runner *sim_runner(void);
/* The translator, on a vCPU with page tables for these addresses; NULL, and *why: it cannot run
 * here. */
struct runner *bt_runner(const char **why);

/* What the processor under us is: its vendor, and its XCR0. */
bool host_is_amd(void);
u64 host_xcr0(void);
#define XCR0_COMPARED (XCR0_X87 | XCR0_SSE | XCR0_AVX)

/* -- Random numbers (xorshift128+), seeded ------------------------------------------------- */

struct random {
    u64 s[2];
    bool wild; /* pointers are drawn from where accesses fault */
    bool tame; /* absolute and relative operands always lie in the window */
};
void random_seed(struct random *r, u64 seed);
u64 random_next(struct random *r);
static inline unsigned random_below(struct random *r, unsigned n)
{
    return (unsigned)((random_next(r) >> 32) * n >> 32);
}
static inline bool random_percent(struct random *r, unsigned percent)
{
    return random_below(r, 100) < percent;
}

/* -- Forms: every mnemonic x operands x encoding that the decoder knows -------------------- */

struct form {
    u64 key; /* what makes two encodings the same form */
    u16 mnemonic;
    u8 code_size;
    u8 vex;    /* 0, or 0xc4 */
    u8 prefix; /* 0, 66, F2, F3; with VEX pp */
    u8 wide;   /* REX.W, VEX.W */
    u8 map;    /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    u8 opcode;
    u8 length; /* VEX.L */
    u8 modrm;
    bool excluded;
    u64 runs;      /* sequences that met it */
    u64 completed; /* and got past it without a fault */
};

struct forms {
    struct form *list;
    unsigned count;
};

/* Enumerates; `only` keeps the listed mnemonics (lower case, commas), NULL: all. */
void forms_init(struct forms *forms, const char *only);
void forms_free(struct forms *forms);

bool form_is_gather(const struct form *f);
/* The form's bytes, padded with zeroes to 15; returns how many matter. */
unsigned form_assemble(const struct form *f, u8 *out);
u64 form_key(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
             unsigned code_size);
bool form_excluded(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands);

/* A random sequence and state; `in` is complete but for out. */
void generate(struct forms *forms, struct random *r, struct job *job);

/* Random state of the units, for generate.c. */
void generate_state(struct random *r, struct state *s, unsigned code_size);

/* -- Comparing ----------------------------------------------------------------------------- */

struct difference {
    bool print; /* asked for: each as a line */
    unsigned count;
    char in[96]; /* what they are in: words, each behind a blank; kept from call to call */
};

/* False: they differ, in *d. `translated`: *b is of the translator. */
bool states_agree(const struct sequence *q, const struct state *a, const struct state *b,
                  bool translated, struct difference *d);
void sequence_print(const struct sequence *q);
/* The mnemonics in it but NOP. */
void sequence_mnemonics(const struct sequence *q, char *out, size_t size);
/* Puts the sequence into code pages at `code`, among INT3. */
void sequence_place(const struct sequence *q, u8 code[CODE_SIZE]);

bool decode_one(unsigned code_size, const u8 *bytes, unsigned n, ZydisDecodedInstruction *z,
                ZydisDecodedOperand *operands);
