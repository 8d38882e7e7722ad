/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * For markers with two entry functions and two slots, to test changes that a package makes to a program without a new
 * version. A packet continues through the slot that the agent has set.
 */
#pragma once

#include "chain.h"

CHAIN_SLOT(mark_next_too);

#define CHAIN_NEXT_OF_PAIR(ctx)                                                                                        \
	do {                                                                                                           \
		CHAIN_NEXT(ctx, mark_next);                                                                            \
		CHAIN_NEXT(ctx, mark_next_too);                                                                        \
	} while (0)
