/* The board's own life, see board.h. */
#include "platform/board.h"

#include <string.h>

#include "platform/device.h"

void board_init(struct board *board, struct log *log)
{
    memset(board, 0, sizeof(*board));
    board->log = log;
    pthread_mutex_init(&board->lock, NULL);
    pthread_mutex_init(&board->bus_lock, NULL);
    pthread_mutex_init(&board->work_lock, NULL);
    pthread_cond_init(&board->work_cond, NULL);
}

/* Last added first: a device may use those that were there before it. */
static void devices_destroy(struct device *device)
{
    if (!device)
        return;
    devices_destroy(device->next);
    if (device->class->destroy)
        device->class->destroy(device->state);
}

void board_destroy_devices(struct board *board)
{
    board_lock(board);
    devices_destroy(board->devices);
    board->devices = NULL;
    board_unlock(board);
}

void board_destroy(struct board *board)
{
    board_destroy_devices(board);
    pthread_cond_destroy(&board->work_cond);
    pthread_mutex_destroy(&board->work_lock);
    pthread_mutex_destroy(&board->bus_lock);
    pthread_mutex_destroy(&board->lock);
}

void board_close(struct board *board)
{
    board->stopped = true;
}

void board_open(struct board *board)
{
    board->stopped = false;
    for (struct board_gate *gate = board->gates; gate; gate = gate->next)
        gate->opened(gate->opaque);
}

void board_add_gate(struct board *board, struct board_gate *gate)
{
    board_lock(board);
    gate->next = board->gates;
    board->gates = gate;
    board_unlock(board);
}

void board_remove_gate(struct board *board, struct board_gate *gate)
{
    board_lock(board);
    struct board_gate **at = &board->gates;
    while (*at && *at != gate)
        at = &(*at)->next;
    if (*at)
        *at = gate->next;
    board_unlock(board);
}

void board_ask(struct board *board, enum board_request request, int exit_status)
{
    if (board->request)
        board->request(board->opaque, request, exit_status);
}
