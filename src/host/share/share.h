/*
 * A host directory for a guest: a thread that answers the guest's file messages, so that no
 * vCPU waits for a host's disk. The seam to the device is platform/share.h.
 *
 * What the guest has open is not part of the machine's state: a checkpoint is for machines
 * without shares.
 */
#pragma once

#include "host/share/p9.h"
#include "platform/share.h"

struct board;
struct share_back;

/* NULL: *err says why. */
struct share_back *share_create(const struct p9_config *config, struct board *board,
                                struct error *err);
/* After the device is gone. */
void share_destroy(struct share_back *back);

/* The seam to give to the device. */
struct share *share_share(struct share_back *back);
