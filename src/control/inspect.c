/* Registers and memory as text, in the layout of QEMU's monitor; see inspect.h. */
#include "control/inspect.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "memory/walk.h"
#include "platform/ram.h"
#include "x86/print.h"

/* More than anybody reads; what a line of a hostile client costs is bounded by it. */
#define MAX_COUNT 65536
#define MAX_INSN  15

/* -- Registers ----------------------------------------------------------------------------- */

static void print_gprs(const struct x86_cpu *c, FILE *out)
{
    /* QEMU's order, which is not the encoding's. */
    static const u8 order[16] = {0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15};
    static const char *const names[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
                                          "RSI", "RDI", "R8 ", "R9 ", "R10", "R11",
                                          "R12", "R13", "R14", "R15"};
    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "%s=%016" PRIx64 "%c", names[order[i]], c->gpr[order[i]],
                i % 4 == 3 ? '\n' : ' ');
}

static void print_flags(const struct vcpu *vcpu, FILE *out)
{
    static const struct {
        unsigned bit;
        char letter;
    } flags[] = {{10, 'D'}, {11, 'O'}, {7, 'S'}, {6, 'Z'}, {4, 'A'}, {2, 'P'}, {0, 'C'}};
    const struct x86_cpu *c = &vcpu->cpu;
    fprintf(out, "RIP=%016" PRIx64 " RFL=%08" PRIx64 " [", c->rip, c->rflags);
    for (unsigned i = 0; i < ARRAY_LEN(flags); i++)
        fputc(c->rflags & BIT(flags[i].bit) ? flags[i].letter : '-', out);
    fprintf(out, "] CPL=%u II=%u A20=1 SMM=0 HLT=%u\n", c->cpl, c->sti_shadow || c->ss_shadow,
            c->activity != CPU_RUNNING);
}

static void print_code_or_data(const struct x86_seg *seg, bool long_mode, FILE *out)
{
    bool code = seg->attr & SEG_CODE;
    if (code)
        fputs(seg->attr & SEG_L ? "CS64" : seg->attr & SEG_DB ? "CS32" : "CS16", out);
    else
        fputs(seg->attr & SEG_DB || long_mode ? "DS  " : "DS16", out);
    char grows = seg->attr & SEG_DOWN ? (code ? 'C' : 'E') : '-';
    char right = seg->attr & SEG_WRITE ? (code ? 'R' : 'W') : '-';
    fprintf(out, " [%c%c%c]", grows, right, seg->attr & SEG_ACCESSED ? 'A' : '-');
}

static void print_segment(const char *name, const struct x86_seg *seg, const struct x86_cpu *c,
                          FILE *out)
{
    static const char *const system[16] = {"Reserved",   "TSS16-avl", "LDT",       "TSS16-busy",
                                           "CallGate16", "TaskGate",  "IntGate16", "TrapGate16",
                                           "Reserved",   "TSS-avl",   "Reserved",  "TSS-busy",
                                           "CallGate",   "Reserved",  "IntGate",   "TrapGate"};
    fprintf(out, "%-3s=%04x %016" PRIx64 " %08x %08x", name, seg->sel, seg->base, seg->limit,
            (seg->attr & 0xf0ff) << 8);
    if (x86_protected(c) && seg->attr & SEG_P) {
        fprintf(out, " DPL=%u ", SEG_DPL(seg->attr));
        if (seg->attr & SEG_S)
            print_code_or_data(seg, x86_long_mode(c), out);
        else
            fputs(system[seg->attr & SEG_TYPE], out);
    }
    fputc('\n', out);
}

static void print_system(const struct x86_cpu *c, FILE *out)
{
    static const char *const names[SEG_COUNT] = {"ES", "CS", "SS",  "DS",
                                                 "FS", "GS", "LDT", "TR"};
    for (unsigned i = 0; i < SEG_COUNT; i++)
        print_segment(names[i], &c->seg[i], c, out);
    fprintf(out, "GDT=     %016" PRIx64 " %08x\n", c->gdtr.base, c->gdtr.limit);
    fprintf(out, "IDT=     %016" PRIx64 " %08x\n", c->idtr.base, c->idtr.limit);
    fprintf(out, "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 "\n",
            c->cr0, c->cr2, c->cr3, c->cr4);
    for (unsigned i = 0; i < 4; i++)
        fprintf(out, "DR%u=%016" PRIx64 "%c", i, c->dr[i], i == 3 ? '\n' : ' ');
    fprintf(out, "DR6=%016" PRIx64 " DR7=%016" PRIx64 "\nEFER=%016" PRIx64 "\n", c->dr6, c->dr7,
            c->efer);
}

