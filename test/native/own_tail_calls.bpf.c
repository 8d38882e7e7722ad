/* SPDX-License-Identifier: GPL-2.0 */
/* A program with functions of its own that it calls by a PROG_ARRAY with initial values, some only by another function. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} own_next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&calls, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

int own_second(CONTEXT *context);
int own_third(CONTEXT *context);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int (CONTEXT *));
} inner SEC(".maps") = { .values = { [3] = (void *)&own_third } };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int (CONTEXT *));
} outer SEC(".maps") = { .values = { [1] = (void *)&own_second } };

SEC(SECTION)
int own_third(CONTEXT *context)
{
	count(2);
	bpf_tail_call(context, &own_next, 0);
	return VERDICT;
}

SEC(SECTION)
int own_second(CONTEXT *context)
{
	count(1);
	bpf_tail_call(context, &inner, 3);
	return VERDICT;
}

SEC(SECTION)
int own_first(CONTEXT *context)
{
	count(0);
	bpf_tail_call(context, &outer, 1);
	return VERDICT;
}
