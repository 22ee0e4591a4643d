/* A file or block device, see raw.h. */
#include "host/block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/ensure.h"

#define SECTOR     512u
#define DIRECT     4096u /* what O_DIRECT wants offsets, lengths and buffers to be multiples of */
#define ZERO_PIECE (64 * KiB)

struct raw {
    struct image image;
    int fd;
    int direct_fd; /* the same file with O_DIRECT, for what is aligned; or -1 */
    bool device;   /* a block device */
    bool discard;
    bool no_flush;
};

static struct raw *raw_of(struct image *image)
{
    return container_of(image, struct raw, image);
}

/* -- Moving bytes -------------------------------------------------------------------------- */

static int raw_fd(const struct raw *raw, u64 offset, const void *buf, u64 len)
{
    bool aligned = !((offset | len | (u64)(uintptr_t)buf) % DIRECT);
    return raw->direct_fd >= 0 && aligned ? raw->direct_fd : raw->fd;
}

/* What lies beyond the end of the file reads as zeroes: the last sector may be cut short. */
static int raw_read(struct image *image, u64 offset, void *buf, u64 len)
{
    const struct raw *raw = raw_of(image);
    int fd = raw_fd(raw, offset, buf, len);
    while (len) {
        ssize_t got = pread(fd, buf, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0) {
            memset(buf, 0, len);
            return 0;
        }
        buf = (u8 *)buf + got;
        offset += (u64)got;
        len -= (u64)got;
        /* The rest may not be aligned any more. */
        fd = raw_fd(raw, offset, buf, len);
    }
    return 0;
}

static int raw_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    const struct raw *raw = raw_of(image);
    while (len) {
        ssize_t put = pwrite(raw_fd(raw, offset, buf, len), buf, len, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno;
        if (put == 0)
            return EIO;
        buf = (const u8 *)buf + put;
        offset += (u64)put;
        len -= (u64)put;
    }
    return 0;
}

static int raw_read_now(struct image *image, u64 offset, void *buf, u64 len)
{
    const struct raw *raw = raw_of(image);
    struct iovec iov = {buf, len};
    if (raw->direct_fd >= 0)
        return EAGAIN;
    ssize_t got = preadv2(raw->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    return got == (ssize_t)len ? 0 : EAGAIN;
}

/* -- Parts --------------------------------------------------------------------------------- */

static int raw_parts_fd(const struct raw *raw, u64 offset, const struct iovec *parts,
                        unsigned n)
{
    u64 all = offset;
    if (raw->direct_fd < 0)
        return raw->fd;
    for (unsigned i = 0; i < n; i++)
        all |= (u64)(uintptr_t)parts[i].iov_base | parts[i].iov_len;
    return all % DIRECT ? raw->fd : raw->direct_fd;
}

static int raw_move_parts(struct image *image, bool write, u64 offset,
                          const struct iovec *parts, unsigned n, u64 len)
{
    int fd = raw_parts_fd(raw_of(image), offset, parts, n), error = 0;
    ssize_t got = write ? pwritev(fd, parts, (int)n, (off_t)offset)
                        : preadv(fd, parts, (int)n, (off_t)offset);
    if (got == (ssize_t)len)
        return 0;
    if (got < 0 && errno != EINTR)
        return errno;
    /* Cut short, by the end of the file or a signal: what is left, part by part. */
    u64 moved = got < 0 ? 0 : (u64)got;
    for (unsigned i = 0; i < n && !error; i++) {
        u64 size = parts[i].iov_len, done = moved < size ? moved : size;
        u8 *buf = (u8 *)parts[i].iov_base + done;
        error = write ? raw_write(image, offset + done, buf, size - done)
                      : raw_read(image, offset + done, buf, size - done);
        offset += size;
        moved -= done;
    }
    return error;
}

static int raw_read_parts(struct image *image, u64 offset, const struct iovec *parts,
                          unsigned n, u64 len, bool now)
{
    const struct raw *raw = raw_of(image);
    if (!now)
        return raw_move_parts(image, false, offset, parts, n, len);
    if (raw->direct_fd >= 0)
        return EAGAIN;
    ssize_t got = preadv2(raw->fd, parts, (int)n, (off_t)offset, RWF_NOWAIT);
    return got == (ssize_t)len ? 0 : EAGAIN;
}

static int raw_write_parts(struct image *image, u64 offset, const struct iovec *parts,
                           unsigned n, u64 len)
{
    return raw_move_parts(image, true, offset, parts, n, len);
}

static int raw_flush(struct image *image)
{
    const struct raw *raw = raw_of(image);
    if (raw->no_flush || image->read_only)
        return 0;
    return fdatasync(raw->fd) ? errno : 0;
}

/* -- Space --------------------------------------------------------------------------------- */

static bool not_supported(int error)
{
    return error == EOPNOTSUPP || error == ENOTTY || error == ENOSYS || error == EINVAL;
}

static int raw_punch(const struct raw *raw, u64 offset, u64 len)
{
    u64 range[2] = {offset, len};
    int failed = raw->device ? ioctl(raw->fd, BLKDISCARD, range)
                             : fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                         (off_t)offset, (off_t)len);
    return failed ? errno : 0;
}

/* A hint: what the host cannot do is no error. */
static int raw_discard(struct image *image, u64 offset, u64 len)
{
    const struct raw *raw = raw_of(image);
    if (!raw->discard)
        return 0;
    int error = raw_punch(raw, offset, len);
    return not_supported(error) ? 0 : error;
}

