/*
 * A wire. A device that raises an interrupt holds one of these and never learns what is at the
 * other end (8259, IOAPIC, both, a test). Level 1 asserts, 0 releases; setting the same level
 * again is allowed and has no effect at an edge input. Threads: under the board lock.
 */
#pragma once

#include "base/types.h"

struct irq_line {
    void (*set)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n; /* the input's number at the receiver */
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->opaque, line->n, level);
}

/* An edge: the receiver sees a rise and a fall. */
static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, true);
    irq_set(line, false);
}
