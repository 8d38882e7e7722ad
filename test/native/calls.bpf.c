// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts the calls of a function of a program, and its returns. TARGET is the program's path. */
#include "count.h"

SEC("uprobe/" TARGET ":probed_function")
int on_call(void *ctx)
{
	count_event(0);
	return 0;
}

SEC("uretprobe/" TARGET ":probed_function")
int on_return(void *ctx)
{
	count_event(1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