static int raw_fill_zeroes(struct image *image, u64 offset, u64 len)
{
    u8 *zeroes = aligned_alloc(DIRECT, ZERO_PIECE);
    ensure(zeroes);
    memset(zeroes, 0, ZERO_PIECE);
    int error = 0;
    while (len && !error) {
        u64 part = len < ZERO_PIECE ? len : ZERO_PIECE;
        error = raw_write(image, offset, zeroes, part);
        offset += part;
        len -= part;
    }
    free(zeroes);
    return error;
}

static int raw_write_zeroes(struct image *image, u64 offset, u64 len, bool unmap)
{
    const struct raw *raw = raw_of(image);
    u64 range[2] = {offset, len};
    int failed;
    if (raw->device)
        failed = ioctl(raw->fd, BLKZEROOUT, range);
    else if (unmap && raw->discard)
        failed = fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                           (off_t)len);
    else
        failed = fallocate(raw->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                           (off_t)len);
    if (!failed)
        return 0;
    return not_supported(errno) ? raw_fill_zeroes(image, offset, len) : errno;
}

/* -- Locks ------------------------------------------------------------------------------------
 *
 * QEMU's protocol (its block/file-posix.c documents the numbers): for each right that a user
 * has, a read lock on byte 100 + n; for each right that others must not have, one on byte 200 +
 * n. Then nobody may hold the opposite of either. The locks belong to the open file, so they
 * hold between two images of one process too.
 */

#define LOCK_HAS    100
#define LOCK_FORBID 200

#define RIGHT_READ   BIT(0)
#define RIGHT_WRITE  BIT(1)
#define RIGHT_RESIZE BIT(3)

static bool lock_byte(int fd, int byte, short type, bool test)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, test ? F_OFD_GETLK : F_OFD_SETLK, &lock) < 0)
        return errno == EINVAL || errno == ENOLCK; /* a file system without locks */
    return !test || lock.l_type == F_UNLCK;
}

static bool lock_all(int fd, u64 rights, int base, int opposite)
{
    for (int n = 0; n < 64; n++) {
        if (!(rights & BIT(n)))
            continue;
        if (!lock_byte(fd, base + n, F_RDLCK, false) ||
            !lock_byte(fd, opposite + n, F_WRLCK, true))
            return false;
    }
    return true;
}

static bool raw_lock(int fd, bool read_only)
{
    u64 has = read_only ? RIGHT_READ : RIGHT_READ | RIGHT_WRITE | RIGHT_RESIZE;
    return lock_all(fd, has, LOCK_HAS, LOCK_FORBID) &&
           lock_all(fd, RIGHT_WRITE | RIGHT_RESIZE, LOCK_FORBID, LOCK_HAS);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void raw_close(struct image *image)
{
    struct raw *raw = raw_of(image);
    raw_flush(image);
    close(raw->fd);
    if (raw->direct_fd >= 0)
        close(raw->direct_fd);
    free(raw);
}

static const struct image_ops raw_ops = {
    .read = raw_read,
    .write = raw_write,
    .flush = raw_flush,
    .discard = raw_discard,
    .write_zeroes = raw_write_zeroes,
    .read_now = raw_read_now,
    .read_parts = raw_read_parts,
    .write_parts = raw_write_parts,
    .close = raw_close,
};

static struct raw *raw_new(int fd)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    ensure(raw);
    raw->image.ops = &raw_ops;
    raw->fd = fd;
    raw->direct_fd = -1;
    return raw;
}

static bool raw_measure(struct raw *raw, const char *path, struct error *err)
{
    struct stat stat;
    if (fstat(raw->fd, &stat) < 0)
        return error_errno(err, "cannot examine '%s'", path);
    raw->device = S_ISBLK(stat.st_mode);
    if (raw->device) {
        if (ioctl(raw->fd, BLKGETSIZE64, &raw->image.size) < 0)
            return error_errno(err, "cannot tell the size of '%s'", path);
    } else if (S_ISREG(stat.st_mode)) {
        raw->image.size = (u64)stat.st_size;
    } else {
        return error_set(err, "'%s' is neither a file nor a block device", path);
    }
    return true;
}

static bool raw_setup(struct raw *raw, const struct image_config *config, struct error *err)
{
    if (!raw_measure(raw, config->path, err))
        return false;
    if (!config->share && !raw_lock(raw->fd, config->read_only))
        return error_set(err,
                         "'%s' is in use by another process; stop that one, or add readonly=on "
                         "to both",
                         config->path);
    if (!config->cache.direct)
        return true;
    int flags = (config->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT;
    raw->direct_fd = open(config->path, flags);
    if (raw->direct_fd < 0)
        return error_errno(err, "'%s' cannot be opened for direct I/O; try cache=writeback",
                           config->path);
    return true;
}

struct image *raw_open(const struct image_config *config, struct error *err)
{
    struct stat status;
    /* Opening a pipe would wait for its writer. */
    if (!stat(config->path, &status) && S_ISFIFO(status.st_mode)) {
        error_set(err, "'%s' is neither a file nor a block device", config->path);
        return NULL;
    }
    int fd = open(config->path, (config->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) {
        const char *how = config->read_only ? ""
                          : access(config->path, R_OK)
                              ? " for writing"
                              : " for writing, but with readonly=on or "
                                "snapshot=on";
        error_errno(err, "cannot open '%s'%s", config->path, how);
        return NULL;
    }
    struct raw *raw = raw_new(fd);
    raw->image.read_only = config->read_only;
    raw->discard = config->discard;
    raw->no_flush = config->cache.no_flush;
    if (!raw_setup(raw, config, err)) {
        raw_close(&raw->image);
        return NULL;
    }
    return &raw->image;
}

struct image *raw_temporary(struct error *err)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_errno(err, "cannot make a temporary file in %s", dir ? dir : "/var/tmp");
        return NULL;
    }
    struct raw *raw = raw_new(fd);
    raw->discard = raw->no_flush = true;
    return &raw->image;
}
