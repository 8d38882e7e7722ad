/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a program becomes part of a chain.
 *
 * A chain is a root and the programs behind it, joined by tail calls. Each has a slot: a PROG_ARRAY with one entry that
 * the agent sets to the next program. A tail call into an empty slot simply returns. So the last program does not have
 * to know that it is the last: it falls through to CHAIN_END_XDP, CHAIN_END_TC or CHAIN_END_CGROUP_SKB.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

/* What a chain returns at its end if none of its programs has decided otherwise. */
#define CHAIN_END_XDP XDP_PASS

/*
 * "No opinion", and not TC_ACT_OK, which would end the packet's classification and bypass all programs and filters
 * behind us:
 *
 *   TCX     TC_ACT_UNSPEC is TCX_NEXT: the next TCX program runs, after the last one the clsact filters
 *           (tcx_run() and sch_handle_ingress() in the kernel's net/core/dev.c)
 *   clsact  after a direct-action filter that returns TC_ACT_UNSPEC, the next filter runs
 *           (cls_bpf_classify() in net/sched/cls_bpf.c)
 *
 * If nothing is behind us, both let the packet pass.
 */
#define CHAIN_END_TC TC_ACT_UNSPEC

/* The packet passes, unless another program at this control group, or at one above it, drops it. */
#define CHAIN_END_CGROUP_SKB 1

#define CHAIN_SLOT(slot_name)                                                                                          \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__uint(key_size, sizeof(__u32));                                                                       \
		__uint(value_size, sizeof(__u32));                                                                     \
	} slot_name SEC(".maps")

/* Runs the next program and does not return, unless the slot is empty. */
#define CHAIN_NEXT(ctx, slot_name) bpf_tail_call((ctx), &(slot_name), 0)
