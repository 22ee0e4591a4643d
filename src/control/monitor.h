/*
 * One monitor: a conversation, in QMP or in text, with whoever is at the other end of a line.
 * Input is taken as it comes and worked on by the loop, a command at a time; while the other
 * end does not read its answers, no more commands are taken.
 */
#pragma once

#include "control/control.h"

struct monitor;

struct monitor *monitor_create(struct control *control, const struct monitor_config *config,
                               struct chardev *line);
void monitor_destroy(struct monitor *monitor);

/* For QMP's clients; `event` is borrowed. */
void monitor_event(struct monitor *monitor, const json_t *event);
