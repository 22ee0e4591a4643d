/* fw_cfg: selector and data port, the directory, DMA. */
#include "fixture.h"

#include <endian.h>
#include <string.h>

struct fw_test {
    struct fixture *f;
    struct fw_cfg *fw;
};

static int setup(void **state)
{
    struct fw_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    fixture_add_ram(t->f, 2 * MiB);
    t->fw = fw_cfg_create(&t->f->board);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct fw_test *t = *state;
    fixture_destroy(t->f);
    test_free(t);
    return 0;
}

static void read_item(struct fw_test *t, u16 key, void *buf, size_t len)
{
    u8 *bytes = buf;
    out16(t->f, 0x510, key);
    for (size_t i = 0; i < len; i++)
        bytes[i] = in8(t->f, 0x511);
}

static u32 dma(struct fw_test *t, u32 control, u32 len, u64 address)
{
    struct {
        u32 control, len;
        u64 address;
    } request = {htobe32(control), htobe32(len), htobe64(address)};
    ram_write(&t->f->board, gpa(0x1000), &request, sizeof(request));
    out32(t->f, 0x514, 0);
    out32(t->f, 0x518, htobe32(0x1000));
    ram_read(&t->f->board, gpa(0x1000), &request, sizeof(request));
    return be32toh(request.control);
}

static void test_ports(void **state)
{
    struct fw_test *t = *state;
    u8 buf[6];
    read_item(t, 0, buf, 6);
    assert_memory_equal(buf, "QEMU\0\0", 6); /* zeros past the end */
    read_item(t, 1, buf, 4);
    assert_memory_equal(buf, "\3\0\0\0", 4);
    fw_cfg_add_int(t->fw, FW_CFG_NB_CPUS, 0x1234, 2);
    read_item(t, FW_CFG_NB_CPUS, buf, 3);
    assert_memory_equal(buf, "\x34\x12\0", 3);
    fw_cfg_add_int(t->fw, FW_CFG_NB_CPUS, 0x5678, 2);
    read_item(t, FW_CFG_NB_CPUS, buf, 2);
    assert_memory_equal(buf, "\x78\x56", 2);
    read_item(t, 0x7777, buf, 1);
    assert_int_equal(buf[0], 0);
    assert_int_equal(in32(t->f, 0x514), 0x554d4551); /* "QEMU CFG", big-endian */
    assert_int_equal(in32(t->f, 0x518), 0x47464320);
}

static void test_files(void **state)
{
    struct fw_test *t = *state;
    u8 dir[4 + 2 * 64], data[5];
    assert_true(fw_cfg_add_file(t->fw, "etc/one", "11111", 5));
    assert_true(fw_cfg_add_file(t->fw, "etc/two", "2222", 4));
    assert_true(fw_cfg_add_file(t->fw, "etc/one", "abc", 3)); /* replaces */
    read_item(t, FW_CFG_FILE_DIR, dir, sizeof(dir));
    assert_memory_equal(dir, "\0\0\0\2\0\0\0\3\0\x20\0\0etc/one", 20);
    assert_memory_equal(dir + 4 + 64, "\0\0\0\4\0\x21\0\0etc/two", 16);
    read_item(t, 0x21, data, 5);
    assert_memory_equal(data, "2222\0", 5);
    char name[80];
    memset(name, 'x', sizeof(name));
    name[56] = 0;
    assert_false(fw_cfg_add_file(t->fw, name, "", 0));
    for (unsigned i = 2; i < FW_CFG_FILES; i++) {
        name[0] = (char)('0' + i);
        name[1] = 0;
        assert_true(fw_cfg_add_file(t->fw, name, "", 0));
    }
    assert_false(fw_cfg_add_file(t->fw, "too many", "", 0));
}

static void test_dma(void **state)
{
    struct fw_test *t = *state;
    u8 buf[8];
    fw_cfg_add_file(t->fw, "file", "0123456789", 10);
    ram_write(&t->f->board, gpa(0x2000), "........", 8);
    assert_int_equal(dma(t, 0x20 << 16 | 0x08 | 0x02, 4, 0x2000), 0); /* select and read */
    ram_read(&t->f->board, gpa(0x2000), buf, 8);
    assert_memory_equal(buf, "0123....", 8);
    assert_int_equal(dma(t, 0x04, 3, 0), 0); /* skip */
    assert_int_equal(dma(t, 0x02, 5, 0x2000), 0);
    ram_read(&t->f->board, gpa(0x2000), buf, 8);
    assert_memory_equal(buf, "789\0\0...", 8);
    assert_int_equal(dma(t, 0x20 << 16 | 0x08 | 0x10, 4, 0x2000), 1);      /* write: error */
    assert_int_equal(dma(t, 0x20 << 16 | 0x08 | 0x02, 4, 2 * MiB - 2), 1); /* no RAM there */
    assert_int_equal(dma(t, 0x04, 0xffffffff, 0), 0);
    assert_int_equal(dma(t, 0x02, 0xffffffff, 0x2000), 1); /* more than there is RAM */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_ports), TEST(test_files), TEST(test_dma)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
