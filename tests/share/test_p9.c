/* A client of the 9P server that tries to leave the directory, and messages that are none. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/share/p9.h"
#include "host/share/p9_message.h"

enum {
    TLOPEN = 12,
    TLCREATE = 14,
    TSYMLINK = 16,
    TMKNOD = 18,
    TREADDIR = 40,
    TLINK = 70,
    TMKDIR = 72,
    TRENAMEAT = 74,
    TUNLINKAT = 76,
    TVERSION = 100,
    TATTACH = 104,
    TWALK = 110,
    TREAD = 116,
    TCLUNK = 120,
};

struct client {
    char directory[64], outside[80], inside[80];
    struct p9 *p9;
    u8 message[4096], answer[8192];
    struct p9_out out; /* the message being made */
    struct p9_in in;   /* the answer, behind its header */
};

static void begin(struct client *c, u8 type)
{
    c->out = (struct p9_out){c->message, c->message, c->message + sizeof(c->message), false};
    p9_put(&c->out, 4, 0);
    p9_put(&c->out, 1, type);
    p9_put(&c->out, 2, 7);
}

/* Sends it; 0, or the error of the answer. */
static int send_message(struct client *c)
{
    u32 len = (u32)(c->out.at - c->message);
    u8 type = c->message[4];
    memcpy(c->message, &len, sizeof(len));
    u32 got = p9_serve(c->p9, c->message, len, c->answer, sizeof(c->answer));
    c->in = (struct p9_in){c->answer, c->answer + got, false};
    assert_true(got >= 7);
    assert_int_equal(p9_get(&c->in, 4), got);
    u8 answered = (u8)p9_get(&c->in, 1);
    assert_int_equal(p9_get(&c->in, 2), 7);
    if (answered == 7)
        return (int)p9_get(&c->in, 4);
    assert_int_equal(answered, type + 1);
    return 0;
}

static int walk(struct client *c, u32 from, u32 to, unsigned n, ...)
{
    va_list names;
    begin(c, TWALK);
    p9_put(&c->out, 4, from);
    p9_put(&c->out, 4, to);
    p9_put(&c->out, 2, n);
    va_start(names, n);
    for (unsigned i = 0; i < n; i++)
        p9_put_string(&c->out, va_arg(names, const char *));
    va_end(names);
    return send_message(c);
}

static int with_fid(struct client *c, u8 type, u32 fid)
{
    begin(c, type);
    p9_put(&c->out, 4, fid);
    return send_message(c);
}

static int open_fid(struct client *c, u32 fid, u32 flags)
{
    begin(c, TLOPEN);
    p9_put(&c->out, 4, fid);
    p9_put(&c->out, 4, flags);
    return send_message(c);
}

static int create(struct client *c, u32 fid, const char *name)
{
    begin(c, TLCREATE);
    p9_put(&c->out, 4, fid);
    p9_put_string(&c->out, name);
    p9_put(&c->out, 4, O_RDWR);
    p9_put(&c->out, 4, 0644);
    p9_put(&c->out, 4, getgid());
    return send_message(c);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    struct client *c = test_calloc(1, sizeof(*c));
    struct error err;
    char path[128];
    strcpy(c->directory, "/tmp/doppel-p9-XXXXXX");
    assert_non_null(mkdtemp(c->directory));
    snprintf(c->outside, sizeof(c->outside), "%s/outside", c->directory);
    snprintf(c->inside, sizeof(c->inside), "%s/inside", c->directory);
    mkdir(c->inside, 0755);
    write_file(c->outside, "secret");
    snprintf(path, sizeof(path), "%s/file", c->inside);
    write_file(path, "public");
    snprintf(path, sizeof(path), "%s/dir", c->inside);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/up", c->inside);
    assert_int_equal(symlink("..", path), 0);
    snprintf(path, sizeof(path), "%s/out", c->inside);
    assert_int_equal(symlink("../outside", path), 0);
    snprintf(path, sizeof(path), "%s/pipe", c->inside);
    assert_int_equal(mkfifo(path, 0644), 0);
    const struct p9_config config = {.path = c->inside};
    c->p9 = p9_create(&config, &err);
    assert_non_null(c->p9);
    begin(c, TVERSION);
    p9_put(&c->out, 4, 8192);
    p9_put_string(&c->out, "9P2000.L");
    assert_int_equal(send_message(c), 0);
    begin(c, TATTACH);
    p9_put(&c->out, 4, 0);
    p9_put(&c->out, 4, ~0u);
    p9_put_string(&c->out, "");
    p9_put_string(&c->out, "");
    p9_put(&c->out, 4, getuid());
    assert_int_equal(send_message(c), 0);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct client *c = *state;
    char command[128];
    p9_destroy(c->p9);
    snprintf(command, sizeof(command), "rm -r %s", c->directory);
    assert_int_equal(system(command), 0);
    test_free(c);
    return 0;
}

