/* ELF executables, see elf.h. Every number from the file is checked where it is used. */
#include "boot/elf.h"

#define ELF_MAGIC    0x464c457fu /* "\x7f" "ELF" */
#define ELFCLASS32   1
#define ELFCLASS64   2
#define ELFDATA2LSB  1
#define EM_386       3
#define EM_X86_64    62
#define PH_SIZE_32   32
#define PH_SIZE_64   56
#define EHDR_SIZE_32 52
#define EHDR_SIZE_64 64
#define MAX_SEGMENTS 64 /* a kernel has a handful; bounds the work on a hostile one */

struct elf_segment {
    u32 type;
    u64 offset, vaddr, paddr, file_size, memory_size;
    u64 alignment;
};

#define ELF_LOAD 1
#define ELF_NOTE 4

bool elf_probe(const struct boot_image *image)
{
    return image_u32(image, 0) == ELF_MAGIC;
}

bool elf_open(struct elf *elf, const struct boot_image *image, struct error *err)
{
    u8 class = image_u8(image, 4);
    *elf = (struct elf){.image = image, .is_64 = class == ELFCLASS64};
    unsigned header = elf->is_64 ? EHDR_SIZE_64 : EHDR_SIZE_32;
    if (!elf_probe(image) || !image_has(image, 0, header))
        return error_set(err, "-kernel '%s' is truncated within its ELF header", image->name);
    u16 machine = image_u16(image, 18);
    if ((class != ELFCLASS32 && class != ELFCLASS64) || image_u8(image, 5) != ELFDATA2LSB ||
        machine != (elf->is_64 ? EM_X86_64 : EM_386))
        return error_set(err, "-kernel '%s' is an ELF file for another processor than x86",
                         image->name);
    elf->entry = elf->is_64 ? image_u64(image, 24) : image_u32(image, 24);
    elf->ph_offset = elf->is_64 ? image_u64(image, 32) : image_u32(image, 28);
    elf->ph_size = image_u16(image, elf->is_64 ? 54 : 42);
    elf->ph_count = image_u16(image, elf->is_64 ? 56 : 44);
    if (elf->ph_size != (elf->is_64 ? PH_SIZE_64 : PH_SIZE_32) || !elf->ph_count ||
        elf->ph_count > MAX_SEGMENTS)
        return error_set(err,
                         "-kernel '%s' has %u program headers of %u bytes, which cannot be",
                         image->name, elf->ph_count, elf->ph_size);
    if (!image_has(image, elf->ph_offset, (u64)elf->ph_count * elf->ph_size))
        return error_set(err,
                         "-kernel '%s' is truncated: its program headers end beyond the file",
                         image->name);
    return true;
}

/* Program header `index`, which is below ph_count. */
static struct elf_segment elf_segment(const struct elf *elf, unsigned index)
{
    const struct boot_image *image = elf->image;
    u64 at = elf->ph_offset + (u64)index * elf->ph_size;
    if (elf->is_64)
        return (struct elf_segment){
            .type = image_u32(image, at),
            .offset = image_u64(image, at + 8),
            .vaddr = image_u64(image, at + 16),
            .paddr = image_u64(image, at + 24),
            .file_size = image_u64(image, at + 32),
            .memory_size = image_u64(image, at + 40),
            .alignment = image_u64(image, at + 48),
        };
    return (struct elf_segment){
        .type = image_u32(image, at),
        .offset = image_u32(image, at + 4),
        .vaddr = image_u32(image, at + 8),
        .paddr = image_u32(image, at + 12),
        .file_size = image_u32(image, at + 16),
        .memory_size = image_u32(image, at + 20),
        .alignment = image_u32(image, at + 28),
    };
}

/*
 * Linkers put the file's headers into a segment of their own, a page in front of a kernel that
 * is linked for 1 MiB: into the hole, where nobody wants them. Leaves out what a segment has
 * there, if that is the headers and zeros.
 */
