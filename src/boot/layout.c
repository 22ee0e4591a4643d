/* What the loaders share, see layout.h. */
#include "boot/layout.h"

#include "base/ensure.h"
#include "memory/pmap.h"
#include "platform/board.h"
#include "platform/ram.h"

unsigned layout_map(const struct board *board, struct map_entry map[MAP_ENTRIES])
{
    u64 above = pmap_above_4g(board->pmap);
    unsigned n = 0;
    map[n++] = (struct map_entry){0, EBDA_START, MAP_RAM};
    map[n++] = (struct map_entry){EBDA_START, EBDA_END - EBDA_START, MAP_RESERVED};
    map[n++] = (struct map_entry){ROM_START, HIGH_START - ROM_START, MAP_RESERVED};
    map[n++] = (struct map_entry){HIGH_START, layout_ram_end(board) - HIGH_START, MAP_RAM};
    if (above)
        map[n++] = (struct map_entry){4 * GiB, above, MAP_RAM};
    return n;
}

u64 layout_ram_end(const struct board *board)
{
    return pmap_below_4g(board->pmap);
}

void layout_write(struct board *board, u64 addr, const void *data, u64 size)
{
    bool written = ram_write(board, gpa(addr), data, size);
    ensure(written);
}

static void write_zeros(struct board *board, u64 addr, u64 size)
{
    static const u8 zeros[PAGE_SIZE];
    while (size) {
        u64 step = size < sizeof(zeros) ? size : sizeof(zeros);
        layout_write(board, addr, zeros, step);
        addr += step;
        size -= step;
    }
}

bool layout_load(const struct boot_config *config, const struct load_part *part, u64 floor,
                 struct error *err)
{
    const char *name = config->kernel.name;
    u64 end = layout_ram_end(config->board);

    if (part->file_size > part->size)
        return error_set(err, "-kernel '%s': its %s is larger in the file than in memory", name,
                         part->what);
    if (!image_has(&config->kernel, part->offset, part->file_size))
        return error_set(err, "-kernel '%s' is truncated: its %s ends beyond the file", name,
                         part->what);
    if (part->size && part->addr < floor)
        return error_set(err,
                         "-kernel '%s': its %s at %#llx lies over boot data; it must load at "
                         "%#llx or above",
                         name, part->what, (unsigned long long)part->addr,
                         (unsigned long long)floor);
    if (part->addr > end || part->size > end - part->addr)
        return error_set(
            err,
            "-kernel '%s': its %s does not fit into memory below %llu MiB; give the "
            "machine more with -m",
            name, part->what, end / MiB);
    if (part->size && part->addr < HIGH_START && part->addr + part->size > EBDA_START)
        return error_set(err, "-kernel '%s': its %s lies over the PC's hole below 1 MiB", name,
                         part->what);
    layout_write(config->board, part->addr, config->kernel.data + part->offset,
                 part->file_size);
    write_zeros(config->board, part->addr + part->file_size, part->size - part->file_size);
    return true;
}

bool layout_module(const struct boot_config *config, const struct boot_image *module, u64 floor,
                   u64 limit, u64 *addr, struct error *err)
{
    u64 end = layout_ram_end(config->board);
    if (limit > end)
        limit = end;
    floor = align_up(floor, PAGE_MODULE);
    if (floor > limit || module->size > limit - floor)
        return error_set(err,
                         "'%s' (%llu MiB) does not fit beside the kernel in memory below %llu "
                         "MiB; give the machine more with -m",
                         module->name, (module->size + MiB - 1) / MiB, limit / MiB);
    u64 at = align_down(limit - module->size, PAGE_MODULE);
    if (at < floor)
        at = floor;
    layout_write(config->board, at, module->data, module->size);
    *addr = at;
    return true;
}