static u64 load64(const u8 *bytes)
{
    u64 value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

static void print_vectors(const struct x86_fpu *f, FILE *out)
{
    fprintf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", f->fcw, f->fsw,
            f->fsw >> 11 & 7, f->ftw, f->mxcsr);
    for (unsigned i = 0; i < 8; i++)
        fprintf(out, "FPR%u=%016" PRIx64 " %04x%c", i, load64(f->st[i]),
                (unsigned)load64(f->st[i] + 8) & 0xffff, i % 2 ? '\n' : ' ');
    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "YMM%02u=%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
                load64(f->ymm_hi[i] + 8), load64(f->ymm_hi[i]), load64(f->xmm[i] + 8),
                load64(f->xmm[i]));
}

void inspect_registers(const struct vcpu *vcpu, FILE *out)
{
    fprintf(out, "\nCPU#%u\n", vcpu->index);
    print_gprs(&vcpu->cpu, out);
    print_flags(vcpu, out);
    print_system(&vcpu->cpu, out);
    print_vectors(&vcpu->cpu.fpu, out);
}

/* -- Expressions --------------------------------------------------------------------------- */

static bool named_register(const struct x86_cpu *c, const char *name, u64 *value)
{
    static const char *const gprs[16] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di",
                                         "8",  "9",  "10", "11", "12", "13", "14", "15"};
    static const char *const segs[SEG_COUNT] = {"es", "cs", "ss",  "ds",
                                                "fs", "gs", "ldt", "tr"};
    const struct {
        const char *name;
        u64 value;
    } others[] = {{"pc", c->rip},    {"eip", c->rip},       {"rip", c->rip},
                  {"sp", c->gpr[4]}, {"eflags", c->rflags}, {"cr0", c->cr0},
                  {"cr2", c->cr2},   {"cr3", c->cr3},       {"cr4", c->cr4}};
    for (unsigned i = 0; i < 16; i++) {
        bool prefixed = *name == 'r' || (*name == 'e' && i < 8);
        if (prefixed && !strcmp(name + 1, gprs[i])) {
            *value = c->gpr[i];
            return true;
        }
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        if (!strcmp(name, segs[i])) {
            *value = c->seg[i].sel;
            return true;
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        if (!strcmp(name, others[i].name)) {
            *value = others[i].value;
            return true;
        }
    }
    return false;
}

static void skip_space(const char **text)
{
    *text += strspn(*text, " \t");
}

static bool parse_register(const struct vcpu *vcpu, const char **text, u64 *value,
                           struct error *err)
{
    char name[8] = "";
    size_t length = 0;
    ++*text;
    while (isalnum((unsigned char)(*text)[length]))
        length++;
    memcpy(name, *text, length < sizeof(name) ? length : sizeof(name) - 1);
    *text += length;
    return named_register(&vcpu->cpu, name, value) || error_set(err, "unknown register");
}

#define MAX_NESTING 32

static bool parse_sum(const struct vcpu *vcpu, const char **text, u64 *value, unsigned depth,
                      struct error *err);

static bool parse_unary(const struct vcpu *vcpu, const char **text, u64 *value, unsigned depth,
                        struct error *err)
{
    char *end;
    skip_space(text);
    if (depth > MAX_NESTING)
        return error_set(err, "expression nests too deep");
    switch (**text) {
    case '$':
        return parse_register(vcpu, text, value, err);
    case '-':
    case '+':
    case '~': {
        char sign = *(*text)++;
        if (!parse_unary(vcpu, text, value, depth + 1, err))
            return false;
        *value = sign == '-' ? -*value : sign == '~' ? ~*value : *value;
        return true;
    }
    case '(':
        ++*text;
        if (!parse_sum(vcpu, text, value, depth + 1, err))
            return false;
        if (**text != ')')
            return error_set(err, "')' expected");
        ++*text;
        skip_space(text);
        return true;
    default:
        if (!isdigit((unsigned char)**text))
            return error_set(err, "invalid char '%c' in expression", **text ? **text : ' ');
        *value = strtoull(*text, &end, 0);
        *text = end;
        return true;
    }
}

static bool parse_product(const struct vcpu *vcpu, const char **text, u64 *value,
                          unsigned depth, struct error *err)
{
    u64 right;
    if (!parse_unary(vcpu, text, value, depth, err))
        return false;
    for (skip_space(text); **text && strchr("*/%&|^", **text); skip_space(text)) {
        char op = *(*text)++;
        if (!parse_unary(vcpu, text, &right, depth, err))
            return false;
        if ((op == '/' || op == '%') && !right)
            return error_set(err, "division by zero");
        *value = op == '*'   ? *value * right
                 : op == '/' ? *value / right
                 : op == '%' ? *value % right
                 : op == '&' ? *value & right
                 : op == '|' ? *value | right
                             : *value ^ right;
    }
    return true;
}

