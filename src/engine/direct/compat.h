/*
 * User code of a 64-bit kernel in compatibility mode (SDM vol. 3, 3.4.5), in narrow cells.
 *
 * Such code sees selectors and can load them, so a cell must hold those that the guest does.
 * The host's descriptors are Linux's: 23H and 33H for code, 2BH for data, and three places for
 * thread-local segments, 63H, 6BH and 73H, to which set_thread_area gives a base. So 32-bit
 * code runs directly where the guest's table has the same, as each 64-bit Linux has, and
 * otherwise stays with the translator: all user code of a 32-bit Linux too, whose 73H and 7BH
 * no process of a 64-bit host can have for code and stack.
 *
 * A thread-local place in the host's table is as the guest's, or empty, so that loading it
 * faults and the simulator does it.
 */
#pragma once

#include "engine/direct/cell.h"
#include "memory/pmap.h"

/*
 * What the guest's descriptor table has in the host's thread-local places, to tls[TLS_MAX].
 * False: the table is not like the host's, or FS or GS holds what is not there any more.
 */
bool compat_read_tls(struct x86_cpu *c, struct pmap *pmap, struct tls *tls);

/* Are the six segment registers, of 32-bit code, such as a narrow cell can have? */
bool compat_has_segments(const struct x86_seg *seg);

/* The segment registers as a cell reports them: what user code loaded by itself gets what the
 * guest's own table says. Derives the mode. */
void compat_take(struct x86_cpu *c, const struct stop *stop);