static void test_walks_stay_inside(void **state)
{
    struct client *c = *state;
    assert_int_equal(walk(c, 0, 1, 1, "file"), 0);
    assert_int_equal(walk(c, 0, 2, 1, "../outside"), ENOENT);
    assert_int_equal(walk(c, 0, 2, 1, "/etc"), ENOENT);
    assert_int_equal(walk(c, 0, 2, 1, "dir/.."), ENOENT);
    assert_int_equal(walk(c, 0, 2, 1, ""), ENOENT);
    /* ".." of the root is the root. */
    assert_int_equal(walk(c, 0, 3, 4, "..", "..", "..", "file"), 0);
    assert_int_equal(walk(c, 0, 4, 3, "dir", "..", "file"), 0);
    /* Links are found, not followed: the walk ends before what is behind them. */
    assert_int_equal(walk(c, 0, 5, 2, "up", "outside"), 0);
    assert_int_equal(p9_get(&c->in, 2), 1);
    assert_int_equal(with_fid(c, TCLUNK, 5), EBADF);
    assert_int_equal(walk(c, 0, 6, 1, "out"), 0);
    assert_int_equal(open_fid(c, 6, O_RDONLY), ELOOP);
    assert_int_equal(open_fid(c, 6, O_RDWR | O_CREAT | O_TRUNC), ELOOP);
    assert_int_equal(walk(c, 0, 7, 1, "pipe"), 0);
    assert_int_equal(open_fid(c, 7, O_RDONLY), ELOOP);
}

static void test_a_directory_that_is_moved_away(void **state)
{
    struct client *c = *state;
    char from[128], to[128];
    assert_int_equal(walk(c, 0, 1, 1, "dir"), 0);
    snprintf(from, sizeof(from), "%s/dir", c->inside);
    snprintf(to, sizeof(to), "%s/moved", c->directory);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(walk(c, 1, 2, 2, "..", "outside"), 0);
    assert_int_equal(p9_get(&c->in, 2), 1); /* ".." is still the share's root */
}

static void test_names(void **state)
{
    struct client *c = *state;
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", "/x"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(create(c, 0, bad[i]), EINVAL);
        begin(c, TMKDIR);
        p9_put(&c->out, 4, 0);
        p9_put_string(&c->out, bad[i]);
        p9_put(&c->out, 4, 0755);
        p9_put(&c->out, 4, 0);
        assert_int_equal(send_message(c), EINVAL);
        begin(c, TUNLINKAT);
        p9_put(&c->out, 4, 0);
        p9_put_string(&c->out, bad[i]);
        p9_put(&c->out, 4, AT_REMOVEDIR);
        assert_int_equal(send_message(c), EINVAL);
        begin(c, TRENAMEAT);
        p9_put(&c->out, 4, 0);
        p9_put_string(&c->out, "file");
        p9_put(&c->out, 4, 0);
        p9_put_string(&c->out, bad[i]);
        assert_int_equal(send_message(c), EINVAL);
    }
    /* Not through a link that is there, and not over a file. */
    assert_int_equal(create(c, 0, "out"), EEXIST);
    assert_int_equal(create(c, 0, "file"), EEXIST);
}

static void test_no_devices(void **state)
{
    struct client *c = *state;
    begin(c, TMKNOD);
    p9_put(&c->out, 4, 0);
    p9_put_string(&c->out, "null");
    p9_put(&c->out, 4, S_IFCHR | 0666);
    p9_put(&c->out, 4, 1);
    p9_put(&c->out, 4, 3);
    p9_put(&c->out, 4, 0);
    assert_int_equal(send_message(c), EPERM);
}

static void test_fids(void **state)
{
    struct client *c = *state;
    assert_int_equal(with_fid(c, TCLUNK, 99), EBADF);
    assert_int_equal(walk(c, 99, 1, 0), EBADF);
    assert_int_equal(walk(c, 0, 1, 0), 0);
    assert_int_equal(walk(c, 0, 1, 0), EINVAL); /* in use */
    assert_int_equal(open_fid(c, 1, O_RDONLY), 0);
    assert_int_equal(open_fid(c, 1, O_RDONLY), EBADF);
    begin(c, TREAD); /* of a directory */
    p9_put(&c->out, 4, 1);
    p9_put(&c->out, 8, 0);
    p9_put(&c->out, 4, 100);
    assert_int_equal(send_message(c), EBADF);
    assert_int_equal(with_fid(c, TCLUNK, 1), 0);
    /* Bytes beyond the answer's room are not asked of the file. */
    assert_int_equal(walk(c, 0, 2, 1, "file"), 0);
    assert_int_equal(open_fid(c, 2, O_RDONLY), 0);
    begin(c, TREAD);
    p9_put(&c->out, 4, 2);
    p9_put(&c->out, 8, 0);
    p9_put(&c->out, 4, 0xffffffff);
    assert_int_equal(send_message(c), 0);
    assert_int_equal(p9_get(&c->in, 4), 6);
}

static void test_messages_that_are_none(void **state)
{
    struct client *c = *state;
    for (unsigned type = 0; type < 256; type++) {
        begin(c, (u8)type);
        if (type != TVERSION && type != 108)
            assert_int_not_equal(send_message(c), 0);
        /* Cut off at each byte. */
        begin(c, (u8)type);
        for (unsigned i = 0; i < 40; i++)
            p9_put(&c->out, 1, 0xff);
        u32 whole = (u32)(c->out.at - c->message);
        for (u32 len = 0; len < whole; len++) {
            memcpy(c->message, &len, sizeof(len));
            p9_serve(c->p9, c->message, len, c->answer, sizeof(c->answer));
        }
    }
    for (u32 size = 0; size < 64; size++) {
        begin(c, 24);
        p9_put(&c->out, 4, 0);
        u32 len = (u32)(c->out.at - c->message);
        memcpy(c->message, &len, sizeof(len));
        assert_true(p9_serve(c->p9, c->message, len, c->answer, size) <= size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_walks_stay_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_directory_that_is_moved_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_devices, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages_that_are_none, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
