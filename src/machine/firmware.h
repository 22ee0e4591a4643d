/*
 * What a machine and its firmware have to do with each other: the image, and what firmware is
 * told about the machine through fw_cfg and CMOS memory, as SeaBIOS reads them (SeaBIOS,
 * docs/Runtime_config.md, src/fw/paravirt.c).
 */
#pragma once

#include "machine/kernel.h"
#include "machine/pc.h"

struct firmware_files;

/* Reads the image and maps it. */
bool firmware_open(const char *path, struct board *board, struct error *err);

/* Reads an option ROM; file_release takes it. False: *err names the option. */
bool firmware_read_rom(const char *path, const char *option, u8 **rom, u64 *size,
                       struct error *err);

/* Fills fw_cfg and CMOS, without firmware only with what the user gave; with it and `kernel`
 * one is to be added, which it starts. What is returned must outlive the fw_cfg device. All
 * other devices of the board are there. NULL: *err says why not. Under the board lock. */
struct firmware_files *firmware_files_create(struct pc *pc, struct board *board,
                                             const struct vm_config *config,
                                             const struct plugs *plugs, bool kernel,
                                             struct error *err);
/* The kernel that firmware starts; false: *err says what is wrong with it. Under that lock. */
bool firmware_add_kernel(struct firmware_files *files, const struct kernel *kernel,
                         struct error *err);
/* Before each start: the order in CMOS memory, which -boot once= changes for the first. */
void firmware_start(struct pc *pc, const struct vm_config *config, bool first);
/* After the reset that ends S3: the shutdown status in CMOS memory says so. */
void firmware_wake(const struct pc *pc);
void firmware_files_destroy(struct firmware_files *files);
