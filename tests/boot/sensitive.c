/*
 * A guest program that runs every unprivileged instruction which could tell it about the
 * machine below, and privileged ones that must fault, and prints what each left behind:
 * registers, flags and the signal. Whatever runs the guest must give the same answers
 * (sensitive.py compares).
 *
 * Each snippet runs at the beginning of a page, in the middle of another instruction's
 * immediate, and across the end of a page at each of its bytes; from a page that is only
 * executed and from one that is written and executed.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sensitive.h"

struct snippet {
    const char *name;
    uint8_t bytes[16];
    uint8_t size;
    uint64_t rax, rcx; /* at the start; RSI and RDI point to `scratch` */
    uint64_t mask;     /* of RAX and RDX that may be printed; 0: all */
};

static const struct snippet snippets[] = {
#include "sensitive.def"
    CPUID(2, 0),
    CPUID(4, 0),
    CPUID(5, 0),
    CPUID(6, 0),
    CPUID(7, 1),
    CPUID(0xa, 0),
    CPUID(0xb, 0),
    CPUID(0xb, 1),
    CPUID(0xd, 1),
    CPUID(0xd, 2),
    CPUID(0x14, 0),
    CPUID(0x16, 0),
    CPUID(0x40000001, 0),
    CPUID(0x80000000, 0),
    CPUID(0x80000006, 0),
    CPUID(0x80000007, 0),
    CPUID(0x80000008, 0),
    CPUID(0x8000001e, 0),
    LOOKS(0x00),
    LOOKS(0x03),
    LOOKS(0x07),
    LOOKS(0x08),
    LOOKS(0x10),
    LOOKS(0x18),
    LOOKS(0x23),
    LOOKS(0x2b),
    LOOKS(0x33),
    LOOKS(0x3b),
    LOOKS(0x40),
    LOOKS(0x50),
    LOOKS(0x63),
    LOOKS(0x7b),
    LOOKS(0x83),
    LOOKS(0xfff7),
    {"xgetbv 1", CODE(0x0f, 0x01, 0xd0), 0, 1, 0xff & ~4}, /* AVX in use or not */
    {"xgetbv 2", CODE(0x0f, 0x01, 0xd0), 0, 2, 0},
    {"sgdt", CODE(0x0f, 0x01, 0x07, 0x48, 0x8b, 0x07), 0, 0, 0},
    {"sidt", CODE(0x0f, 0x01, 0x0f, 0x48, 0x8b, 0x07), 0, 0, 0},
    {"smsw", CODE(0x48, 0x0f, 0x01, 0xe0), 0, 0, 0},
    {"smsw [rdi]", CODE(0x0f, 0x01, 0x27, 0x48, 0x8b, 0x07), 0, 0, 0},
    {"mov es, 2b; mov eax, es", CODE(0x8e, 0xc1, 0x8c, 0xc0), 0, 0x2b, 0},
    {"mov ds, 0", CODE(0x8e, 0xd9, 0x8c, 0xd8), 0, 0, 0},
    {"mov es, 10", CODE(0x8e, 0xc1), 0, 0x10, 0},
    {"mov es, 7b", CODE(0x8e, 0xc1), 0, 0x7b, 0},
    {"mov ss, 2b", CODE(0x8e, 0xd1, 0x90), 0, 0x2b, 0},
    {"mov ss, 0", CODE(0x8e, 0xd1), 0, 0, 0},
    {"rdtscp", CODE(0x0f, 0x01, 0xf9), 0, 0x55, 1ull << 63},
    {"rdtsc", CODE(0x0f, 0x31), 0, 0, 1ull << 63},
    {"rdpmc", CODE(0x0f, 0x33), 0, 0, 0},
    {"rdpru", CODE(0x0f, 0x01, 0xfd), 0, 7, 0},
    {"popf nt", CODE(0x51, 0x9d, 0x9c, 0x58), 0, 0x4202, 0},
    {"sti", CODE(0xfb), 0, 0, 0},
    {"out 80, al", CODE(0xe6, 0x80), 0, 0, 0},
    {"wrmsr", CODE(0x0f, 0x30), 0, 0x10, 0},
    {"mov rax, cr0", CODE(0x0f, 0x20, 0xc0), 0, 0, 0},
    {"mov rax, cr8", CODE(0x44, 0x0f, 0x20, 0xc0), 0, 0, 0},
    {"mov dr7, rax", CODE(0x0f, 0x23, 0xf8), 0, 0, 0},
    {"mov rax, dr7", CODE(0x0f, 0x21, 0xf8), 0, 0, 0},
    {"ltr", CODE(0x0f, 0x00, 0xd8), 0, 0, 0},
    {"lmsw", CODE(0x0f, 0x01, 0xf0), 0, 0, 0},
    {"clts", CODE(0x0f, 0x06), 0, 0, 0},
    {"invd", CODE(0x0f, 0x08), 0, 0, 0},
    {"wbinvd", CODE(0x0f, 0x09), 0, 0, 0},
    {"invpcid", CODE(0x66, 0x0f, 0x38, 0x82, 0x07), 0, 0, 0},
    {"swapgs", CODE(0x0f, 0x01, 0xf8), 0, 0, 0},
    {"sysret", CODE(0x48, 0x0f, 0x07), 0, 0, 0},
    {"clac", CODE(0x0f, 0x01, 0xca), 0, 0, 0},
    {"stac", CODE(0x0f, 0x01, 0xcb), 0, 0, 0},
    {"monitor", CODE(0x0f, 0x01, 0xc8), 0, 0, 0},
    {"mwait", CODE(0x0f, 0x01, 0xc9), 0, 0, 0},
    {"xsave [rdi]", CODE(0x48, 0x0f, 0xae, 0x27, 0x48, 0x8b, 0x87, 0, 2, 0, 0), 7, 0,
     0xff & ~5}, /* x87 and AVX in use or not */
    {"xsavec [rdi]", CODE(0x48, 0x0f, 0xc7, 0x27, 0x48, 0x8b, 0x87, 8, 2, 0, 0), 7, 0, 0},
    {"ud1", CODE(0x0f, 0xb9, 0xc0), 0, 0, 0},
    {"invalid", CODE(0x06), 0, 0, 0},
    {"int 0", CODE(0xcd, 0x00), 0, 0, 0},
    {"int 20", CODE(0xcd, 0x20), 0, 0, 0},
    {"int ff", CODE(0xcd, 0xff), 0, 0, 0},
    {"iretq", CODE(0x48, 0xcf), 0, 0, 0},
    {"retf", CODE(0x50, 0x50, 0x48, 0xcb), 0, 0, 0},
    /* push 23h; lea rdx, behind; push rdx; retfq; and on in 32-bit mode */
    {"retf to 32-bit: mov eax, cs",
     CODE(0x6a, 0x23, 0x48, 0x8d, 0x15, 3, 0, 0, 0, 0x52, 0x48, 0xcb, 0x8c, 0xc8), 0, 0, 0},
    {"retf to 32-bit: inc eax; dec eax",
     CODE(0x6a, 0x23, 0x48, 0x8d, 0x15, 3, 0, 0, 0, 0x52, 0x48, 0xcb, 0x40, 0x48), 9, 0, 0},
    {"retf to 32-bit: getuid by int 80",
     CODE(0x6a, 0x23, 0x48, 0x8d, 0x15, 3, 0, 0, 0, 0x52, 0x48, 0xcb, 0xcd, 0x80), 24, 0, 0},
    {"jmp far [rdi]", CODE(0x48, 0xc7, 0x07, 8, 0, 0, 0, 0xff, 0x2f), 0, 0, 0},
    {"call far [rdi]", CODE(0x48, 0xc7, 0x07, 0, 0, 0, 0, 0xff, 0x1f), 0, 0, 0},
    {"div 0", CODE(0xf7, 0xf1), 1, 0, 0},
    {"unknown system call", CODE(0x0f, 0x05), 5000, 0, 0},
    {"sysenter", CODE(0x0f, 0x34), 0, 0, 0},
    {"mov rax, [0]", CODE(0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0), 0, 0, 0},
    {"mov rax, [noncanonical]", CODE(0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8b, 0x00), 0, 0,
     0},
    {"mov eax, [kernel]", CODE(0x8b, 0x04, 0x25, 0, 0, 0, 0x81), 0, 0, 0},
    {"mov eax, [vsyscall]", CODE(0x8b, 0x04, 0x25, 0, 0, 0x60, 0xff), 0, 0, 0},
    {"call kernel", CODE(0x48, 0xc7, 0xc0, 0, 0, 0, 0x81, 0xff, 0xe0), 0, 0, 0},
    {"rdfsbase; wrfsbase",
     CODE(0xf3, 0x48, 0x0f, 0xae, 0xc3, 0xf3, 0x48, 0x0f, 0xae, 0xd3, 0x31, 0xdb), 0, 0, 0},
    {"wrgsbase; rdgsbase", CODE(0xf3, 0x48, 0x0f, 0xae, 0xd9, 0xf3, 0x48, 0x0f, 0xae, 0xc8), 0,
     0x1234567, 0},
    {"rdpkru", CODE(0x0f, 0x01, 0xee), 0, 0, 0},
    {"stmxcsr", CODE(0x0f, 0xae, 0x1f, 0x8b, 0x07), 0, 0, 0},
    {"fnstcw", CODE(0xd9, 0x3f, 0x8b, 0x07), 0, 0, 0xffff},
    {"monitorx", CODE(0x0f, 0x01, 0xfa), 0, 0, 0},
    {"mwaitx", CODE(0x0f, 0x01, 0xfb), 0, 0, 0},
    {"clzero", CODE(0x0f, 0x01, 0xfc), 0, 0, 0},
    {"popf nt; iretq", CODE(0x51, 0x9d, 0x48, 0xcf), 0, 0x4202, 0},
    {"enclu", CODE(0x0f, 0x01, 0xd7), 0, 0, 0},
    {"xtest", CODE(0x0f, 0x01, 0xd6), 0, 0, 0},
};

