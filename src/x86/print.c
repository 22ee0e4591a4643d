/* State and instructions as text, see print.h. */
#include "x86/print.h"

#include <Zydis/Zydis.h>
#include <stdarg.h>
#include <stdio.h>

/* Appends within a buffer and counts on beyond it, as snprintf does. */
struct text {
    char *buf;
    size_t size;
    int used;
};

static void __attribute__((format(printf, 2, 3)))
text_add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool room = (size_t)t->used < t->size;
    int n = vsnprintf(room ? t->buf + t->used : NULL, room ? t->size - (size_t)t->used : 0,
                      format, args);
    va_end(args);
    t->used += n;
}

static void print_gprs(const struct x86_cpu *c, struct text *t)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                          "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                          "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; i++)
        text_add(t, "%s=%016llx%s", names[i], (unsigned long long)c->gpr[i],
                 i % 4 == 3 ? "\n" : " ");
}

static void print_flags(const struct x86_cpu *c, struct text *t)
{
    static const char letters[] = "C.P.A.ZSTIDO..N.RVAFPI";
    text_add(t, "rip=%016llx rflags=%08llx [", (unsigned long long)c->rip,
             (unsigned long long)c->rflags);
    for (int i = (int)sizeof(letters) - 2; i >= 0; i--) {
        if (letters[i] != '.')
            text_add(t, "%c", c->rflags >> i & 1 ? letters[i] : '-');
    }
    text_add(t, "] cpl=%u code=%u%s\n", c->cpl, c->code_size * 8u,
             c->activity == CPU_RUNNING ? "" : " halted");
}

int x86_print_state(const struct x86_cpu *c, char *buf, size_t size)
{
    static const char *const segs[SEG_COUNT] = {"es", "cs", "ss",  "ds",
                                                "fs", "gs", "ldt", "tr"};
    struct text t = {buf, size, 0};
    print_gprs(c, &t);
    print_flags(c, &t);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        text_add(&t, "%-3s=%04x base=%016llx limit=%08x attr=%05x\n", segs[i], c->seg[i].sel,
                 (unsigned long long)c->seg[i].base, c->seg[i].limit, c->seg[i].attr);
    text_add(&t, "gdt=%016llx %04x idt=%016llx %04x\n", (unsigned long long)c->gdtr.base,
             c->gdtr.limit, (unsigned long long)c->idtr.base, c->idtr.limit);
    text_add(&t, "cr0=%08llx cr2=%016llx cr3=%016llx cr4=%08llx efer=%04llx",
             (unsigned long long)c->cr0, (unsigned long long)c->cr2, (unsigned long long)c->cr3,
             (unsigned long long)c->cr4, (unsigned long long)c->efer);
    return t.used;
}

unsigned x86_print_insn(const u8 *bytes, unsigned available, unsigned code_size, u64 rip,
                        char *buf, size_t size)
{
    ZydisMachineMode mode = code_size == 8   ? ZYDIS_MACHINE_MODE_LONG_64
                            : code_size == 4 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                             : ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisDisassembledInstruction insn;
    if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, rip, bytes, available, &insn))) {
        snprintf(buf, size, "(bad)");
        return 0;
    }
    snprintf(buf, size, "%s", insn.text);
    return insn.info.length;
}
