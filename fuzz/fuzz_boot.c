/*
 * Kernel images as hostile input: whatever the bytes, boot_load returns, and an image that it
 * takes leaves the processor at an address that the protocol allows; what firmware gets of it
 * lies in memory, part by part.
 *
 * Under libFuzzer the bytes come from it. Otherwise main() corrupts valid images of each kind:
 * fuzz_boot [SEED [RUNS]].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "boot/boot.h"
#include "boot/linux_bios.h"
#include "memory/pmap.h"
#include "platform/board.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void try_firmware(const struct boot_image *kernel)
{
    const struct linux_bios_keys keys = {{1, 2, 3, 4}};
    struct linux_bios *bios = malloc(sizeof(*bios));
    struct error err = {{0}};
    ensure(bios);
    linux_bios_wanted(kernel);
    if (linux_bios_prepare(bios, kernel, kernel, "console=ttyS0", 32 * MiB, &keys, &err)) {
        for (unsigned i = 0; i < ARRAY_LEN(bios->parts); i++)
            ensure((u64)bios->parts[i].addr + bios->parts[i].size <= 32 * MiB);
    } else {
        ensure(*err.text);
    }
    free(bios);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct log log = {.fd = 2};
    struct board board;
    struct error err = {{0}};
    struct x86_cpu *cpu = aligned_alloc(_Alignof(struct x86_cpu), sizeof(*cpu));
    ensure(cpu);
    memset(cpu, 0, sizeof(*cpu));
    board_init(&board, &log);
    board.pmap = pmap_create(32 * MiB, &err);
    ensure(board.pmap);
    /* The last byte says whether there is a module. */
    const struct boot_module module = {.image = {"module", data, size}, .command_line = "m"};
    const struct boot_config config = {
        .board = &board,
        .kernel = {"fuzz", data, size},
        .command_line = "console=ttyS0",
        .modules = &module,
        .n_modules = size && data[size - 1] & 1,
        .rsdp = 0xe0000,
    };
    if (boot_load(&config, cpu, &err))
        ensure(cpu->rip <= UINT32_MAX && !(cpu->rflags & FLAG_IF));
    else
        ensure(*err.text && strlen(err.text) < sizeof(err.text));
    try_firmware(&config.kernel);
    struct pmap *pmap = board.pmap;
    board_destroy(&board);
    pmap_destroy(pmap);
    free(cpu);
    return 0;
}

#ifndef DOPPEL_LIBFUZZER

#include "images.h"

static u64 next_random(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void make_image(struct image_buffer *image, u64 kind)
{
    switch (kind % 5) {
    case 0:
        image_linux(image);
        break;
    case 1:
        image_pvh(image, true);
        break;
    case 2:
        image_pvh(image, false);
        break;
    case 3:
        image_multiboot_elf(image);
        break;
    default:
        image_multiboot_raw(image);
    }
}

/* Numbers that find the edges. */
static u64 edge(u64 *state)
{
    static const u64 edges[] = {0,          1,          0xff,        0xffff,       0x7fffffff,
                                0x80000000, 0xffffffff, 0x100000000, 0xfffff000,   ~0ull,
                                0x1000,     0x100000,   0x2000000,   0xfffffffffff};
    u64 r = next_random(state);
    return r & 1 ? edges[r / 2 % ARRAY_LEN(edges)] : r >> (r >> 8 & 63);
}

int main(int argc, char **argv)
{
    u64 state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    u64 runs = argc > 2 ? strtoull(argv[2], NULL, 0) : 2000;
    static struct image_buffer image;
    state = state * 2 + 0x9e3779b97f4a7c15;
    for (u64 run = 0; run < runs; run++) {
        make_image(&image, next_random(&state));
        u64 changes = next_random(&state) % 4 + 1;
        /* Headers are where the decisions are. */
        u64 range = next_random(&state) & 1 ? image.size : 0x420;
        for (u64 i = 0; i < changes; i++) {
            unsigned size = 1u << next_random(&state) % 4;
            image_put(&image, next_random(&state) % (range - 8), edge(&state), size);
        }
        if (!(next_random(&state) % 8))
            image.size = next_random(&state) % image.size;
        LLVMFuzzerTestOneInput(image.data, image.size);
    }
    printf("%llu corrupted images, no harm\n", (unsigned long long)runs);
    return 0;
}

#endif
