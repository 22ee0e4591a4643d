/*
 * Random bytes as code in ring 3, 64-bit, 32-bit and 16-bit, on a few pages of its own:
 * whatever it is, it must end in an exception or be stopped by the timer, in ring 3, and the
 * kernel and the monitor must live on.
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/system.h"

enum { PAGES = 16, CODE_PAGES = 4, ROUNDS = 20000, VECTOR = 0x61, BYTES = 64 };
#define SANDBOX PAGE_TEST

extern u64 pdpt0[512];

static u64 seed = 0x123456789abcdef1;
static ulong physical[PAGES];

static u64 random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Prefixes and escapes more often than chance would have them. */
static u8 random_byte(void)
{
    static const u8 likely[] = {0x0f, 0x66, 0xf2, 0xf3, 0x48, 0x4c, 0xc4, 0xc5, 0xf0, 0x67,
                                0x89, 0x8b, 0x01, 0xd8, 0xdd, 0xff, 0x38, 0x3a, 0xae, 0xc7};
    u64 r = random();

    return r >> 60 < 4 ? likely[(r >> 8) % COUNT(likely)] : (u8)r;
}

static ulong random_address(void)
{
    u64 r = random();

    if (r >> 61 == 0)
        return random();
    return SANDBOX + CODE_PAGES * 0x1000 + (r & ((PAGES - CODE_PAGES) * 0x1000 - 1));
}

static u32 ended_by_timer, ended[32];

static bool run_one(u16 cs)
{
    struct regs r = regs_user();
    ulong *words = &r.r15;
    ulong at = (random() & (CODE_PAGES * 0x1000 - 1)) & ~15ul;
    u8 *code;

    /* so that code runs over the ends of pages, too */
    if (!(random() & 7))
        at = (at & ~0xffful) + 0xff0 - (random() & 31);
    for (unsigned i = 0; i < BYTES; i++) {
        ulong offset = (at + i) % (CODE_PAGES * 0x1000);

        code = (u8 *)physical[offset >> 12] + (offset & 0xfff);
        *code = random_byte();
    }
    for (unsigned i = 0; i < 15; i++)
        words[i] = random_address();
    r.cs = cs;
    r.ip = SANDBOX + at;
    r.sp = SANDBOX + PAGES * 0x1000 - 0x800;
    if (cs == (FREE | 3)) { /* 16-bit: the segment's base is the sandbox */
        r.ip = at;
        r.sp = 0xf800;
        r.ss = (FREE + 8) | 3;
        r.ds = r.es = (FREE + 8) | 3;
    }
    r.flags |= FLAG_IF | (random() & 0xcd5);
    apic_write(APIC_TIMER_INITIAL, 200000);
    regs_run(&r);
    apic_write(APIC_TIMER_INITIAL, 0);
    if (r.vector == VECTOR) {
        apic_eoi();
        ended_by_timer++;
    } else if (r.vector < 32) {
        ended[r.vector]++;
    }
    if ((r.cs & 3) != 3 || (r.vector >= 32 && r.vector != VECTOR && r.vector != VECTOR_END)) {
        print("     vector %d at %lx:%lx\n", (int)r.vector, r.cs, r.ip);
        return false;
    }
    return true;
}

void test(void)
{
    u64 alias = pdpt0[2];
    static const u16 modes[] = {UCODE64, UCODE32, FREE | 3};

    for (unsigned i = 0; i < PAGES; i++) {
        physical[i] = page_alloc();
        page_map(SANDBOX + i * 0x1000, physical[i], 1,
                 PTE_P | PTE_W | PTE_U | (i >= CODE_PAGES ? PTE_NX : 0));
    }
    gdt_set(FREE, segment(SANDBOX, 0xffff, SEG_CODE | SEG_DPL3));
    gdt_set(FREE + 8, segment(SANDBOX, 0xffff, SEG_DATA | SEG_DPL3));
    if (cpuid(1, 0).c & BIT(26)) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        asm volatile("xsetbv" ::"c"(0), "a"(cpuid(1, 0).c & BIT(28) ? 7 : 3), "d"(0));
    }
    apic_init();
    apic_write(APIC_LVT_TIMER, VECTOR);
    pdpt0[2] = 0; /* ring 3 sees its sandbox only */
    write_cr3(read_cr3());
    for (unsigned n = 0; n < ROUNDS; n++) {
        if (!check("random code", run_one(modes[n % COUNT(modes)])))
            break;
    }
    pdpt0[2] = alias;
    write_cr3(read_cr3());
    print("     by timer %u, #UD %u, #GP %u, #PF %u, #DE %u, #DB %u, #SS %u, #MF %u, #XM %u, "
          "#AC %u\n",
          ended_by_timer, ended[UD], ended[GP], ended[PF], ended[DE], ended[DB], ended[SS],
          ended[MF], ended[XM], ended[AC]);
    check("many kinds of exceptions came", ended[UD] && ended[GP] && ended[PF] && ended[DE]);
}
