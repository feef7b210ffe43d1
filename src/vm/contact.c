// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. A guest that shows nothing leaves its user with a blank terminal, and
 * one that dies before it has a console with no reason. But its kernel's log is in memory that is
 * ours. So after some seconds of silence, and at a bad end, what is known is said.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "inside.h"

/* When a guest is silent at these times since it began, it is spoken of. */
static const uint64_t times_s[] = {5, 15, 60};

#define LAST_RECORDS 100u

/* The last thing that the kernel said, in one line; empty: nothing is known. */
static void last_message(struct vm *vm, struct error *ret)
{
	struct klog_range last = {KLOG_NEWEST, KLOG_MAX_BYTES, 1};
	struct klog_page page;

	if (klog_read(&vm->klog, &last, &page) == 0 && page.num) {
		error_set(ret, 0, "; its kernel's last message: [%llu.%06llu] %.300s",
			  page.record->ns / NSEC_PER_SEC, page.record->ns % NSEC_PER_SEC / 1000,
			  page.record->text);
		for (char *p = ret->msg; (p = strchr(p, '\n'));)
			*p = ' ';
	} else {
		error_set(ret, 0, "; no log of a Linux kernel is in its memory");
	}
	klog_page_free(&page);
}

static void on_silence(struct loop_timer *t)
{
	struct vm *vm = container_of(t, struct vm, contact);
	uint64_t now = now_ns() - vm->asked.started_ns;
	struct error message = {""};
	struct guest_voice voice;

	devices_voice(vm, &voice);
	if (voice.spoke || !voice.silence)
		return;
	last_message(vm, &message);
	log_notice("the guest has shown nothing for %llu s: %s; it used %llu %% of a CPU%s",
		   now / NSEC_PER_SEC, voice.silence,
		   (unsigned long long)(100 * machine_cpu_time(&vm->machine) / now), message.msg);
	if (++vm->contacts < ARRAY_SIZE(times_s))
		loop_timer_set(t,
			       (times_s[vm->contacts] - times_s[vm->contacts - 1]) * NSEC_PER_SEC);
}

int contact_open(struct vm *vm, struct error *e)
{
	struct guest_voice voice;
	int r;

	vm->klog.mem = &vm->mem;
	devices_voice(vm, &voice);
	r = voice.awaited ? loop_timer_init(vm->control, &vm->contact, on_silence) : 0;
	return r < 0 ? error_set(e, r, "cannot make a timer: %s", strerror(-r)) : 0;
}

void contact_begin(struct vm *vm)
{
	if (vm->contact.watch.fd >= 0)
		loop_timer_set(&vm->contact, times_s[0] * NSEC_PER_SEC);
}

void contact_collect(struct vm *vm)
{
	struct vm_result *result = vm->result;
	struct klog_range last = {KLOG_NEWEST, KLOG_MAX_BYTES, LAST_RECORDS};
	struct klog log =
		vm->klog; /* the guard does not wait for the control loop to be done with it */
	struct guest_voice voice;

	if (result->end == VM_POWER_OFF || result->end == VM_REBOOT ||
	    klog_read(&log, &last, &result->kernel_log) < 0)
		return;
	devices_voice(vm, &voice);
	/* Who ends a VM that speaks, to whomever, asks for no reason. */
	result->log_is_news = result->kernel_log.num && !(voice.spoke && voice.shown) &&
			      !(voice.spoke && result->end == VM_STOPPED);
}
