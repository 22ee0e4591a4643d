/*
 * What is plugged into the PC besides the board's own devices: disks, networks and other virtio
 * devices, each with its back end on the host.
 *
 * Threads: made and destroyed by the VM's main thread.
 */
#pragma once

#include "device/gsi.h"
#include "device/isa_dma.h"
#include "device/pci.h"
#include "device/virtio/p9.h"
#include "host/block/back.h"
#include "host/char/char.h"
#include "host/loop.h"
#include "host/net/net.h"
#include "host/share/share.h"
#include "machine/disk_geometry.h"
#include "platform/board.h"
#include "platform/tray.h"

#define PLUGS_MAX_DISKS   16
#define PLUGS_MAX_NETS    8
#define PLUGS_IDE_UNITS   4
#define PLUGS_FLOPPIES    2
#define PLUGS_FLASHES     2
#define PLUGS_ANY_UNIT    ~0u
#define PLUGS_MAX_LINES   16
#define PLUGS_MAX_SHARES  8
#define PLUGS_MAX_DEVICES 26 /* what a bus of 32 slots has room for, with some left */

/* A -drive: an image, which a device may use, or a drive that is empty. Strings must live as
 * long as the VM. */
struct disk_config {
    char id[64];        /* "": none */
    char path[4096];    /* "": no medium */
    char serial[64];    /* "": none */
    const char *option; /* that named it, for messages */
    struct image_config image;
    enum block_action on_read, on_write; /* when it fails: rerror=, werror= */
    bool used;                           /* a device has it */
};

/* A -netdev, which a device may use. */
struct network_config {
    struct net_config net;
    bool used; /* a device has it */
};

/* A -chardev, which a device or a monitor may use, or the line that -serial makes. */
struct line_config {
    char id[64];
    struct char_config back;
    unsigned users; /* one, or CHAR_MAX_PORTS of a mux */
};

/* A -fsdev, or what -virtfs makes: a directory that a device may show to the guest. */
struct share_config {
    char id[64];
    char path[4096];
    char tag[VIRTIO_P9_MAX_TAG + 1];
    struct p9_config p9;
    bool used; /* a device has it */
};

enum plug_kind {
    PLUG_BLK,
    PLUG_IDE,
    PLUG_IDE_CD,
    PLUG_FLOPPY,
    PLUG_FLASH,
    PLUG_NET,
    PLUG_P9,
    PLUG_RNG,
    PLUG_BALLOON,
    PLUG_CONSOLE,
    PLUG_DEBUG,
    PLUG_TESTDEV,
    PLUG_PCI_TESTDEV
};

/* A -device. */
struct plug_config {
    enum plug_kind kind;
    char id[64];    /* "": none */
    int slot;       /* on the bus, or -1 */
    int boot_index; /* firmware tries the lowest first; -1: in no place */
    /* PLUG_IDE*: channel * 2 + drive; PLUG_FLOPPY: 0 is A:; PLUG_FLASH: 0 ends at 4 GiB */
    unsigned unit;
    unsigned disk;   /* of a disk: which */
    unsigned queues; /* PLUG_BLK; 0: as many as is good */
    bool packed;     /* PLUG_BLK, PLUG_NET: packed virtqueues are offered */
    unsigned net;    /* PLUG_NET: which of the networks */
    unsigned share;  /* PLUG_P9: which of the shares */
    u16 port;        /* PLUG_DEBUG */
    u8 mac[6];       /* PLUG_NET */
    char rom[256];   /* PLUG_NET: an option ROM to start from; "": none */
    bool rom_given;  /* by the user, even if none */
    unsigned line;   /* PLUG_CONSOLE, PLUG_DEBUG: which of the character back ends */
    bool deflate_on_oom, free_page_reporting; /* PLUG_BALLOON */
    u16 mtu;                                  /* PLUG_NET; 0: the driver chooses */
};

struct plugs_config {
    struct disk_config disks[PLUGS_MAX_DISKS];
    unsigned n_disks;
    struct network_config nets[PLUGS_MAX_NETS];
    unsigned n_nets;
    struct line_config lines[PLUGS_MAX_LINES];
    unsigned n_lines;
    struct share_config shares[PLUGS_MAX_SHARES];
    unsigned n_shares;
    unsigned n_cards; /* PLUG_NETs with an address of our choice */
    struct plug_config devices[PLUGS_MAX_DEVICES];
    unsigned n_devices;
};

/* What a disk's failures were, for the main thread; the last one counts. */
struct disk_failure {
    struct plugs *plugs;
    bool pending; /* under the board lock, with `what` */
    struct block_failure what;
};

/* A tray that has moved, for the main thread. */
struct disk_tray {
    struct plugs *plugs;
    struct tray *tray;  /* NULL: the drive's medium is fixed */
    bool pending, open; /* under the board lock */
};

struct plugs {
    /* Called under the board lock from any thread when disk_failures or trays have something
     * new. */
    void (*disk_changed)(void *opaque);
    void *opaque;
    struct disk_failure disk_failures[PLUGS_MAX_DISKS];
    struct disk_tray trays[PLUGS_MAX_DISKS];
    struct block_back *disks[PLUGS_MAX_DISKS];
    struct disk_geometry
        hard_disks[DISK_GEOMETRY_DRIVES]; /* IDE's, as they were at the start */
    struct net_back *nets[PLUGS_MAX_NETS];
    struct char_back *lines[PLUGS_MAX_LINES];
    struct share_back *shares[PLUGS_MAX_SHARES];
    struct virtio_balloon *balloon; /* or NULL */
    struct virtio_net *cards[PLUGS_MAX_DEVICES];
    int slot[PLUGS_MAX_DEVICES]; /* on the PCI bus, of those that are there */
    u8 *rom[PLUGS_MAX_DEVICES];  /* as read, or NULL */
    u64 rom_size[PLUGS_MAX_DEVICES];
};

/* Opens the lines; the disks and networks. False: *err says why; plugs_close takes what there
 * is. */
bool plugs_open_lines(struct plugs *plugs, const struct plugs_config *config,
                      struct board *board, struct loop *loop, const struct char_keys *keys,
                      struct error *err);
bool plugs_open(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                struct loop *loop, struct error *err);
/* The other end of a line, for one more user; NULL: it takes no more. */
struct chardev *plugs_line(struct plugs *plugs, unsigned line);
/* Waits until no disk has anything under way, and gives the devices their answers. Under the
 * board lock. */
void plugs_drain(struct plugs *plugs);
/* After the devices are gone. */
void plugs_close(struct plugs *plugs);

/* Makes the devices. Under the board lock. */
bool plugs_create(struct plugs *plugs, const struct plugs_config *config, struct board *board,
                  struct pci_host *pci, struct gsi *gsi, struct isa_dma *dma,
                  struct error *err);

/* What CMOS memory says of the floppy drives: A: in bits 7:4, B: in 3:0. */
u8 plugs_floppy_types(const struct plugs *plugs, const struct plugs_config *config);

/*
 * The order in which firmware tries the devices, as SeaBIOS reads it ("bootorder": Open
 * Firmware paths, one a line): at most `size` bytes with the final NUL. Returns the length, 0
 * when nobody asked for a place.
 */
size_t plugs_boot_order(const struct plugs *plugs, const struct plugs_config *config,
                        char *text, size_t size);
