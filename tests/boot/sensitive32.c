/*
 * The 32-bit companion of sensitive.c: instructions of a 32-bit program that could tell it
 * about the machine below, that load segments, or that leave for another mode, and what each
 * left behind: registers, selectors, flags and the signal. Freestanding.
 *
 * Each snippet runs at the beginning of a page, in the middle of another instruction's
 * immediate, and across the end of a page at each of its bytes.
 */
#include "linux32.h"
#include "sensitive.h"

#define PLACE  0x10000000 /* two pages of snippets */
#define TARGET 0x10002000 /* where far transfers go: mov eax, cs; int3 */

enum { MPROTECT = 125, RT_SIGACTION = 174, SIGALTSTACK = 186, MMAP2 = 192 };
enum { CS32 = 0x23, DATA = 0x2b };
enum { READ_EXECUTE = 5, READ_WRITE = 3 };

struct snippet {
    const char *name;
    u8 bytes[16];
    u8 size;
    u32 eax, ecx; /* at the start; ESI and EDI point to `scratch` */
    u32 mask;     /* of EAX and EDX that may be printed, of ECX the lower half; 0: all */
};
#define NOTHING 1u

/* A selector in ECX: looked at, loaded in each way, and as the target of far transfers. */
#define SELECTOR(sel)                                                                          \
    LOOKS(sel), {"mov es " #sel, CODE(0x8e, 0xc1, 0x8c, 0xc0), 0, sel, 0},                     \
        {"mov fs " #sel, CODE(0x8e, 0xe1, 0x8c, 0xe0), 0, sel, 0},                             \
        {"mov gs " #sel, CODE(0x8e, 0xe9, 0x8c, 0xe8), 0, sel, 0},                             \
        {"mov ss " #sel, CODE(0x8e, 0xd1, 0x8c, 0xd0), 0, sel, 0},                             \
        {"pop ds " #sel, CODE(0x51, 0x1f, 0x1e, 0x58), 0, sel, 0},                             \
        {"lgs " #sel, CODE(0x89, 0x4e, 0x04, 0x0f, 0xb5, 0x06, 0x8c, 0xe8), 0, sel, 0},        \
        {"les " #sel, CODE(0x89, 0x4e, 0x04, 0xc4, 0x06, 0x8c, 0xc0), 0, sel, 0},              \
        {"retf " #sel, CODE(0x51, 0x68, 0, 0x20, 0, 0x10, 0xcb), 0, sel, 0},                   \
        {"iret " #sel, CODE(0x9c, 0x51, 0x68, 0, 0x20, 0, 0x10, 0xcf), 0, sel, 0},             \
    {                                                                                          \
        "jmp far [esi] " #sel,                                                                 \
            CODE(0x89, 0x4e, 0x04, 0xc7, 0x06, 0, 0x20, 0, 0x10, 0xff, 0x2e), 0, sel, 0        \
    }

/* No null selectors with an RPL: an interrupt that comes and goes takes it, which is chance. */
static const struct snippet snippets[] = {
#include "sensitive.def"
    SELECTOR(0x00),
    SELECTOR(0x07),
    SELECTOR(0x10),
    SELECTOR(0x20),
    SELECTOR(0x23),
    SELECTOR(0x2b),
    SELECTOR(0x33),
    SELECTOR(0x3b),
    SELECTOR(0x63),
    SELECTOR(0x6b),
    SELECTOR(0x73),
    SELECTOR(0x83),
    {"push cs", CODE(0x0e, 0x58), 0, 0, 0},
    {"push ss", CODE(0x16, 0x58), 0, 0, 0},
    {"push ds", CODE(0x1e, 0x58), 0, 0, 0},
    {"push es", CODE(0x06, 0x58), 0, 0, 0},
    {"push fs", CODE(0x0f, 0xa0, 0x58), 0, 0, 0},
    {"push gs; pop gs", CODE(0x0f, 0xa8, 0x0f, 0xa9, 0x65, 0xa1, 4, 0, 0, 0), 0, 0, 0},
    {"mov eax, gs:[4]", CODE(0x65, 0xa1, 4, 0, 0, 0), 0, 0, 0},
    {"mov gs:[8], ecx", CODE(0x65, 0x89, 0x0d, 8, 0, 0, 0, 0x65, 0xa1, 8, 0, 0, 0), 0, 7, 0},
    {"mov eax, fs:[0]", CODE(0x64, 0xa1, 0, 0, 0, 0), 0, 0, 0},
    {"mov ds, 0; mov eax, [esi]", CODE(0x31, 0xc0, 0x8e, 0xd8, 0x8b, 0x06), 0, 0, 0},
    {"mov ds, 0; mov eax, cs:[esi]", CODE(0x31, 0xc0, 0x8e, 0xd8, 0x2e, 0x8b, 0x06), 0, 0, 0},
    {"mov cs:[esi], eax", CODE(0x2e, 0x89, 0x06), 0, 0, 0},
    {"lds [0:2b]", CODE(0xc7, 0x46, 4, 0x2b, 0, 0, 0, 0xc5, 0x06, 0x8c, 0xd8), 0, 0, 0},
    {"lss [0:2b]", CODE(0xc7, 0x46, 4, 0x2b, 0, 0, 0, 0x0f, 0xb2, 0x06, 0x8c, 0xd0), 0, 0, 0},
    {"jmp 33:target", CODE(0xea, 0, 0x20, 0, 0x10, 0x33, 0), 0, 0, 0},
    {"call 33:target", CODE(0x9a, 0, 0x20, 0, 0x10, 0x33, 0), 0, 0, 0},
    {"jmp 23:target", CODE(0xea, 0, 0x20, 0, 0x10, 0x23, 0), 0, 0, 0},
    {"jmp 73:target", CODE(0xea, 0, 0x20, 0, 0x10, 0x73, 0), 0, 0, 0},
    {"sgdt", CODE(0x0f, 0x01, 0x07, 0x8b, 0x47, 2), 0, 0, 0},
    {"sidt", CODE(0x0f, 0x01, 0x0f, 0x8b, 0x47, 2), 0, 0, 0},
    {"smsw", CODE(0x0f, 0x01, 0xe0), 0, 0, 0},
    {"rdtscp", CODE(0x0f, 0x01, 0xf9), 0, 0x55, NOTHING},
    {"rdfsbase", CODE(0xf3, 0x0f, 0xae, 0xc0), 0, 0, 0},
    {"popf tf", CODE(0x51, 0x9d, 0x90, 0x90), 0, 0x302, 0},
    {"popf nt; iret", CODE(0x51, 0x9d, 0x51, 0x0e, 0x68, 0, 0x20, 0, 0x10, 0xcf), 0, 0x4202, 0},
    {"popf nt; int 80; pushf", CODE(0x51, 0x9d, 0xcd, 0x80, 0x9c, 0x58), 24, 0x4202, 0},
    {"mov eax, cr0", CODE(0x0f, 0x20, 0xc0), 0, 0, 0},
    {"mov eax, dr7", CODE(0x0f, 0x21, 0xf8), 0, 0, 0},
    {"sysret", CODE(0x0f, 0x07), 0, 0, 0},
    {"xsave [edi]", CODE(0x0f, 0xae, 0x27, 0x8b, 0x87, 0, 2, 0, 0), 7, 0, 0},
    {"inc eax; dec eax", CODE(0x40, 0x40, 0x48), 5, 0, 0},
    {"inc eax; syscall", CODE(0x40, 0x0f, 0x05), 23, 0, 0},
    {"add (82h)", CODE(0x82, 0xc0, 1), 5, 0, 0},
    {"salc", CODE(0xf9, 0xd6), 0, 0, 0},
    {"arpl", CODE(0x63, 0xc8), 0x20, 3, 0},
    {"aam 0", CODE(0xd4, 0), 7, 0, 0},
    {"daa", CODE(0x27), 0x9a, 0, 0},
    {"aaa", CODE(0x37), 0xb, 0, 0},
    {"into", CODE(0xb0, 0x7f, 4, 1, 0xce), 0, 0, 0},
    {"into without", CODE(0xce, 0x40), 0, 0, 0},
    {"bound", CODE(0x62, 0x06), 5, 0, 0},
    {"int1", CODE(0xf1), 0, 0, 0},
    {"no call by int 80", CODE(0xcd, 0x80), 5000, 0, 0},
    {"getuid by syscall", CODE(0x0f, 0x05), 24, 0, 0},
    {"no call by syscall", CODE(0x0f, 0x05), 5000, 0, 0},
    {"getuid by sysenter", CODE(0x89, 0xe5, 0x0f, 0x34), 24, 0, 0},
    {"mov eax, [0]", CODE(0xa1, 0, 0, 0, 0), 0, 0, 0},
    {"mov eax, [fffff000]", CODE(0xa1, 0, 0xf0, 0xff, 0xff), 0, 0, 0},
    {"jmp fffff000", CODE(0xb8, 0, 0xf0, 0xff, 0xff, 0xff, 0xe0), 0, 0, 0},
};

/* -- Running one --------------------------------------------------------------------------- */

struct context { /* of signals: struct ucontext_ia32 */
    u32 flags, link, stack[3];
    u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip, cs, eflags;
    u32 esp_then, ss;
};

static u8 scratch[PAGE] __attribute__((aligned(PAGE), used));
static u32 thread_block[16];
static u8 handler_stack[64 * 1024];
static u32 stack[256];
static u32 saved_esp __attribute__((used));
static struct context seen;
static u32 thread_selector;
static int seen_signal, seen_code;

/* Runs the code at `code`, which never returns but through a signal. */
void run_code(u32 code, u32 eax, u32 ecx, u32 esp);
void restore_context(void);
void resumed(void);
__asm__("run_code:\n\t"
        "push %ebp; push %ebx; push %esi; push %edi\n\t"
        "mov %esp, saved_esp\n\t"
        "mov 20(%esp), %ebp; mov 24(%esp), %eax; mov 28(%esp), %ecx\n\t"
        "mov $scratch, %esi; mov %esi, %edi\n\t"
        "mov 32(%esp), %esp\n\t"
        "mov $0x1111, %ebx; mov $0x2222, %edx\n\t"
        "pushl $0x202; popf\n\t"
        "jmp *%ebp\n"
        "resumed:\n\t"
        "pop %edi; pop %esi; pop %ebx; pop %ebp\n\t"
        "ret\n"
        "restore_context:\n\t"
        "mov $173, %eax; int $0x80");

static void on_signal(int signal, const int *info, struct context *c)
{
    seen = *c;
    seen_signal = signal;
    seen_code = info[2];
    c->eip = (u32)resumed;
    c->esp = saved_esp;
    c->cs = CS32;
    c->ss = c->ds = c->es = DATA;
    c->fs = 0;
    c->gs = thread_selector;
    c->eflags = 0x202;
}

static void catch_signals(void)
{
    static const int numbers[] = {4, 5, 7, 8, 11, 31};
    const u32 action[] = {(u32)on_signal, 0x4c000004, (u32)restore_context, 0, 0};
    const u32 alternate[] = {(u32)handler_stack, 0, sizeof(handler_stack)};
    call(SIGALTSTACK, (u32)alternate, 0, 0, 0);
    for (u32 i = 0; i < COUNT(numbers); i++)
        call(RT_SIGACTION, (u32)numbers[i], (u32)action, 0, 8);
}

static void field(const char *name, u32 value)
{
    print(name);
    print_number(value, 16, 1);
}

/* Null selectors have no RPL: whether an interrupt came and went, which takes it, is chance. */
static void selector(const char *name, u32 value)
{
    field(name, (value & 0xfffc) ? value & 0xffff : 0);
}

static void run(const struct snippet *s, u8 *code, const char *how)
{
    u32 *top = stack + COUNT(stack) - 16;
    u32 mask = s->mask == NOTHING ? 0 : s->mask ? s->mask : ~0u;
    for (u32 i = 0; i < sizeof(scratch); i++)
        scratch[i] = 0;
    for (u32 i = 0; i < COUNT(thread_block); i++)
        thread_block[i] = 0x7171 * i;
    top[0] = 0x3333; /* what the kernel's return from SYSCALL pops */
    top[1] = 0x4444;
    top[2] = 0x5555;
    top[3] = (u32)code + s->size;
    run_code((u32)code, s->eax, s->ecx, (u32)top);
    print(s->name);
    print(how);
    field(": signal ", (u32)seen_signal);
    field(" code ", (u32)seen_code);
    field(" error ", seen_signal == 11 ? seen.error : 0);
    field(" at ", seen.eip - (u32)code);
    field(" flags ", seen.eflags & 0x3f7fd7);
    field(" eax ", seen.eax & mask);
    field(" ebx ", seen.ebx);
    field(" ecx ", s->mask ? seen.ecx & 0xffff : seen.ecx);
    field(" edx ", seen.edx & mask);
    field(" ebp ", seen.ebp - (u32)code);
    field(" esp ", seen.esp - (u32)top);
    selector(" cs ", seen.cs);
    selector(" ss ", seen.ss);
    selector(" ds ", seen.ds);
    selector(" es ", seen.es);
    selector(" fs ", seen.fs);
    selector(" gs ", seen.gs);
    print("\n");
}

/* -- Where they stand ---------------------------------------------------------------------- */

static void put(u8 *at, const struct snippet *s)
{
    for (u32 i = 0; i < s->size + 4u; i++)
        at[i] = i < s->size ? s->bytes[i] : 0xcc;
}

static void fill(u8 *pages)
{
    call(MPROTECT, (u32)pages, 2 * PAGE, READ_WRITE, 0);
    for (u32 i = 0; i < 2 * PAGE; i++)
        pages[i] = 0x90;
}

static void seal(u8 *pages)
{
    call(MPROTECT, (u32)pages, 2 * PAGE, READ_EXECUTE, 0);
}

static void run_everywhere(u8 *pages)
{
    for (u32 i = 0; i < COUNT(snippets); i++) {
        const struct snippet *s = &snippets[i];
        fill(pages);
        put(pages, s);
        pages[255] = 0xb8; /* mov eax, imm32 */
        put(pages + 256, s);
        seal(pages);
        run(s, pages, "");
        run(s, pages + 256, " (in the middle)");
        for (u32 before = 1; before < s->size && before < 4; before++) {
            fill(pages);
            put(pages + PAGE - before, s);
            seal(pages);
            run(s, pages + PAGE - before, " (across)");
        }
    }
}

static u8 *map(u32 at, u32 size)
{
    int fixed_private_anonymous = 0x32;
    int result;
    __asm__ volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
                     : "=a"(result)
                     : "a"(MMAP2), "b"(at), "c"(size), "d"(READ_WRITE),
                       "S"(fixed_private_anonymous), "D"(-1)
                     : "memory");
    return (u8 *)result;
}

void start(u32 arguments)
{
    struct user_desc desc = {~0u, (u32)thread_block, 0xfffff, SEG_32 | LIMIT_PAGES | USEABLE};
    u8 *pages = map(PLACE, 3 * PAGE), *target = pages + 2 * PAGE;
    call(SET_THREAD_AREA, (u32)&desc, 0, 0, 0);
    thread_selector = desc.entry << 3 | 3;
    __asm__ volatile("mov %0, %%gs" : : "r"(thread_selector));
    target[0] = 0x8c; /* mov eax, cs; int3: in both modes */
    target[1] = 0xc8;
    target[2] = 0xcc;
    call(MPROTECT, (u32)target, PAGE, READ_EXECUTE, 0);
    catch_signals();
    run_everywhere(pages);
    print("sensitive done\n");
    call(EXIT, 0, 0, 0, 0);
}
