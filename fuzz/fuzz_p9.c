/*
 * A hostile guest of a shared directory: messages with plausible fields, in any order, on a
 * temporary directory. Nothing outside of it may change: the directory's parent holds a file
 * that is looked at after each input.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ensure.h"
#include "host/share/p9.h"
#include "host/share/p9_message.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const char *const names[] = {"a", "b", "d", "..", ".", "", "a/b", "../outside", "link"};
static const u8 types[] = {8,  12, 14, 16, 18,  22,  24,  26,  40,  50,  52,  54,
                           70, 72, 74, 76, 100, 104, 108, 110, 116, 118, 120, 30};

struct input {
    const u8 *at, *end;
};

static u8 next(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

/* Fields by chance: small numbers, names, bytes. */
static u32 make_message(struct input *input, u8 *message, size_t size)
{
    struct p9_out out = {message, message, message + size, false};
    p9_put(&out, 4, 0);
    p9_put(&out, 1, types[next(input) % sizeof(types)]);
    p9_put(&out, 2, 1);
    unsigned fields = next(input) % 12;
    for (unsigned i = 0; i < fields; i++) {
        u8 kind = next(input);
        if (kind < 80)
            p9_put(&out, 4, kind % 8);
        else if (kind < 120)
            p9_put(&out, 8, kind < 100 ? kind % 4 : next(input) * 0x0101010101010101ull);
        else if (kind < 150)
            p9_put(&out, 2, kind % 4);
        else if (kind < 220)
            p9_put_string(&out, names[kind % ARRAY_LEN(names)]);
        else
            p9_put(&out, 1, next(input));
    }
    u32 len = (u32)(out.at - message);
    memcpy(message, &len, sizeof(len));
    return len;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    char directory[] = "/tmp/doppel-fuzz-XXXXXX", share[64], outside[64], command[128];
    struct error err;
    struct stat before, after;
    u8 message[1024], answer[8192];
    ensure(mkdtemp(directory));
    snprintf(share, sizeof(share), "%s/share", directory);
    snprintf(outside, sizeof(outside), "%s/outside", directory);
    ensure(!mkdir(share, 0755) && !mknod(outside, S_IFREG | 0600, 0));
    ensure(!stat(outside, &before));
    const struct p9_config config = {.path = share, .security = size % 2 ? P9_MAPPED : P9_NONE};
    struct p9 *p9 = p9_create(&config, &err);
    ensure(p9);
    struct input input = {data, data + size};
    while (input.at < input.end) {
        u32 len = make_message(&input, message, sizeof(message));
        ensure(p9_serve(p9, message, len, answer, sizeof(answer)) <= sizeof(answer));
    }
    p9_destroy(p9);
    ensure(!stat(outside, &after) && after.st_size == 0 && after.st_nlink == 1 &&
           after.st_mode == before.st_mode);
    snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", directory, directory);
    ensure(!system(command));
    return 0;
}
