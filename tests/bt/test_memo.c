/* Decodings remembered by form against decodings by Zydis: of random bytes, and of each
 * opcode's forms with other displacements and immediates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/bt/memo.h"

#define ROUNDS 400000
#define ALIKE  4 /* instructions of one form in turn */

struct state {
    struct x86_model model;
    struct guest_decoder known, fresh;
    u64 random;
    unsigned found; /* instructions that were remembered */
};

static u64 next_random(struct state *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

static void compare(struct state *s, unsigned code_size, const u8 *bytes, unsigned size)
{
    struct guest_insn a, b;
    u64 rip = code_size == 8 ? next_random(s) : (u32)next_random(s);
    struct memo_key key;
    memo_key(&key, code_size, bytes, size);
    s->found += memo_find(&s->known, &key, rip, &a);
    bool ends = guest_decode(&s->known, code_size, bytes, size, rip, &a);
    assert_int_equal(ends, guest_decode_anew(&s->fresh, code_size, bytes, size, rip, &b));
    if (ends)
        assert_memory_equal(&a, &b, sizeof(a));
}

/* Most bytes are prefixes, escapes or opcodes of general instructions. */
static void make(struct state *s, u8 *bytes)
{
    static const u8 starts[] = {0x48, 0x66, 0x0f, 0xf3, 0xf2, 0x41,
                                0x4c, 0xc5, 0xc4, 0x67, 0x64};
    unsigned at = 0;
    for (unsigned i = 0; i < GUEST_BYTES; i++)
        bytes[i] = (u8)(next_random(s) >> 24);
    while (at < 3 && next_random(s) & 1)
        bytes[at++] = starts[next_random(s) % sizeof(starts)];
}

static void test_alike(void **state)
{
    (void)state;
    struct state *s = calloc(1, sizeof(*s));
    static const unsigned sizes[] = {8, 8, 4, 2};
    assert_true(x86_model_init(&s->model, "max", 1, 1000000000, NULL));
    guest_decoder_init(&s->known, &s->model);
    guest_decoder_init(&s->fresh, &s->model);
    s->random = 0x5eed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned code_size = sizes[i % 4];
        u8 bytes[GUEST_BYTES];
        make(s, bytes);
        for (unsigned n = 0; n < ALIKE; n++) {
            unsigned size = next_random(s) % 8 ? GUEST_BYTES : next_random(s) % GUEST_BYTES;
            compare(s, code_size, bytes, size);
            /* Another of the same form, as far as that is where forms differ. */
            for (unsigned at = 2 + next_random(s) % 6; at < GUEST_BYTES; at++)
                bytes[at] = next_random(s) & 1 ? (u8)(next_random(s) >> 8) : 0;
        }
    }
    assert_true(s->found > ROUNDS);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
