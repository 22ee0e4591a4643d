/* Descriptor tables for tests, see tables.h. */
#include "tables.h"

u64 tables_load(struct fake *f, u64 la, unsigned size)
{
    u64 value = 0;
    memcpy(&value, fake_at(f, la), size);
    return value;
}

void tables_store(struct fake *f, u64 la, unsigned size, u64 value)
{
    memcpy(fake_at(f, la), &value, size);
}

u64 tables_segment(u64 base, u32 limit, u32 attr)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)(attr & 0xf0ff) << 40 |
           (u64)(limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
}

void tables_set(struct fake *f, unsigned sel, u64 descriptor)
{
    tables_store(f, TABLE_GDT + (sel & ~7u), 8, descriptor);
}

u64 tables_get(struct fake *f, unsigned sel)
{
    return tables_load(f, TABLE_GDT + (sel & ~7u), 8);
}

static u64 gate(unsigned type, unsigned dpl, u16 sel, u64 offset, unsigned low5)
{
    return (offset & 0xffff) | (u64)sel << 16 | (u64)low5 << 32 |
           (u64)(0x80 | dpl << 5 | type) << 40 | (offset >> 16 & 0xffff) << 48;
}

void tables_idt(struct fake *f, unsigned vector, unsigned type, unsigned dpl, u16 sel,
                u64 offset, unsigned ist)
{
    bool wide = x86_long_mode(&f->cpu);
    u64 at = TABLE_IDT + vector * (wide ? 16 : 8);
    tables_store(f, at, 8, gate(type, dpl, sel, offset, ist));
    if (wide)
        tables_store(f, at + 8, 8, offset >> 32);
}

void tables_gate(struct fake *f, unsigned sel, unsigned type, unsigned dpl, u16 target,
                 u64 offset, unsigned count)
{
    tables_set(f, sel, gate(type, dpl, target, offset, count));
    if (x86_long_mode(&f->cpu))
        tables_set(f, sel + 8, offset >> 32);
}

static void fill_gdt(struct fake *f, bool wide)
{
    u32 flat = ATTR_G | ATTR_DB, code = ATTR_G | (wide ? ATTR_L : ATTR_DB);
    tables_set(f, SEL_KCODE, tables_segment(0, 0xfffff, ATTR_KCODE | code));
    tables_set(f, SEL_KDATA, tables_segment(0, 0xfffff, ATTR_KDATA | flat));
    tables_set(f, SEL_UCODE, tables_segment(0, 0xfffff, ATTR_KCODE | ATTR_DPL3 | flat));
    tables_set(f, SEL_UDATA, tables_segment(0, 0xfffff, ATTR_KDATA | ATTR_DPL3 | flat));
    tables_set(f, SEL_UCODE64,
               tables_segment(0, 0xfffff, ATTR_KCODE | ATTR_DPL3 | ATTR_G | ATTR_L));
    tables_set(f, SEL_TSS, tables_segment(TABLE_TSS, 0x7ff, SEG_P | DESC_TSS_BUSY));
    tables_set(f, SEL_TSS2, tables_segment(TABLE_TSS2, 0x7ff, SEG_P | DESC_TSS_AVAIL));
    tables_set(f, SEL_LDT, tables_segment(TABLE_LDT, 0xff, SEG_P | DESC_LDT));
}

struct fake *tables_new(unsigned code_size)
{
    struct fake *f = fake_new(code_size, false);
    struct x86_cpu *c = &f->cpu;
    bool wide = code_size == 8;
    fill_gdt(f, wide);
    c->gdtr = (struct x86_table){TABLE_GDT, GDT_LIMIT};
    c->idtr = (struct x86_table){TABLE_IDT, wide ? 0xfff : 0x7ff};
    c->seg[SEG_TR] = (struct x86_seg){SEL_TSS, SEG_P | DESC_TSS_BUSY, 0x7ff, TABLE_TSS};
    c->seg[SEG_LDTR] = (struct x86_seg){0, SEG_NULL, 0, 0};
    c->seg[SEG_CS].sel = SEL_KCODE;
    tables_store(f, TABLE_TSS + 4, wide ? 8 : 4, TABLE_SP0);
    if (wide)
        tables_store(f, TABLE_TSS + 36, 8, TABLE_IST);
    else
        tables_store(f, TABLE_TSS + 8, 2, SEL_KDATA);
    tables_store(f, TABLE_TSS + 0x66, 2, 0x100); /* I/O permission bitmap */
    for (unsigned vector = 0; vector < 32; vector++)
        tables_idt(f, vector, DESC_INT, 0, SEL_KCODE, TABLE_CODE + 16 * vector, 0);
    c->rip = c->insn_rip = FAKE_CODE;
    return f;
}

void tables_user(struct fake *f)
{
    struct x86_cpu *c = &f->cpu;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++) {
        c->seg[s].sel = s == SEG_CS ? SEL_UCODE | 3 : SEL_UDATA | 3;
        c->seg[s].attr |= ATTR_DPL3;
    }
    if (x86_64bit(c))
        c->seg[SEG_CS].sel = SEL_UCODE64 | 3;
    x86_derive(c);
}
