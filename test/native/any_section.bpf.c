/* SPDX-License-Identifier: GPL-2.0 */
/* A program that every program type accepts, in a section whose name the test chooses. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

SEC(SECTION)
int any_section(void *context)
{
	return 0;
}
