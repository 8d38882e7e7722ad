/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a program takes its place in a chain.
 *
 * A chain is a root and, after it, programs joined by tail calls. Each has a slot: a PROG_ARRAY with one entry that the
 * agent fills with the successor. A tail call into an empty slot simply returns, so that the last program needs to know
 * nothing about being last: it falls through to CHAIN_END_XDP or CHAIN_END_TC.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

/* What a chain answers at its end when no program of it has decided otherwise. */
#define CHAIN_END_XDP XDP_PASS

/*
 * "No opinion", and not TC_ACT_OK, which would end the packet's classification and bypass whatever hangs behind us:
 *
 *   TCX     TC_ACT_UNSPEC is TCX_NEXT: the next TCX program runs, after the last one the clsact filters
 *           (tcx_run() and sch_handle_ingress() in the kernel's net/core/dev.c)
 *   clsact  a direct-action filter that returns TC_ACT_UNSPEC hands on to the next filter
 *           (cls_bpf_classify() in net/sched/cls_bpf.c)
 *
 * Where nobody is behind us, both let the packet pass.
 */
#define CHAIN_END_TC TC_ACT_UNSPEC

#define CHAIN_SLOT(slot_name)                                                                                          \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__uint(key_size, sizeof(__u32));                                                                       \
		__uint(value_size, sizeof(__u32));                                                                     \
	} slot_name SEC(".maps")

/* Runs the successor and does not come back, unless the slot is empty. */
#define CHAIN_NEXT(ctx, slot_name) bpf_tail_call((ctx), &(slot_name), 0)
