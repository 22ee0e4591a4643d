/* The engines of this build and the choice among them, see engine.h. */
#include "engine/engine.h"

#include <string.h>

/* direct is asked for by name: sim, which works everywhere, ends the choice before it. */
const struct engine *const engines[] = {&bt_engine, &sim_engine, &direct_engine};
const unsigned n_engines = ARRAY_LEN(engines);

const struct engine *engine_named(const char *name)
{
    for (unsigned i = 0; i < n_engines; i++) {
        if (!strcmp(engines[i]->name, name))
            return engines[i];
    }
    return NULL;
}

const struct engine *engine_first_working(struct error *why)
{
    for (unsigned i = 0; i < n_engines; i++) {
        if (engines[i]->probe(why))
            return engines[i];
    }
    return NULL;
}