static void leave_out_headers(const struct elf *elf, struct elf_segment *segment)
{
    u64 headers = elf->ph_offset + (u64)elf->ph_count * elf->ph_size;
    if (segment->offset || segment->paddr < EBDA_START || segment->paddr >= HIGH_START)
        return;
    u64 cut = HIGH_START - segment->paddr;
    if (cut > segment->memory_size)
        cut = segment->memory_size;
    for (u64 at = headers; at < cut && at < segment->file_size; at++)
        if (image_u8(elf->image, at))
            return;
    segment->offset += cut;
    segment->vaddr += cut;
    segment->paddr += cut;
    segment->memory_size -= cut;
    segment->file_size -= cut < segment->file_size ? cut : segment->file_size;
}

bool elf_load(const struct elf *elf, const struct boot_config *config, u64 floor,
              struct elf_extent *extent, struct error *err)
{
    u64 total = 0;
    *extent = (struct elf_extent){.start = UINT64_MAX};
    for (unsigned i = 0; i < elf->ph_count; i++) {
        struct elf_segment segment = elf_segment(elf, i);
        if (segment.type != ELF_LOAD)
            continue;
        leave_out_headers(elf, &segment);
        if (!segment.memory_size)
            continue;
        const struct load_part part = {
            .what = "ELF segment",
            .addr = segment.paddr,
            .size = segment.memory_size,
            .offset = segment.offset,
            .file_size = segment.file_size,
        };
        /* Segments that lie over each other would make the work unbounded. */
        if (segment.memory_size > layout_ram_end(config->board) - total)
            return error_set(err,
                             "-kernel '%s': its ELF segments are larger than the machine's "
                             "memory; give it more with -m",
                             elf->image->name);
        total += segment.memory_size;
        if (!layout_load(config, &part, floor, err))
            return false;
        if (segment.paddr < extent->start)
            extent->start = segment.paddr;
        if (segment.paddr + segment.memory_size > extent->end)
            extent->end = segment.paddr + segment.memory_size;
    }
    if (!extent->end)
        return error_set(err, "-kernel '%s' has no ELF segment to load", elf->image->name);
    return true;
}

u64 elf_physical(const struct elf *elf, u64 vaddr)
{
    for (unsigned i = 0; i < elf->ph_count; i++) {
        struct elf_segment segment = elf_segment(elf, i);
        if (segment.type == ELF_LOAD && vaddr >= segment.vaddr &&
            vaddr - segment.vaddr < segment.memory_size)
            return segment.paddr + (vaddr - segment.vaddr);
    }
    return vaddr;
}

/* One note segment: a row of (name size, payload size, type, name, payload), each padded. */
static bool find_note(const struct boot_image *image, const struct elf_segment *segment,
                      const char *owner, u32 type, u64 *offset, u64 *size)
{
    u64 pad = segment->alignment == 8 ? 8 : 4;
    u64 owner_size = strlen(owner) + 1;
    u64 at = segment->offset;
    u64 end = segment->offset + segment->file_size;
    while (at < end && image_has(image, at, 12) && end - at >= 12) {
        u64 name_size = image_u32(image, at);
        u64 payload_size = image_u32(image, at + 4);
        u64 name = at + 12;
        u64 payload = align_up(name + name_size, pad);
        if (!image_has(image, name, name_size) || !image_has(image, payload, payload_size))
            return false;
        if (image_u32(image, at + 8) == type && name_size == owner_size &&
            !memcmp(image->data + name, owner, owner_size)) {
            *offset = payload;
            *size = payload_size;
            return true;
        }
        at = align_up(payload + payload_size, pad);
    }
    return false;
}

bool elf_note(const struct elf *elf, const char *owner, u32 type, u64 *offset, u64 *size)
{
    for (unsigned i = 0; i < elf->ph_count; i++) {
        struct elf_segment segment = elf_segment(elf, i);
        if (segment.type == ELF_NOTE &&
            image_has(elf->image, segment.offset, segment.file_size) &&
            find_note(elf->image, &segment, owner, type, offset, size))
            return true;
    }
    return false;
}
