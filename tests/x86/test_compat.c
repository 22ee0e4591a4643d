/*
 * The integer instructions of 32-bit code against the processor itself: random instructions run
 * in compatibility mode on the bare CPU and in the handlers; registers, flags (undefined ones
 * too), memory and faults must agree. Here are the instructions and forms that 64-bit code, the
 * oracle's ground, does not have: PUSHA, the decimal ones, BOUND, one-byte INC, 16-bit
 * addressing.
 *
 *     test_compat [runs [seed]]
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <Zydis/Zydis.h>

#include "base/ensure.h"
#include "fake_ops.h"

#define USER_CS32 0x23
#define USER_CS64 0x33
#define USER_DS   0x2b

/* In the low 4 GiB, so that 32-bit code reaches it. */
struct low {
    u8 code[512];
    u32 gpr[8];
    u32 flags;
    u64 host_rsp;
    u8 stack[512];
};

static struct low *low; /* for the signal handler */
static sigjmp_buf escape;

/* -- The bare CPU ---------------------------------------------------------------------------
 */

static void on_signal(int sig, siginfo_t *info, void *context)
{
    static const int regs[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
                                REG_RSP, REG_RBP, REG_RSI, REG_RDI};
    const ucontext_t *u = context;
    for (unsigned r = 0; r < 8; r++)
        low->gpr[r] = (u32)u->uc_mcontext.gregs[regs[r]];
    low->flags = (u32)u->uc_mcontext.gregs[REG_EFL];
    siglongjmp(escape, sig);
}

static void put(u8 **p, const void *bytes, size_t n)
{
    memcpy(*p, bytes, n);
    *p += n;
}
#define PUT(p, ...) put(p, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void put_address(u8 **p, const void *address)
{
    u32 a = (u32)(u64)address;
    put(p, &a, sizeof(a));
}

/*
 * push the callee's registers; [host_rsp] = rsp; retf to 32-bit code; data segments, flags,
 * registers; the instruction; the same back; jmp far to 64-bit code; ret.
 */
