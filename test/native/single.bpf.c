// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* One program in the section that SECTION names: for what a kernel may lack, and for names that mean nothing. */
#include "count.h"

SEC(SECTION)
int single(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
