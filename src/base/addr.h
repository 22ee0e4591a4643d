/*
 * The five address spaces (design, section 1), as types that do not mix.
 *
 *   struct gva   guest virtual; after segmentation, the manuals' "linear address"
 *   struct gpa   guest "physical"
 *   struct gfn   gpa >> 12, the guest's frame number
 *   struct mfn   machine frame: a page of host memory that the pmap hands out
 *   void *       hva, a host virtual address
 *
 * Each is a struct of one integer, so passing the wrong one is a compile error and costs
 * nothing. Grep for `gva(`, `gpa(` and so on: these constructors are the only ways in.
 */
#pragma once

#include "base/types.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ull
#define PAGE_MASK  (~(PAGE_SIZE - 1))

struct gva {
    u64 v;
};
struct gpa {
    u64 v;
};
struct gfn {
    u64 v;
};
struct mfn {
    u64 v;
};

static inline struct gva gva(u64 v)
{
    return (struct gva){v};
}
static inline struct gpa gpa(u64 v)
{
    return (struct gpa){v};
}
static inline struct gfn gfn(u64 v)
{
    return (struct gfn){v};
}
static inline struct mfn mfn(u64 v)
{
    return (struct mfn){v};
}
static inline struct gfn gpa_to_gfn(struct gpa a)
{
    return gfn(a.v >> PAGE_SHIFT);
}
static inline struct gpa gfn_to_gpa(struct gfn f)
{
    return gpa(f.v << PAGE_SHIFT);
}
/* Bytes from `a` to the end of its page, 1..4096. */
static inline u64 page_left(u64 a)
{
    return PAGE_SIZE - (a & ~PAGE_MASK);
}
