/*
 * One vCPU in long mode with a few MiB of RAM, for running the same code on two engines and
 * comparing what it left.
 *
 * Guest memory: code at CODE, data at DATA, stack below STACK; all of RAM is mapped at its own
 * address for user and supervisor, and again at KERNEL for the supervisor, by 4 KiB pages. HOLE
 * is not mapped.
 */
#pragma once

#include "engine/engine.h"
#include "memory/pmap.h"
#include "x86/model.h"

#define RAM_SIZE (8 * MiB)
#define CODE     0x100000ull
#define DATA     0x200000ull
#define STACK    0x300000ull
#define HOLE     0x400000ull /* one page */
#define KERNEL   0xffffffff80000000ull

/* Selectors beside the kernel's 8 and 16. */
#define USER_SS 0x23
#define USER_CS 0x2b

struct guest {
    struct board board;
    struct vcpu *vcpu;
    struct log log;
    const struct engine *engine;
};

/* `seed` fills the data area and the registers. */
struct guest *guest_create(const struct engine *engine, u64 seed);
/* With ENGINE_* options. */
struct guest *guest_create_with(const struct engine *engine, u64 seed, u32 options);
void guest_destroy(struct guest *g);

/* Puts code at `la` (a mapped address). */
void guest_write(struct guest *g, u64 la, const void *bytes, u64 size);
/* A guest page's bytes. */
u8 *guest_page(struct guest *g, u64 gpa);

/* Runs from RIP until HLT, shutdown or a stop. */
enum engine_exit guest_run(struct guest *g);

/* One of the engine's counters; a name that it does not have ends the test. */
u64 guest_counter(const struct guest *g, const char *name);

/* The first difference of registers, vector state and RAM in words; NULL: equal. Flags in
 * `ignored` are not compared. */
const char *guest_compare(const struct guest *a, const struct guest *b, u64 ignored);
