// SPDX-License-Identifier: BSD-2-Clause
/*
 * The log of the guest's Linux kernel (5.10 or newer, x86-64), read from guest memory: the guest
 * does nothing for it, and need have no driver. Any thread, one at a time; the guest may run.
 *
 * All of it is the guest's word: a hostile guest can write any log, but each look has a bounded
 * cost, and the text is safe for a terminal. Memory that the guest never touched is not touched.
 */
#ifndef SKEP_KLOG_H
#define SKEP_KLOG_H

#include <stdint.h>
#include <stdio.h>

#include "kvm/gmem.h"

struct klog {
	const struct gmem *mem;
	gpa_t found;	 /* the page that describes the log; 0: not found yet */
	uint64_t search; /* how much of RAM has been searched for it, in bytes */
};

#define KLOG_CALLER 16u

struct klog_record {
	uint64_t seq;		  /* the kernel's number of it; some may miss */
	uint64_t ns;		  /* since the kernel began */
	unsigned level;		  /* 0 (emergency) to 7 (debug) */
	char caller[KLOG_CALLER]; /* "T1", "C0": the task or CPU, where the kernel tells */
	const char *text; /* cleaned by text_clean() but for the newlines between its lines */
};

struct klog_page {
	struct klog_record *record; /* oldest first */
	size_t num;
	uint64_t next; /* the number after the last one that was looked at ... */
	uint64_t end;  /* ... and that of the next message that the kernel will write */
	char *text;
};

/* Which records. What is read ends after `bytes` of text, for which each record counts some more. */
#define KLOG_NEWEST UINT64_MAX
struct klog_range {
	uint64_t from; /* the first record's number; KLOG_NEWEST: the newest that fit in `bytes` */
	size_t bytes, records; /* at most KLOG_MAX_BYTES; 0 records: as many as fit */
};
#define KLOG_MAX_BYTES 65536u

/*
 * Reads records; to be freed with klog_page_free() in either case. -ENOENT: no log was found, which
 * is no Linux kernel of the kind, or one that has just begun; the next call searches on where this
 * one stopped, in memory of much more than 4 GiB. -EBADMSG: what was found is damaged. -ENOMEM.
 */
int klog_read(struct klog *log, const struct klog_range *range, struct klog_page *ret);
void klog_page_free(struct klog_page *page);

/* Prints a record as dmesg(1) does, each of its lines: "[    1.234567] text". The text may be another
 * process's: it is cleaned. */
void klog_print(const struct klog_record *record, FILE *out);

#endif