static void make_code(const u8 *insn, unsigned size)
{
    u8 *p = low->code, *fix;
    PUT(&p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x89, 0x24, 0x25);
    put_address(&p, &low->host_rsp);
    PUT(&p, 0x6a, USER_CS32, 0x68);
    fix = p;
    put_address(&p, NULL);
    PUT(&p, 0x48, 0xcb);
    put_address(&fix, p);
    PUT(&p, 0xb8, USER_DS, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0xbc);
    put_address(&p, low->stack + sizeof(low->stack));
    PUT(&p, 0xff, 0x35);
    put_address(&p, &low->flags);
    PUT(&p, 0x9d);
    for (unsigned r = 0; r < 8; r++) {
        PUT(&p, 0x8b, (u8)(5 | r << 3));
        put_address(&p, &low->gpr[r]);
    }
    put(&p, insn, size);
    for (unsigned r = 0; r < 8; r++) {
        PUT(&p, 0x89, (u8)(5 | r << 3));
        put_address(&p, &low->gpr[r]);
    }
    PUT(&p, 0xbc);
    put_address(&p, low->stack + sizeof(low->stack));
    PUT(&p, 0x9c, 0x8f, 0x05);
    put_address(&p, &low->flags);
    PUT(&p, 0xfc, 0xea);
    fix = p;
    put_address(&p, NULL);
    PUT(&p, USER_CS64, 0);
    put_address(&fix, p);
    PUT(&p, 0x48, 0x8b, 0x24, 0x25);
    put_address(&p, &low->host_rsp);
    PUT(&p, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

/* The signal that the instruction raised, or 0. */
static int run_bare(const u8 *insn, unsigned size)
{
    make_code(insn, size);
    int sig = sigsetjmp(escape, 1);
    if (sig == 0)
        ((void (*)(void))low->code)();
    __asm__ volatile("cld\n\tmov %0, %%ds\n\tmov %0, %%es" : : "r"(0));
    return sig;
}

static void set_up(void)
{
    static u8 stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    sigaltstack(&alternate, NULL);
    for (size_t k = 0; k < ARRAY_LEN(signals); k++)
        sigaction(signals[k], &action, NULL);
    low = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    ensure(low != MAP_FAILED);
}

/* -- Instructions ---------------------------------------------------------------------------
 */

static u64 random_next(u64 *state)
{
    u64 z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static u32 random_value(u64 *seed)
{
    u64 r = random_next(seed);
    switch (r >> 60 & 3) {
    case 0:
        return (u32)r;
    case 1:
        return (u32)(s32)(s8)r;
    case 2:
        return 1u << (r & 31);
    default:
        return (u32)(FAKE_DATA + r % (4 * PAGE_SIZE));
    }
}

/* Prefixes, an opcode of the one-byte or 0F map, and a ModRM byte that often names [esi] or
 * [edi]. */
static void random_insn(u64 *seed, u8 insn[15])
{
    u64 r = random_next(seed);
    unsigned n = 0;
    for (unsigned k = 0; k < 15; k++)
        insn[k] = (u8)(random_next(seed) >> 40);
    if (r % 4 == 0)
        insn[n++] = 0x66;
    if (r >> 8 & 1 && r % 3 == 0)
        insn[n++] = r >> 9 & 1 ? 0xf2 : 0xf3;
    if ((r >> 16) % 16 == 0)
        insn[n++] = 0xf0;
    if ((r >> 24) % 16 == 0)
        insn[n++] = 0x67;
    if (r >> 32 & 1)
        insn[n++] = 0x0f;
    u8 *modrm = &insn[n + 1];
    if (*modrm < 0xc0)
        *modrm = (*modrm & 0xbf) | 6;
}

/* Whether the row of the instruction is the integer group's and its effect is all in the eight
 * registers, flags and memory. */
static bool comparable(const struct x86_insn *i)
{
    static const bool integer[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(mnemonic, handler, feature, flags) [ZYDIS_MNEMONIC_##mnemonic] = !(flags),
#include "x86/exec_integer.def"
#undef OP
        [ZYDIS_MNEMONIC_MOVSD] = true,
        [ZYDIS_MNEMONIC_CMPSD] = true,
    };
    if (!i->mnemonic || !integer[i->mnemonic] || i->exec == exec_ud || i->exec == exec_rdrand)
        return false;
    bool repeats = i->flags & (INSN_REP | INSN_REPNE);
    if (i->flags & INSN_ENDS && !repeats) /* segment, control and debug registers */
        return false;
    if ((i->mnemonic == ZYDIS_MNEMONIC_MOVSD && i->exec != exec_movs) ||
        (i->mnemonic == ZYDIS_MNEMONIC_CMPSD && i->exec != exec_cmps))
        return false;
    return i->seg != SEG_FS && i->seg != SEG_GS && i->seg != SEG_CS;
}

/* -- Comparing ------------------------------------------------------------------------------
 */

static int signal_of(int vector)
{
    switch (vector) {
    case -1:
        return 0;
    case VEC_DE:
        return SIGFPE;
    case VEC_UD:
        return SIGILL;
    default:
        return SIGSEGV;
    }
}

static void fill(struct fake *f, u64 *seed)
{
    for (size_t k = 0; k < FAKE_SIZE; k += 8)
        if (random_next(seed) % 8 == 0) {
            u64 v = random_next(seed);
            memcpy(&f->memory[k], &v, 8);
        }
    for (unsigned r = 0; r < 8; r++)
        f->cpu.gpr[r] = random_value(seed);
    f->cpu.gpr[RSI] = FAKE_DATA + random_next(seed) % (4 * PAGE_SIZE);
    f->cpu.gpr[RDI] = FAKE_DATA + random_next(seed) % (4 * PAGE_SIZE);
    if (random_next(seed) & 1)
        f->cpu.gpr[RSP] = FAKE_DATA + random_next(seed) % (8 * PAGE_SIZE);
    if (random_next(seed) % 4)
        f->cpu.gpr[RCX] %= 2000;
    u64 df = random_next(seed) % 4 ? 0 : FLAG_DF;
    f->cpu.rflags = FLAG_FIXED | FLAG_IF | df | (random_next(seed) & FLAGS_STATUS);
}

static int run_handlers(struct fake *f, const u8 *insn, unsigned size)
{
    int vector;
    do
        vector = fake_run(f, insn, size);
    while (vector < 0 && f->cpu.rip == FAKE_CODE);
    return vector;
}

/* False, with a line for the reader, when they differ. */
static bool compare(struct fake *f, u8 *bare, const struct x86_insn *i, const u8 *insn)
{
    memcpy(fake_at(f, FAKE_CODE), insn, 15);
    memcpy(bare, f->memory, FAKE_SIZE);
    for (unsigned r = 0; r < 8; r++)
        low->gpr[r] = (u32)f->cpu.gpr[r];
    low->flags = (u32)f->cpu.rflags;
    int sig = run_bare(insn, i->length), vector = run_handlers(f, insn, 15);
    bool same = sig == signal_of(vector) || (sig == SIGBUS && vector == VEC_SS);
    for (unsigned r = 0; r < 8; r++)
        same = same && low->gpr[r] == (u32)f->cpu.gpr[r];
    same = same && ((low->flags ^ f->cpu.rflags) & ~FLAG_RF & 0xffffffff) == 0;
    same = same && !memcmp(bare, f->memory, FAKE_SIZE);
    if (!same) {
        printf("%s:", ZydisMnemonicGetString(i->mnemonic));
        for (unsigned k = 0; k < i->length; k++)
            printf(" %02x", insn[k]);
        printf(": signal %d, vector %d, flags %x and %x\n", sig, vector, low->flags,
               (u32)f->cpu.rflags);
    }
    return same;
}

int main(int argc, char **argv)
{
    u64 runs = argc > 1 ? strtoull(argv[1], NULL, 0) : 20000;
    u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    set_up();
    u8 *bare = mmap((void *)FAKE_BASE, FAKE_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (bare != (u8 *)FAKE_BASE)
        return 77; /* skipped: vm.mmap_min_addr is above */
    struct fake *fakes[2] = {fake_new(4, false), fake_new(4, true)};
    u64 done = 0, wrong = 0;
    while (done < runs && wrong < 20) {
        struct fake *f = fakes[done & 1];
        struct x86_insn i;
        u8 insn[15];
        f->model.amd = __builtin_cpu_is("amd");
        random_insn(&seed, insn);
        f->native_used = 0;
        if (x86_decode(&f->cpu, insn, sizeof(insn), 4, &i) != DECODE_OK || !comparable(&i))
            continue;
        fill(f, &seed);
        wrong += !compare(f, bare, &i, insn);
        done++;
    }
    printf("%llu instructions, %llu differ\n", (unsigned long long)done,
           (unsigned long long)wrong);
    return wrong != 0;
}
