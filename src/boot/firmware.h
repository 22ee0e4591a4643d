/*
 * How a machine starts with firmware: an image ends at 4 GiB, where the reset vector is
 * (SDM vol. 3, 9.1.4), and what a PC shows of it below 1 MiB is the host bridge's affair
 * (device/pam.h).
 */
#pragma once

#include "boot/boot.h"

#define FIRMWARE_MAX (8 * MiB)

/* Maps the image as ROM below 4 GiB. False: its size is no multiple of 4 KiB up to
 * FIRMWARE_MAX. While no vCPU of the board runs. */
bool firmware_map(struct board *board, const struct boot_image *image, struct error *err);
