/* `-d in_asm,out_asm`: a TU's guest instructions, each with the host code it became. */
#include "engine/bt/translate.h"
#include "x86/print.h"

static void print_host(const struct translation *t, u32 from, u32 to)
{
    const struct bt *bt = t->bt;
    char text[128];
    while (from < to) {
        const void *at = bt_exec(bt, from);
        unsigned length =
            x86_print_insn(bt->memory.write + from, to - from, 8, (u64)at, text, sizeof(text));
        log_write(bt->vcpu->cpu.log, "        %p  %s", at, text);
        if (!length)
            return;
        from += length;
    }
}

static void print_guest(const struct translation *t, const struct guest_insn *g)
{
    char text[128];
    x86_print_insn(g->bytes, g->length, g->code_size, g->rip, text, sizeof(text));
    log_write(t->bt->vcpu->cpu.log, "    %016llx  %s", (unsigned long long)g->rip, text);
}

void listing_print(const struct translation *t)
{
    const struct log *log = t->bt->vcpu->cpu.log;
    bool in = log_on(log, LOG_IN_ASM), out = log_on(log, LOG_OUT_ASM);
    if (!in && !out)
        return;
    log_write(log, "tu %u at %016llx mode %#x: %u instructions, %u bytes to %u", t->tu_number,
              (unsigned long long)t->tu->rip, t->tu->mode, t->n, t->tu->guest_size,
              t->tu->end - t->tu->start);
    if (out)
        print_host(t, t->tu->start, t->host[0]);
    for (unsigned i = 0; i < t->n; i++) {
        if (in)
            print_guest(t, &t->insn[i]);
        if (out)
            print_host(t, t->host[i], t->host[i + 1]);
    }
    if (out)
        print_host(t, t->cold_start, t->cold_end);
}
