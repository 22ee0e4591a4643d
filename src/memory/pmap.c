/* The pmap, see pmap.h. */
#include "memory/pmap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/ensure.h"
#include "memory/color.h"

/* A run of machine pages is handed out at once, so that host mappings of neighbours can
 * merge. */
#define RUN_PAGES 512
#define AROUND    16
/* Machine pages beyond RAM for ROM images below 4 GiB. */
#define ROM_PAGES (16 * MiB / PAGE_SIZE)

#define NO_RUN 0
#define NO_MFN UINT64_MAX

#define DEVICE_PAGES (PMAP_DEVICE_MEMORY / PAGE_SIZE)

struct pmap {
    pthread_mutex_t lock; /* allocation: next_mfn, runs, allocated */
    u64 below, above;     /* bytes of RAM */
    u64 n_frames;         /* entries: every gfn below is covered */
    /* Per gfn: mfn << 12 | PMAP_*; the mfn counts only with PMAP_PRESENT. */
    _Atomic u64 *entries;
    struct pmap_code *code; /* per gfn */
    u64 *runs;              /* per RUN_PAGES gfns: first mfn + 1 of its run, or NO_RUN */
    u8 *base;               /* the memory file; hva of mfn = base + mfn * 4096, */
    u64 other;              /* or that much above, for colours that vCPUs have */
    u64 n_machine;          /* pages in the file */
    u64 next_mfn;
    u64 device_mfn; /* of the pages for devices, which are the file's last: the next free */
    u64 allocated;
    int fd;
};