static bool parse_sum(const struct vcpu *vcpu, const char **text, u64 *value, unsigned depth,
                      struct error *err)
{
    u64 right;
    if (!parse_product(vcpu, text, value, depth, err))
        return false;
    while (**text == '+' || **text == '-') {
        char op = *(*text)++;
        if (!parse_product(vcpu, text, &right, depth, err))
            return false;
        *value = op == '+' ? *value + right : *value - right;
    }
    return true;
}

bool inspect_value(const struct vcpu *vcpu, const char **text, u64 *value, struct error *err)
{
    return parse_sum(vcpu, text, value, 0, err);
}

/* -- Memory -------------------------------------------------------------------------------- */

bool inspect_read(struct vcpu *vcpu, bool physical, u64 addr, void *buf, u64 len)
{
    u8 *to = buf;
    while (len) {
        struct gpa at = gpa(addr);
        u64 part = PAGE_SIZE - (addr & ~PAGE_MASK);
        part = part < len ? part : len;
        if (!physical && !walk_peek(&vcpu->cpu, vcpu->board->pmap, gva(addr), &at))
            return false;
        if (!ram_read(vcpu->board, at, to, part))
            return false;
        addr += part;
        to += part;
        len -= part;
    }
    return true;
}

bool inspect_format_parse(struct inspect_format *format, const char *text, struct error *err)
{
    char *end;
    *format = (struct inspect_format){.count = 1, .letter = 'x', .size = 4};
    if (*text != '/')
        return true;
    text++;
    if (isdigit((unsigned char)*text)) {
        unsigned long count = strtoul(text, &end, 10);
        format->count = count < MAX_COUNT ? (unsigned)count : MAX_COUNT;
        text = end;
    }
    for (; *text; text++) {
        static const char sizes[] = "bwhg"; /* the order does not matter */
        if (strchr("xduoci", *text))
            format->letter = *text;
        else if (strchr(sizes, *text))
            format->size = *text == 'b' ? 1 : *text == 'h' ? 2 : *text == 'w' ? 4 : 8;
        else
            return error_set(err, "invalid char in format: '%c'", *text);
    }
    return true;
}

static void print_value(u64 value, const struct inspect_format *format, FILE *out)
{
    unsigned bits = format->size * 8;
    s64 signed_value = (s64)(value << (64 - bits)) >> (64 - bits);
    switch (format->letter) {
    case 'd':
        fprintf(out, " %" PRId64, signed_value);
        break;
    case 'u':
        fprintf(out, " %" PRIu64, value);
        break;
    case 'o':
        fprintf(out, " %#" PRIo64, value);
        break;
    case 'c':
        if (value >= ' ' && value < 127)
            fprintf(out, " '%c'", (int)value);
        else
            fprintf(out, " '\\x%02x'", (unsigned)value & 0xff);
        break;
    default:
        fprintf(out, " 0x%0*" PRIx64, (int)format->size * 2, value);
    }
}

static void print_insns(struct vcpu *vcpu, bool physical, unsigned count, u64 addr, FILE *out)
{
    for (unsigned i = 0; i < count; i++) {
        u8 bytes[MAX_INSN];
        char text[128];
        unsigned available = 0;
        while (available < MAX_INSN &&
               inspect_read(vcpu, physical, addr + available, &bytes[available], 1))
            available++;
        if (!available) {
            fprintf(out, "0x%08" PRIx64 ":  Cannot access memory\n", addr);
            return;
        }
        unsigned len =
            x86_print_insn(bytes, available, vcpu->cpu.code_size, addr, text, sizeof(text));
        fprintf(out, "0x%08" PRIx64 ":  ", addr);
        for (unsigned k = 0; k < (len ? len : 1); k++)
            fprintf(out, "%02x ", bytes[k]);
        fprintf(out, "%*s %s\n", (int)(len < 8 ? 3 * (8 - len) : 0), "", text);
        addr += len ? len : 1;
    }
}

void inspect_memory(struct vcpu *vcpu, bool physical, const struct inspect_format *format,
                    u64 addr, FILE *out)
{
    if (format->letter == 'i') {
        print_insns(vcpu, physical, format->count, addr, out);
        return;
    }
    unsigned size = format->letter == 'c' ? 1 : format->size;
    struct inspect_format each = {.letter = format->letter, .size = size};
    unsigned in_line = size == 1 ? 8 : size == 8 ? 2 : size == 4 ? 4 : 8;
    for (unsigned i = 0; i < format->count; i++, addr += size) {
        u64 value = 0;
        if (i % in_line == 0)
            fprintf(out, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
        if (!inspect_read(vcpu, physical, addr, &value, size)) {
            fputs(" Cannot access memory\n", out);
            return;
        }
        print_value(value, &each, out);
    }
    fputc('\n', out);
}
