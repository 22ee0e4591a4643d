/*
 * Drives a disk image for test_image.py:
 *
 *   image_tool PATH FORMAT torture SEED COUNT [zeroes]   random requests against a model in
 * memory image_tool PATH FORMAT dump FILE                     all of it, to a file image_tool
 * PATH FORMAT write SEED COUNT              stamped blocks; tells what is durable image_tool
 * PATH FORMAT verify SEED COUNT             whether that is there
 *   image_tool PATH FORMAT steady|promised 0    one that outlives its server
 *
 * FORMAT may be followed by ",snapshot", ",readonly" or a cache word.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "host/block/image.h"

#define BLOCK   4096u
#define MAX_LEN (300 * KiB)

static u64 random_next(u64 *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dull;
}

static struct image *open_image(const char *path, const char *words)
{
    struct image_config config = {.path = path, .cache.writeback = true, .discard = true};
    struct error err;
    char copy[64];
    snprintf(copy, sizeof(copy), "%s", words);
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        if (!strcmp(word, "snapshot"))
            config.snapshot = true;
        else if (!strcmp(word, "readonly"))
            config.read_only = true;
        else if (!image_format_parse(&config.format, word) &&
                 !image_cache_parse(&config.cache, word))
            exit(2);
    }
    struct image *image = image_open(&config, &err);
    if (!image) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return image;
}

static void check(bool good, const char *what, u64 offset, u64 len)
{
    if (good)
        return;
    fprintf(stderr, "%s: at %llu, %llu bytes\n", what, (unsigned long long)offset,
            (unsigned long long)len);
    exit(1);
}

static u8 *read_all(struct image *image)
{
    u8 *data = malloc(image->size);
    ensure(data);
    for (u64 at = 0; at < image->size; at += MiB) {
        u64 len = image->size - at < MiB ? image->size - at : MiB;
        check(!image_read(image, at, data + at, len), "read", at, len);
    }
    return data;
}

static void fill(u8 *data, u64 len, u64 *seed)
{
    for (u64 i = 0; i < len; i++)
        data[i] = i % 64 ? (u8)(data[i - 1] + 1) : (u8)random_next(seed);
}

#define MAX_PARTS 40

/* Cuts the buffer where it likes. */
static unsigned cut(struct iovec *parts, u8 *buf, u64 len, u64 *seed)
{
    unsigned n = 0;
    while (len) {
        u64 part = random_next(seed) % 3 ? random_next(seed) % 5000 : 4096;
        if (part > len || n == MAX_PARTS - 1)
            part = len;
        parts[n++] = (struct iovec){buf, part};
        buf += part;
        len -= part;
    }
    return n;
}

static int read_somehow(struct image *image, u64 offset, u8 *buf, u64 len, bool now, u64 *seed)
{
    struct iovec parts[MAX_PARTS];
    if (image->ops->read_parts && random_next(seed) & 1) {
        unsigned n = cut(parts, buf, len, seed);
        return image->ops->read_parts(image, offset, parts, n, len, now);
    }
    return now ? image->ops->read_now(image, offset, buf, len)
               : image_read(image, offset, buf, len);
}

static int write_somehow(struct image *image, u64 offset, u8 *buf, u64 len, u64 *seed)
{
    struct iovec parts[MAX_PARTS];
    if (image->ops->write_parts && random_next(seed) & 1) {
        unsigned n = cut(parts, buf, len, seed);
        return image->ops->write_parts(image, offset, parts, n, len);
    }
    return image_write(image, offset, buf, len);
}

static void torture_once(struct image *image, u8 *model, u8 *buf, u64 *seed, bool zeroes)
{
    bool small = random_next(seed) % 4;
    u64 offset = random_next(seed) % (image->size / 512) * 512;
    u64 len = (random_next(seed) % (small ? 16 : MAX_LEN / 512) + 1) * 512;
    if (len > image->size - offset)
        len = image->size - offset;
    switch (random_next(seed) % (zeroes ? 8 : 6)) {
    case 0:
    case 1:
    case 2:
        fill(buf, len, seed);
        check(!write_somehow(image, offset, buf, len, seed), "write", offset, len);
        memcpy(model + offset, buf, len);
        break;
    case 3:
        if (!image->ops->read_now || read_somehow(image, offset, buf, len, true, seed))
            check(!image_read(image, offset, buf, len), "read", offset, len);
        check(!memcmp(buf, model + offset, len), "differs", offset, len);
        break;
    case 4:
        check(!read_somehow(image, offset, buf, len, false, seed), "read", offset, len);
        check(!memcmp(buf, model + offset, len), "differs", offset, len);
        break;
    case 5:
        if (random_next(seed) % 8 == 0)
            check(!image_flush(image), "flush", 0, 0);
        break;
    case 6:
        check(!image->ops->write_zeroes(image, offset, len, random_next(seed) & 1), "zero",
              offset, len);
        memset(model + offset, 0, len);
        break;
    case 7:
        /* What is discarded may read as anything; take what it is now. */
        check(!image->ops->discard(image, offset, len), "discard", offset, len);
        check(!image_read(image, offset, model + offset, len), "read", offset, len);
        break;
    default:
        break;
    }
}