static void *map_zero(u64 bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static u64 runs_of(const struct pmap *pmap)
{
    return align_up(pmap->n_frames, RUN_PAGES) / RUN_PAGES;
}

static void mark_ram(struct pmap *pmap, u64 from, u64 bytes)
{
    for (u64 f = from / PAGE_SIZE; f < (from + bytes) / PAGE_SIZE; f++)
        atomic_store_explicit(&pmap->entries[f], PMAP_RAM, memory_order_relaxed);
}

/* The memory file has a page at two addresses of different colours (color.h); only one is in
 * use. */
static bool map_file(struct pmap *pmap)
{
    u64 bytes = pmap->n_machine * PAGE_SIZE;
    pmap->other = align_up(bytes, COLOR_SPAN) + COLOR_SPAN / 2;
    u8 *base = mmap(NULL, pmap->other + bytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return false;
    pmap->base = base;
    for (unsigned i = 0; i < 2; i++)
        if (mmap(base + i * pmap->other, bytes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, pmap->fd, 0) == MAP_FAILED)
            return false;
    return true;
}

static bool pmap_map(struct pmap *pmap, struct error *err)
{
    pmap->entries = map_zero(pmap->n_frames * sizeof(u64));
    pmap->runs = map_zero(runs_of(pmap) * sizeof(u64));
    pmap->code = map_zero(pmap->n_frames * sizeof(pmap->code[0]));
    if (!pmap->entries || !pmap->runs || !pmap->code)
        return error_errno(err, "cannot allocate the table of guest memory");
    pmap->fd = memfd_create("doppel-ram", MFD_CLOEXEC);
    if (pmap->fd < 0)
        return error_errno(err, "cannot create the memory file of the guest");
    u64 bytes = pmap->n_machine * PAGE_SIZE;
    if (ftruncate(pmap->fd, (off_t)bytes) < 0)
        return error_errno(err, "cannot size the memory file of the guest to %llu MiB",
                           (unsigned long long)(bytes / MiB));
    if (!map_file(pmap))
        return error_errno(err, "cannot map %llu MiB of guest memory; try a smaller -m",
                           (unsigned long long)(bytes / MiB));
    return true;
}

struct pmap *pmap_create(u64 bytes, struct error *err)
{
    ensure(bytes % PAGE_SIZE == 0 && bytes <= PMAP_MAX_RAM);
    struct pmap *pmap = calloc(1, sizeof(*pmap));
    if (!pmap) {
        error_set(err, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&pmap->lock, NULL);
    pmap->fd = -1;
    pmap->below = bytes < PMAP_HOLE ? bytes : PMAP_HOLE;
    pmap->above = bytes - pmap->below;
    pmap->n_frames = (4 * GiB + pmap->above) / PAGE_SIZE;
    /* Each RAM range may leave one partial run, and so may each ROM. */
    pmap->device_mfn = align_up(bytes / PAGE_SIZE, RUN_PAGES) + 2 * RUN_PAGES + ROM_PAGES;
    pmap->n_machine = pmap->device_mfn + DEVICE_PAGES;
    if (!pmap_map(pmap, err)) {
        pmap_destroy(pmap);
        return NULL;
    }
    mark_ram(pmap, 0, pmap->below);
    mark_ram(pmap, 4 * GiB, pmap->above);
    return pmap;
}

void pmap_destroy(struct pmap *pmap)
{
    if (pmap->entries)
        munmap((void *)pmap->entries, pmap->n_frames * sizeof(u64));
    if (pmap->runs)
        munmap(pmap->runs, runs_of(pmap) * sizeof(u64));
    if (pmap->code)
        munmap(pmap->code, pmap->n_frames * sizeof(pmap->code[0]));
    if (pmap->base)
        munmap(pmap->base, pmap->other + pmap->n_machine * PAGE_SIZE);
    if (pmap->fd >= 0)
        close(pmap->fd);
    pthread_mutex_destroy(&pmap->lock);
    free(pmap);
}

u64 pmap_below_4g(const struct pmap *pmap)
{
    return pmap->below;
}

u64 pmap_above_4g(const struct pmap *pmap)
{
    return pmap->above;
}

u64 pmap_frames(const struct pmap *pmap)
{
    return pmap->n_frames;
}

u64 pmap_flags(const struct pmap *pmap, struct gfn f)
{
    if (f.v >= pmap->n_frames)
        return 0;
    return atomic_load_explicit(&pmap->entries[f.v], memory_order_acquire) & ~PAGE_MASK;
}

struct pmap_code *pmap_code(struct pmap *pmap, struct gfn f)
{
    ensure(f.v < pmap->n_frames);
    return &pmap->code[f.v];
}

u64 pmap_set_flags(struct pmap *pmap, struct gfn f, u64 set, u64 clear)
{
    ensure(f.v < pmap->n_frames && !((set | clear) & PAGE_MASK));
    _Atomic u64 *entry = &pmap->entries[f.v];
    u64 old = atomic_load(entry);
    while (!atomic_compare_exchange_weak(entry, &old, (old & ~clear) | set))
        ;
    return old & ~PAGE_MASK;
}

/* The machine page for gfn `f`: its place in the run of its neighbours. Under the lock. */
static u64 take_mfn_locked(struct pmap *pmap, u64 f)
{
    u64 *run = &pmap->runs[f / RUN_PAGES];
    if (*run == NO_RUN) {
        ensure(pmap->next_mfn + RUN_PAGES <= pmap->n_machine - DEVICE_PAGES);
        *run = pmap->next_mfn + 1;
        pmap->next_mfn += RUN_PAGES;
    }
    pmap->allocated++;
    return *run - 1 + f % RUN_PAGES;
}

/* The host brings the neighbours of the first page touched among AROUND in one go: an eighth
 * less processor time for a guest that touches fresh memory. Under the lock. */
static void populate_around(struct pmap *pmap, u64 f, u64 mfn)
{
    u64 first = align_down(f, AROUND), end = first + AROUND;
    for (u64 g = first; g < end && g < pmap->n_frames; g++)
        if (g != f && atomic_load(&pmap->entries[g]) & PMAP_PRESENT)
            return;
    /* Where the host cannot do it (before Linux 5.14), each page comes when it is touched. */
    madvise(pmap->base + (mfn - (f - first)) * PAGE_SIZE, AROUND * PAGE_SIZE,
            MADV_POPULATE_WRITE);
}

static u64 make_present(struct pmap *pmap, u64 f)
{
    pthread_mutex_lock(&pmap->lock);
    u64 entry = atomic_load(&pmap->entries[f]);
    if (!(entry & PMAP_PRESENT)) {
        u64 bits = take_mfn_locked(pmap, f) << PAGE_SHIFT | PMAP_PRESENT;
        entry = atomic_fetch_or(&pmap->entries[f], bits) | bits;
        populate_around(pmap, f, entry >> PAGE_SHIFT);
    }
    pthread_mutex_unlock(&pmap->lock);
    return entry;
}

void *pmap_page(struct pmap *pmap, struct gfn f)
{
    if (unlikely(f.v >= pmap->n_frames))
        return NULL;
    u64 entry = atomic_load_explicit(&pmap->entries[f.v], memory_order_acquire);
    if (unlikely(!(entry & PMAP_RAM)))
        return NULL;
    if (unlikely(!(entry & PMAP_PRESENT)))
        entry = make_present(pmap, f.v);
    u8 *page = pmap->base + (entry & PAGE_MASK);
    return unlikely(color_taken((u64)page)) ? page + pmap->other : page;
}

static void punch(const struct pmap *pmap, u64 first_mfn, u64 count)
{
    /* It can fail only for want of memory for the host's own tables; the pages then stay. */
    if (count && fallocate(pmap->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)(first_mfn * PAGE_SIZE), (off_t)(count * PAGE_SIZE)) < 0)
        return;
}

/* Takes the frame's machine page; also one that is there for a neighbour's sake only. */
static u64 release_locked(struct pmap *pmap, u64 f)
{
    u64 entry = atomic_load(&pmap->entries[f]), run = pmap->runs[f / RUN_PAGES];
    if (run == NO_RUN || entry & (PMAP_ROM | PMAP_FIXED))
        return NO_MFN;
    if (entry & PMAP_PRESENT) {
        atomic_fetch_and(&pmap->entries[f], ~(PMAP_PRESENT | PAGE_MASK));
        atomic_fetch_or(&pmap->entries[f], PMAP_DIRTY);
        pmap->allocated--;
    }
    return run - 1 + f % RUN_PAGES;
}

void pmap_release(struct pmap *pmap, struct gfn first, u64 count)
{
    u64 run_mfn = 0, run = 0; /* machine pages in a row, not punched out yet */
    if (first.v >= pmap->n_frames)
        return;
    if (count > pmap->n_frames - first.v)
        count = pmap->n_frames - first.v;
    pthread_mutex_lock(&pmap->lock);
    for (u64 f = first.v; f < first.v + count; f++) {
        u64 mfn = release_locked(pmap, f);
        if (mfn == NO_MFN)
            continue;
        if (mfn != run_mfn + run) {
            punch(pmap, run_mfn, run);
            run_mfn = mfn;
            run = 0;
        }
        run++;
    }
    punch(pmap, run_mfn, run);
    pthread_mutex_unlock(&pmap->lock);
}

int pmap_file(const struct pmap *pmap)
{
    return pmap->fd;
}

u64 pmap_file_offset(const struct pmap *pmap, const void *page)
{
    u64 offset = (u64)((const u8 *)page - pmap->base);
    return offset < pmap->other ? offset : offset - pmap->other;
}

bool pmap_set_rom(struct pmap *pmap, struct gpa addr, u64 len, bool rom)
{
    ensure(addr.v % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && addr.v + len <= 4 * GiB);
    for (u64 f = addr.v / PAGE_SIZE; f < (addr.v + len) / PAGE_SIZE; f++) {
        bool was_ram = pmap_flags(pmap, gfn(f)) & PMAP_RAM;
        u64 run = pmap->runs[f / RUN_PAGES];
        if (!was_ram && run == NO_RUN &&
            pmap->next_mfn + RUN_PAGES > pmap->n_machine - DEVICE_PAGES)
            return false;
        pmap_set_flags(pmap, gfn(f), rom ? PMAP_RAM | PMAP_ROM : PMAP_RAM, rom ? 0 : PMAP_ROM);
    }
    return true;
}

void pmap_set_hole(struct pmap *pmap, struct gpa addr, u64 len)
{
    ensure(addr.v % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && addr.v + len <= 4 * GiB);
    for (u64 f = addr.v / PAGE_SIZE; f < (addr.v + len) / PAGE_SIZE; f++) {
        ensure(!(pmap_flags(pmap, gfn(f)) & PMAP_PRESENT));
        pmap_set_flags(pmap, gfn(f), 0, PMAP_RAM);
    }
}

bool pmap_device_memory(struct pmap *pmap, void *at, u64 len, u64 *offset)
{
    ensure(!(((u64)at | len) & ~PAGE_MASK));
    if (len / PAGE_SIZE > pmap->n_machine - pmap->device_mfn)
        return false;
    *offset = pmap->device_mfn * PAGE_SIZE;
    if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, pmap->fd,
             (off_t)*offset) == MAP_FAILED)
        return false;
    pmap->device_mfn += len / PAGE_SIZE;
    return true;
}

bool pmap_show_device(struct pmap *pmap, struct gpa addr, u64 len, u64 offset)
{
    u64 first = addr.v / PAGE_SIZE, count = len / PAGE_SIZE;
    if (first + count > pmap->n_frames)
        return false;
    for (u64 f = first; f < first + count; f++)
        if (atomic_load(&pmap->entries[f]))
            return false;
    for (u64 i = 0; i < count; i++)
        atomic_store(&pmap->entries[first + i], (offset + i * PAGE_SIZE) | PMAP_PRESENT |
                                                    PMAP_RAM | PMAP_DIRTY | PMAP_FIXED);
    return true;
}

void pmap_hide_device(struct pmap *pmap, struct gpa addr, u64 len)
{
    for (u64 f = addr.v / PAGE_SIZE; f < (addr.v + len) / PAGE_SIZE; f++)
        atomic_store(&pmap->entries[f], 0);
}

void pmap_clear_device(struct pmap *pmap, u64 offset, u64 len)
{
    punch(pmap, offset / PAGE_SIZE, len / PAGE_SIZE);
}

u64 pmap_allocated(const struct pmap *pmap)
{
    return pmap->allocated * PAGE_SIZE;
}
