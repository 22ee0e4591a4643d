/*
 * Descriptor tables for tests of the processor's system half: a fake processor whose GDT, IDT
 * and TSS lie in its memory, in 32-bit protected or 64-bit mode.
 */
#pragma once

#include "fake_ops.h"
#include "x86/interrupt.h"

#define TABLE_GDT  (FAKE_BASE + 4 * PAGE_SIZE)
#define TABLE_LDT  (FAKE_BASE + 5 * PAGE_SIZE)
#define TABLE_IDT  (FAKE_BASE + 6 * PAGE_SIZE)
#define TABLE_TSS  (FAKE_BASE + 8 * PAGE_SIZE)
#define TABLE_TSS2 (TABLE_TSS + 0x800)
#define TABLE_SP0  (FAKE_BASE + 10 * PAGE_SIZE) /* RSP0, in a page of its own below */
#define TABLE_IST  (FAKE_BASE + 11 * PAGE_SIZE) /* IST1 */
#define TABLE_CODE (FAKE_BASE + 12 * PAGE_SIZE) /* where gates lead */

enum {
    SEL_KCODE = 0x08,
    SEL_KDATA = 0x10,
    SEL_UCODE = 0x18,
    SEL_UDATA = 0x20,
    SEL_UCODE64 = 0x28,
    SEL_TSS = 0x30,
    SEL_TSS2 = 0x40,
    SEL_LDT = 0x50,
    SEL_TEST = 0x60, /* the test's own */
    SEL_GATE = 0x70,
    GDT_LIMIT = 0x80 - 1,
};

/* Attributes as in descriptor bits 40..55. */
#define ATTR_KDATA 0x93u
#define ATTR_KCODE 0x9bu
#define ATTR_DPL3  0x60u
#define ATTR_G     SEG_G
#define ATTR_DB    SEG_DB
#define ATTR_L     SEG_L

struct fake *tables_new(unsigned code_size);

u64 tables_segment(u64 base, u32 limit, u32 attr);
void tables_set(struct fake *f, unsigned sel, u64 descriptor);
u64 tables_get(struct fake *f, unsigned sel);
/* A gate of the IDT in the mode's format; `ist` counts in 64-bit mode. */
void tables_idt(struct fake *f, unsigned vector, unsigned type, unsigned dpl, u16 sel,
                u64 offset, unsigned ist);
/* A call or task gate in the GDT. */
void tables_gate(struct fake *f, unsigned sel, unsigned type, unsigned dpl, u16 target,
                 u64 offset, unsigned count);

u64 tables_load(struct fake *f, u64 la, unsigned size);
void tables_store(struct fake *f, u64 la, unsigned size, u64 value);

/* Puts the processor at CPL 3 with the user segments. */
void tables_user(struct fake *f);