static void torture(const char *path, const char *words, u64 seed, u64 count, bool zeroes)
{
    struct image *image = open_image(path, words);
    u8 *model = read_all(image);
    u8 *buf = malloc(MAX_LEN);
    ensure(buf);
    for (u64 i = 0; i < count; i++)
        torture_once(image, model, buf, &seed, zeroes);
    u8 *now = read_all(image);
    check(!memcmp(now, model, image->size), "differs in the end", 0, image->size);
    free(now);
    image_close(image);
    if (!strstr(words, "snapshot")) {
        image = open_image(path, words);
        now = read_all(image);
        check(!memcmp(now, model, image->size), "differs when opened again", 0, image->size);
        free(now);
        image_close(image);
    }
    free(buf);
    free(model);
}

static void dump(const char *path, const char *words, const char *to)
{
    struct image *image = open_image(path, words);
    u8 *data = read_all(image);
    FILE *file = fopen(to, "wb");
    ensure(file && fwrite(data, 1, image->size, file) == image->size && !fclose(file));
    free(data);
    image_close(image);
}

/* -- Stamps: request n writes n + 1 all over a block --------------------------------------- */

static u64 block_of(u64 seed, u64 n, u64 blocks)
{
    u64 state = (seed ^ n * 0x9e3779b97f4a7c15ull) | 1;
    random_next(&state);
    return random_next(&state) % blocks;
}

static void write_stamps(const char *path, const char *words, u64 seed, u64 count)
{
    struct image *image = open_image(path, words);
    u64 stamps[BLOCK / sizeof(u64)];
    for (u64 n = 0; n < count; n++) {
        for (unsigned i = 0; i < ARRAY_LEN(stamps); i++)
            stamps[i] = n + 1;
        u64 at = block_of(seed, n, image->size / BLOCK) * BLOCK;
        check(!image_write(image, at, stamps, BLOCK), "write", at, BLOCK);
        if (n % 16 == 15) {
            check(!image_flush(image), "flush", 0, 0);
            printf("%llu\n", (unsigned long long)n + 1);
            fflush(stdout);
        }
    }
    image_close(image);
}

static void verify_stamps(const char *path, const char *words, u64 seed, u64 count)
{
    struct image *image = open_image(path, words);
    u64 blocks = image->size / BLOCK;
    u64 *durable = calloc(blocks, sizeof(u64));
    u64 stamps[BLOCK / sizeof(u64)];
    ensure(durable);
    for (u64 n = 0; n < count; n++)
        durable[block_of(seed, n, blocks)] = n + 1;
    for (u64 block = 0; block < blocks; block++) {
        check(!image_read(image, block * BLOCK, stamps, BLOCK), "read", block, BLOCK);
        check(stamps[0] >= durable[block], "what was flushed is gone", block * BLOCK, BLOCK);
        check(!stamps[0] || block_of(seed, stamps[0] - 1, blocks) == block,
              "what belongs elsewhere", block * BLOCK, BLOCK);
        for (unsigned i = 0; i < ARRAY_LEN(stamps); i++)
            check(stamps[i] == stamps[0], "torn", block * BLOCK, BLOCK);
    }
    free(durable);
    image_close(image);
}

/* -- A server that goes and comes back: the test restarts it after "ready" ----------------- */

/* A write before; `promised`: it was never flushed. All that follows must then fail. */
static void survive(const char *path, const char *words, bool promised)
{
    struct image *image = open_image(path, words);
    u8 block[BLOCK] = {1};
    char line[16];
    check(!image_write(image, 0, block, BLOCK), "write", 0, BLOCK);
    check(promised || !image_flush(image), "flush", 0, 0);
    puts("ready");
    fflush(stdout);
    ensure(fgets(line, sizeof(line), stdin));
    /* The first may still meet the old connection; on a busy host the new one may take long. */
    bool good = false;
    for (unsigned i = 0; i < (promised ? 30 : 600) && !good; i++) {
        good = !image_write(image, 0, block, BLOCK) && !image_flush(image);
        nanosleep(&(const struct timespec){.tv_nsec = 100000000}, NULL);
    }
    check(good, "write after", 0, BLOCK);
    image_close(image);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    u64 seed = strtoull(argv[4], NULL, 0) * 2 + 1;
    u64 count = argc > 5 ? strtoull(argv[5], NULL, 0) : 0;
    if (!strcmp(argv[3], "torture"))
        torture(argv[1], argv[2], seed, count, argc > 6);
    else if (!strcmp(argv[3], "dump"))
        dump(argv[1], argv[2], argv[4]);
    else if (!strcmp(argv[3], "write"))
        write_stamps(argv[1], argv[2], seed, count);
    else if (!strcmp(argv[3], "verify"))
        verify_stamps(argv[1], argv[2], seed, count);
    else if (!strcmp(argv[3], "steady") || !strcmp(argv[3], "promised"))
        survive(argv[1], argv[2], argv[3][0] == 'p');
    else
        return 2;
    return 0;
}
