/* What multiboot promises (specification 0.6.96, 3.2 and 3.3): registers, memory, command
 * line. */
#include "lib/system.h"

struct info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    u32 syms[4];
    u32 mmap_length, mmap_addr;
};

struct range {
    u32 size;
    u64 base, length;
    u32 type;
} __attribute__((packed));

void test(void)
{
    const struct info *info = (const struct info *)boot_info;
    u64 ram = 0;
    bool low = false, high = false;

    check_equal("magic", boot_magic, 0x2badb002);
    check("memory sizes", info->flags & 1);
    check("lower memory", info->mem_lower >= 512 && info->mem_lower <= 640);
    check("upper memory: 64 MiB without the first and what firmware takes",
          info->mem_upper > 60 * 1024 && info->mem_upper <= 63 * 1024);
    if (info->flags & 4)
        check("command line", info->cmdline);
    check_equal("no modules", info->flags & 8 ? info->mods_count : 0, 0);
    check("memory map", info->flags & 0x40);
    for (u32 at = 0; at + 20 <= info->mmap_length;) {
        const struct range *r = (const struct range *)(info->mmap_addr + at);

        if (r->type == 1) {
            ram += r->length;
            low = low || (r->base == 0 && r->length >= 0x80000);
            high = high || r->base == 0x100000;
        }
        at += r->size + 4;
    }
    check("RAM from 0", low);
    check("RAM from 1 MiB", high);
    check("64 MiB in all", ram > 62ull << 20 && ram <= 64ull << 20);
    check_equal("CR0: protected mode without paging", read_cr0() & (CR0_PG | CR0_PE), CR0_PE);
    check_equal("interrupts off", read_flags() & FLAG_IF, 0);
    check_equal("CR4 without PAE", read_cr4() & CR4_PAE, 0);
    check_equal("long mode is off", rdmsr(MSR_EFER) & (EFER_LME | EFER_LMA), 0);
    /* all of memory can be used */
    for (u32 at = 0x200000; at < 0x3e00000; at += 0x100000)
        *(volatile u32 *)at = at;
    for (u32 at = 0x200000; at < 0x3e00000; at += 0x100000) {
        if (*(volatile u32 *)at != at) {
            check_equal("memory", *(volatile u32 *)at, at);
            break;
        }
    }
}
