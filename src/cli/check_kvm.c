// SPDX-License-Identifier: BSD-2-Clause
/* What KVM offers, and how fast guest kernel code runs. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/util.h"
#include "check.h"
#include "config/config.h"
#include "kvm/machine.h"
#include "kvm/speed.h"

static bool check_version(struct check_report *report, int kvm_fd)
{
	int version;

	if (kvm_fd < 0) {
		check_add(report, "kvm", CHECK_FAILED, machine_open_remedy(errno), "/dev/kvm: %m");
		return false;
	}
	version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		check_add(report, "kvm", CHECK_FAILED, "use a newer Linux kernel",
			  "/dev/kvm has API version %d, not %d", version, KVM_API_VERSION);
		return false;
	}
	check_add(report, "kvm", CHECK_OK, NULL, "/dev/kvm, API version %d", version);
	return true;
}

static bool check_caps(struct check_report *report, int kvm_fd)
{
	bool all = true;
	int max;

	for (const struct machine_cap *cap = machine_caps; cap->name; cap++) {
		bool has = ioctl(kvm_fd, KVM_CHECK_EXTENSION, cap->cap) > 0;

		if (has)
			check_add(report, cap->name, CHECK_OK, NULL, "%s", cap->what);
		else if (cap->required)
			check_add(report, cap->name, CHECK_FAILED,
				  "use Linux " MACHINE_MIN_LINUX " or newer as the host's kernel",
				  "missing: %s", cap->what);
		else
			check_add(report, cap->name, CHECK_ABSENT, NULL, "not available: no %s",
				  cap->what);
		all = all && (has || !cap->required);
	}
	max = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (max <= 0)
		max = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	report->max_vcpus = max > 0 ? (unsigned)max : 4; /* Documentation/virt/kvm/api.rst, 4.7 */
	check_add(report, "vcpus", CHECK_OK, NULL, "up to %u in a VM, of which skep uses %u",
		  report->max_vcpus, MIN(report->max_vcpus, CONFIG_MAX_CPUS));
	return all;
}

static void check_speed(struct check_report *report, double ns, unsigned exit_reason)
{
	report->ns_per_instruction = ns;
	if (ns == 0) {
		check_add(report, "kvm-speed", CHECK_FAILED,
			  "use a host whose processor has VT-x or SVM",
			  "this KVM cannot run guest kernel code (exit reason %u)", exit_reason);
	} else if (ns > SPEED_OF_HARDWARE) {
		check_add(report, "kvm-speed", CHECK_FAILED, SPEED_REMEDY,
			  "this KVM emulates guest kernel code (%.0f ns an instruction): Linux "
			  "does not boot",
			  ns);
	} else {
		report->kvm_accelerated = true;
		check_add(report, "kvm-speed", CHECK_OK, NULL,
			  "guest kernel code runs at hardware speed (%.2f ns an instruction)", ns);
	}
}

void check_kvm(struct check_report *report)
{
	_cleanup_close_ int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct error e = {""};
	unsigned exit_reason;
	double ns;
	int r;

	if (!check_version(report, kvm_fd))
		return;
	report->kvm_usable = check_caps(report, kvm_fd);
	if (!report->kvm_usable)
		return;
	r = speed_measure(&ns, &exit_reason, &e);
	if (r == 0) {
		check_speed(report, ns, exit_reason);
		return;
	}
	report->kvm_usable = false;
	check_add(report, "kvm-vm", CHECK_FAILED,
		  r == -EBUSY ? "end the other hypervisor that holds the processor's virtualisation"
			      : "see the kernel's log (dmesg)",
		  "%s", e.msg);
}
