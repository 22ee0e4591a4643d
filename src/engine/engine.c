/* The engines of this build and the choice among them, see engine.h. */
#include "engine/engine.h"

#include <string.h>

#include "base/ensure.h"

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

bool engine_exchange(struct vcpu *vcpu, const struct engine *engine, struct error *err)
{
    const struct engine *old = vcpu->engine;
    struct error again;
    old->detach(vcpu);
    vcpu->engine = engine;
    bool attached = engine->attach(vcpu, err);
    if (!attached) {
        vcpu->engine = old;
        ensure(old->attach(vcpu, &again));
    }
    return attached;
}

const struct engine *engine_first_working(struct error *why)
{
    for (unsigned i = 0; i < n_engines; i++) {
        if (engines[i]->probe(why))
            return engines[i];
    }
    return NULL;
}