bool layout_command_line(const struct boot_config *config, const char *name, u64 max, u64 base,
                         struct error *err)
{
    u64 before = name ? strlen(name) + 1 : 0;
    u64 length = before + strlen(config->command_line);
    if (max > COMMAND_MAX - 1)
        max = COMMAND_MAX - 1;
    if (length > max)
        return error_set(
            err,
            "the kernel command line is %llu bytes long; kernel '%s' takes at most "
            "%llu (-append)",
            (unsigned long long)length, config->kernel.name, (unsigned long long)max);
    u64 at = base + LOW_COMMAND;
    if (name) {
        layout_write(config->board, at, name, before - 1);
        layout_write(config->board, at + before - 1, " ", 1);
    }
    layout_write(config->board, at + before, config->command_line, length - before + 1);
    return true;
}

/* The selectors that the Linux protocol names, __BOOT_CS and __BOOT_DS. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

#define ATTR_CODE32 (0xbu | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_CODE64 (0xbu | SEG_S | SEG_P | SEG_L | SEG_G)
#define ATTR_DATA   (0x3u | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_TSS    (0xbu | SEG_P)
#define ATTR_LDT    (0x2u | SEG_P)

static void set_flat(struct x86_seg *seg, u16 selector, u32 attr)
{
    *seg = (struct x86_seg){.sel = selector, .attr = attr, .limit = 0xffffffff, .base = 0};
}

/* A flat descriptor's eight bytes (SDM vol. 3, 3.4.5). */
static u64 flat_descriptor(u32 attr)
{
    return 0xffffull | (u64)(attr & 0xff) << 40 | 0xfull << 48 | (u64)(attr >> 12 & 0xf) << 52;
}

static void enter(struct board *board, struct x86_cpu *cpu, u32 code_attr, u64 base)
{
    const u64 gdt[4] = {
        [BOOT_CS / 8] = flat_descriptor(code_attr),
        [BOOT_DS / 8] = flat_descriptor(ATTR_DATA),
    };
    layout_write(board, base + LOW_GDT, gdt, sizeof(gdt));
    cpu->gdtr = (struct x86_table){.base = base + LOW_GDT, .limit = sizeof(gdt) - 1};
    cpu->idtr = (struct x86_table){0};

    set_flat(&cpu->seg[SEG_CS], BOOT_CS, code_attr);
    for (enum x86_seg_reg reg = SEG_ES; reg <= SEG_GS; reg++)
        if (reg != SEG_CS)
            set_flat(&cpu->seg[reg], BOOT_DS, ATTR_DATA);
    cpu->seg[SEG_TR] = (struct x86_seg){.attr = ATTR_TSS, .limit = 0x67};
    cpu->seg[SEG_LDTR] = (struct x86_seg){.attr = ATTR_LDT | SEG_NULL};

    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->rflags = FLAG_FIXED;
    cpu->cr0 = CR0_PE | CR0_ET;
    cpu->cr4 = 0;
}

void layout_enter_32(struct board *board, struct x86_cpu *cpu, u32 entry, u64 base)
{
    enter(board, cpu, ATTR_CODE32, base);
    cpu->rip = entry;
    x86_derive(cpu);
}

void layout_enter_64(struct board *board, struct x86_cpu *cpu, u64 entry)
{
    enter(board, cpu, ATTR_CODE64, 0);

    u64 pml4e = LOW_PDPT | PTE_P | PTE_W;
    layout_write(board, LOW_PML4, &pml4e, sizeof(pml4e));
    for (u64 i = 0; i < 4; i++) {
        u64 pdpte = (LOW_PD + i * PAGE_SIZE) | PTE_P | PTE_W;
        layout_write(board, LOW_PDPT + i * sizeof(pdpte), &pdpte, sizeof(pdpte));
    }
    for (u64 i = 0; i < 4 * 512; i++) {
        u64 pde = i * 2 * MiB | PTE_P | PTE_W | PTE_PS;
        layout_write(board, LOW_PD + i * sizeof(pde), &pde, sizeof(pde));
    }
    cpu->cr3 = LOW_PML4;
    cpu->cr4 = CR4_PAE;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->cr0 |= CR0_PG;
    cpu->rip = entry;
    x86_derive(cpu);
}