/* -- Running one --------------------------------------------------------------------------- */

static sigjmp_buf back;
static uint8_t scratch[PAGE] __attribute__((aligned(PAGE)));
static uint8_t handler_stack[64 * 1024];

struct state {
    int signal, code;
    uint64_t rip, flags, error, rax, rbx, rcx, rdx;
};
static struct state seen;

static void on_signal(int number, siginfo_t *info, void *opaque)
{
    const greg_t *r = ((ucontext_t *)opaque)->uc_mcontext.gregs;
    seen = (struct state){.signal = number,
                          .code = info->si_code,
                          .rip = (uint64_t)r[REG_RIP],
                          .flags = (uint64_t)r[REG_EFL],
                          .error = number == SIGSEGV ? (uint64_t)r[REG_ERR] : 0,
                          .rax = (uint64_t)r[REG_RAX],
                          .rbx = (uint64_t)r[REG_RBX],
                          .rcx = (uint64_t)r[REG_RCX],
                          .rdx = (uint64_t)r[REG_RDX]};
    siglongjmp(back, 1);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGILL, SIGSEGV, SIGTRAP, SIGFPE, SIGBUS, SIGSYS};
    const stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof(handler_stack)};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < COUNT(numbers); i++)
        sigaction(numbers[i], &action, NULL);
}

