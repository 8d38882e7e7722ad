/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * For markers that can begin in either of two functions and go on by either of two slots: for changes that a package
 * makes to a program without giving it another version. Whichever slot the agent fills is the one by which a packet
 * goes on.
 */
#pragma once

#include "chain.h"

CHAIN_SLOT(mark_next_too);

#define CHAIN_NEXT_OF_PAIR(ctx)                                                                                        \
	do {                                                                                                           \
		CHAIN_NEXT(ctx, mark_next);                                                                            \
		CHAIN_NEXT(ctx, mark_next_too);                                                                        \
	} while (0)
