/*
 * Runs a fuzz target without libFuzzer: over the files named, or over N random inputs of a seed
 * ("-runs=N -seed=S", libFuzzer's words; 1000 and 1), so that any compiler's build tests it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define MAX_INPUT  65536
#define MAX_RANDOM 8192

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u64 random_next(u64 *seed)
{
    /* xorshift64* (Vigna 2016) */
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dull;
}

static int run_file(const char *name)
{
    u8 input[MAX_INPUT];
    FILE *file = fopen(name, "rb");
    if (!file) {
        perror(name);
        return 1;
    }
    size_t len = fread(input, 1, MAX_INPUT, file);
    fclose(file);
    LLVMFuzzerTestOneInput(input, len);
    return 0;
}

static void run_random(u64 runs, u64 seed)
{
    u8 input[MAX_RANDOM];
    for (u64 run = 0; run < runs; run++) {
        u64 state = (seed + run) * 0x9e3779b97f4a7c15ull | 1;
        size_t len = random_next(&state) % MAX_RANDOM;
        for (size_t i = 0; i < len; i++)
            input[i] = (u8)(random_next(&state) >> 56);
        LLVMFuzzerTestOneInput(input, len);
    }
}

int main(int argc, char **argv)
{
    u64 runs = 1000, seed = 1;
    int files = 0;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-runs=", 6)) {
            runs = strtoull(argv[i] + 6, NULL, 0);
        } else if (!strncmp(argv[i], "-seed=", 6)) {
            seed = strtoull(argv[i] + 6, NULL, 0);
        } else {
            files++;
            if (run_file(argv[i]))
                return 1;
        }
    }
    if (!files)
        run_random(runs, seed);
    return 0;
}
