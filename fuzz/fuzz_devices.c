/*
 * Devices against a hostile guest: a whole board, poked as the input says. Each 16 bytes are
 * one register access, MSR access, time step or back-end event. The sanitizers and ensure()
 * judge.
 */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

struct poke {
    u32 what;
    u32 where;
    u64 value;
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct full_board full = {0};
    struct fixture *f = fixture_create(2);
    fixture_add_ram(f, 2 * MiB);
    full_board_init(&full, f);
    struct poke poke;
    for (; size >= sizeof(poke); data += sizeof(poke), size -= sizeof(poke)) {
        memcpy(&poke, data, sizeof(poke));
        full_board_poke(&full, f, poke.what, poke.where, poke.value);
    }
    devices_reset(&f->board);
    fixture_destroy(f);
    full_board_destroy(&full);
    return 0;
}