/* Never returns but through a signal. */
static void enter(const uint8_t *code, uint64_t rax, uint64_t rcx)
{
    __asm__ volatile("pushq $0x202; popfq\n\t"
                     "jmp *%0"
                     :
                     : "r"(code), "a"(rax), "b"(0x1111), "c"(rcx), "d"(0x2222), "S"(scratch),
                       "D"(scratch)
                     : "memory");
    __builtin_unreachable();
}

static void run(const struct snippet *s, const uint8_t *code, const char *how)
{
    memset(scratch, 0, sizeof(scratch));
    memset(&seen, 0, sizeof(seen));
    if (!sigsetjmp(back, 1))
        enter(code, s->rax, s->rcx);
    uint64_t mask = s->mask ? s->mask : ~0ull;
    printf("%s%s: signal %d code %d error %llx at %lld flags %llx rax %llx rbx %llx rcx %llx "
           "rdx %llx\n",
           s->name, how, seen.signal, seen.code, (unsigned long long)seen.error,
           (long long)(seen.rip - (uint64_t)(uintptr_t)code) & 0xffff,
           (unsigned long long)seen.flags & 0x3f7fd7, (unsigned long long)(seen.rax & mask),
           (unsigned long long)seen.rbx,
           (unsigned long long)(s->mask ? seen.rcx & 0xffff : seen.rcx),
           (unsigned long long)(seen.rdx & mask));
}

/* -- Where they stand ---------------------------------------------------------------------- */

static void put(uint8_t *at, const struct snippet *s)
{
    memcpy(at, s->bytes, s->size);
    memset(at + s->size, 0xcc, 4);
}

static void protect(uint8_t *pages, int rights)
{
    if (mprotect(pages, 2 * PAGE, rights)) {
        perror("mprotect");
        exit(1);
    }
}

static void run_everywhere(uint8_t *pages, int rights)
{
    for (size_t i = 0; i < COUNT(snippets); i++) {
        const struct snippet *s = &snippets[i];
        protect(pages, PROT_READ | PROT_WRITE);
        memset(pages, 0x90, 2 * PAGE);
        put(pages, s);
        pages[255] = 0xb8; /* mov eax, imm32 */
        put(pages + 256, s);
        for (unsigned before = 1; before < s->size && before < 4; before++)
            put(pages + PAGE - before, s);
        protect(pages, rights);
        run(s, pages, "");
        run(s, pages + 256, " (in the middle)");
        for (unsigned before = 1; before < s->size && before < 4; before++) {
            protect(pages, PROT_READ | PROT_WRITE);
            put(pages + PAGE - before, s);
            protect(pages, rights);
            run(s, pages + PAGE - before, " (across)");
        }
    }
}

int main(void)
{
    /* A place of its own: what is printed depends on nothing random. */
    uint8_t *pages = mmap((void *)0x10000000, 2 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (pages == MAP_FAILED)
        return 1;
    catch_signals();
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    run_everywhere(pages, PROT_READ | PROT_EXEC);
    run_everywhere(pages, PROT_READ | PROT_WRITE | PROT_EXEC);
    puts("sensitive done");
    return 0;
}
