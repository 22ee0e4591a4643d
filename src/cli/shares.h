/* The options that show directories of the host to the guest. */
#pragma once

#include "cli/options.h"
#include "cli/words.h"

/* -virtfs local,path=P,mount_tag=T,security_model=M: a directory and its device in one */
bool shares_add_virtfs(struct run_options *options, const char *value, struct error *err);
/* -fsdev local,id=ID,path=P,security_model=M */
bool shares_add_fsdev(struct run_options *options, const char *value, struct error *err);
/* -device virtio-9p-pci,fsdev=ID,mount_tag=T */
bool shares_property(struct run_options *options, struct plug_config *plug,
                     const struct word *word, struct error *err);
bool shares_check(struct run_options *options, struct plug_config *plug, struct error *err);
