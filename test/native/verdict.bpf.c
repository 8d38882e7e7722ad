/* SPDX-License-Identifier: GPL-2.0 */
/* Counts packets and returns what its map says. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __s32);
} verdict SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("tc")
int tc_verdict(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&seen, &key);
	__s32 *value = bpf_map_lookup_elem(&verdict, &key);

	/* Other packets than UDP over IPv4 pass everything. */
	if (skb->protocol != __builtin_bswap16(0x0800))
		return -1;
	if (count)
		__sync_fetch_and_add(count, 1);
	return value ? *value : -1;
}
