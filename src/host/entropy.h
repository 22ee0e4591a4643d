/* The host's random numbers. */
#pragma once

#include "platform/entropy.h"

struct entropy host_entropy(void);
