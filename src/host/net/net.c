/* Choosing a network back end, see net.h. */
#include "host/net/net.h"

#include <stdlib.h>

#include "base/ensure.h"

/* -- None: a cable that ends in the air ---------------------------------------------------- */

static void none_send(void *back, const void *frame, size_t len,
                      const struct net_offload *offload)
{
}

static void none_destroy(struct net_back *back)
{
    free(back);
}

static const struct net_back_ops none_ops = {none_destroy};

static struct net_back *none_create(void)
{
    struct net_back *back = calloc(1, sizeof(*back));
    ensure(back);
    back->ops = &none_ops;
    back->port = (struct net_port){
        .send = none_send, .back = back, .sends_csum = true, .sends_tso = true};
    return back;
}

static struct net_back *create(const struct net_config *config, struct board *board,
                               struct loop *loop, struct error *err)
{
    switch (config->kind) {
    case NET_NONE:
        return none_create();
    case NET_USER:
        return net_user_create(config, board, err);
    case NET_STREAM:
        return net_stream_create(config, board, loop, err);
    case NET_TAP:
        return net_tap_create(config, board, loop, err);
    }
    ensure(!"a known kind");
    return NULL;
}

static void opened(void *opaque)
{
    struct net_port *port = opaque;
    if (port->room)
        port->room(port->back);
}

struct net_back *net_create(const struct net_config *config, struct board *board,
                            struct loop *loop, struct error *err)
{
    struct net_back *back = create(config, board, loop, err);
    if (!back)
        return NULL;
    board_lock(board);
    back->port.stopped = &board->stopped;
    board_unlock(board);
    back->board = board;
    back->gate = (struct board_gate){.opened = opened, .opaque = &back->port};
    board_add_gate(board, &back->gate);
    return back;
}

void net_destroy(struct net_back *back)
{
    if (!back)
        return;
    board_remove_gate(back->board, &back->gate);
    back->ops->destroy(back);
}
