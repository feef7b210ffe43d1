// SPDX-License-Identifier: BSD-2-Clause
/*
 * Kernels that are neither Linux nor the payload: they look at how they were entered, and power off.
 * What is not as it should be is a triple fault: there is no interrupt table.
 */
#include <asm/processor-flags.h>

#define SLEEP_CONTROL 0x600
#define POWER_OFF 0x34
#define START_INFO_MAGIC 0x336ec578
#define NR_MODULES 12
#define RTC_INDEX 0x70
#define RTC_DATA 0x71
#define RTC_STATUS_A 0x0a
#define RTC_UIP 0x80

/* struct boot_params */
#define HEADER_MAGIC 0x53726448
#define HDR_HEADER 0x202
#define HDR_CMD_LINE_PTR 0x228
#define HDR_CMDLINE_SIZE 0x238

	.text
	.globl bare_entry
bare_entry:
#ifdef BARE_PVH
	/* As Nanos does: the first call comes before there is a stack of one's own. */
	.code32
	call entered_with
	/* The PVH boot ABI (xen/docs/misc/pvh.pandoc). */
	cmpl $START_INFO_MAGIC, (%ebx)
	jne wrong
	cmpl $0, NR_MODULES(%ebx) /* an initrd makes it fail, in silence */
	jne wrong
	mov %cr0, %eax
	cmp $(X86_CR0_PE | X86_CR0_ET), %eax
	jne wrong
	mov %cr4, %eax
	test %eax, %eax
	jnz wrong
	pushf
	pop %eax
	test $(X86_EFLAGS_VM | X86_EFLAGS_IF | X86_EFLAGS_TF), %eax
	jnz wrong
#else
	/* As Unikraft does: Linux's protocol, and the command line's length where its limit is. */
	.code64
	cmpl $HEADER_MAGIC, HDR_HEADER(%rsi)
	jne wrong
	mov HDR_CMD_LINE_PTR(%rsi), %edi
	xor %eax, %eax
	mov $-1, %ecx
	repne scasb
	not %ecx
	dec %ecx
	cmp HDR_CMDLINE_SIZE(%rsi), %ecx
	jne wrong
#endif
	/* The time, which there is no clock to ask for. */
1:	mov $RTC_STATUS_A, %al
	out %al, $RTC_INDEX
	in $RTC_DATA, %al
	test $RTC_UIP, %al
	jnz 1b
	mov $SLEEP_CONTROL, %edx
	mov $POWER_OFF, %al
	out %al, %dx
wrong:	ud2
entered_with:
	ret

#ifdef BARE_PVH
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long bare_entry
#endif
	.section .note.GNU-stack, "", @progbits
