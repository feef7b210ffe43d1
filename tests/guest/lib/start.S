// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation
 *
 * The PVH entry of a payload guest. The monitor enters here in 32-bit protected mode at privilege
 * level 0, paging off, with EBX = struct hvm_start_info.
 *
 * A software KVM may emulate level 0 instruction by instruction while level 3 runs natively. So this
 * file stays at level 0 for a few instructions only: the page tables (4 GiB identity-mapped, all of it
 * user-accessible) and the descriptor tables are data made by the assembler; what remains is to load
 * the control registers and to leave for level 3 by SYSEXIT. IRET and far RET to an outer level would
 * do on hardware, but KVM's emulator has neither; it has SYSEXIT. On AMD hardware in turn SYSEXIT is
 * undefined in long mode, so the invalid-opcode gate leads to an IRETQ that finishes the same job.
 *
 * Level 3 needs two things that are level 0's by default. Ports: IOPL is 3, and the task state segment
 * allows every port, because a software KVM loses IOPL. Interrupts: the gates (irq.c) lead to a level 3
 * code segment, so that taking one changes no privilege level and IRETQ runs natively. They are enabled
 * from the beginning (such a KVM does not see level 3's CLI either); sources are masked at the I/O APIC.
 * For what really needs level 0 there is ring0() below.
 *
 * Further CPUs start in real mode in a copy of ap_trampoline and take the same way from there.
 */

#include "kvm/x86.h"

#define MSR_SYSENTER_CS 0x174
#define APIC_LVT0 0xfee00350
#define APIC_LVT_MASKED 0x10000

/* Selectors. SYSEXIT wants its two 32 and 40 bytes after the level 0 code. */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_USER_CODE64 0x28
#define SEL_USER_DATA 0x30
#define SEL_TSS 0x38

#define PTE_TABLE (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)
#define PTE_PAGE (PTE_TABLE | PTE_DIRTY | PTE_HUGE)

/* A descriptor splits an address in a way that no relocation can express: payload.ld places the task
 * state segment there, and checks it. */
#define TSS_ADDRESS 0x106000
#define TSS_IO_BITMAP 104

	.section .tables, "aw"
	.balign 4096
pml4:	.quad pdpt + PTE_TABLE
	.fill 511, 8, 0
	.globl pdpt
pdpt:	.quad pd + PTE_TABLE
	.quad pd + 0x1000 + PTE_TABLE
	.quad pd + 0x2000 + PTE_TABLE
	.quad pd + 0x3000 + PTE_TABLE
	.fill 508, 8, 0
pd:	.set address, 0
	.rept 2048
	.quad address + PTE_PAGE
	.set address, address + 0x200000
	.endr

	.globl tss
tss:	.long 0
	.quad level0_stack_end
	.fill 90, 1, 0
	.word TSS_IO_BITMAP /* all ports are allowed */
	.fill 65536 / 8, 1, 0
	.byte 0xff
tss_end:

	/* The accessed bits are preset: nothing has to write to this table but LTR. */
	.balign 8
gdt:	.quad 0
	.quad 0x00af9b000000ffff /* 0x08 level 0 code, 64 bit */
	.quad 0x00cf93000000ffff /* 0x10 level 0 data */
	.quad 0x00cf9b000000ffff /* 0x18 level 0 code, 32 bit */
	.quad 0
	.quad 0x00affb000000ffff /* 0x28 level 3 code, 64 bit */
	.quad 0x00cff3000000ffff /* 0x30 level 3 data */
	.word tss_end - tss - 1 /* 0x38 task state */
	.word TSS_ADDRESS & 0xffff
	.byte TSS_ADDRESS >> 16 & 0xff, 0x89, 0, TSS_ADDRESS >> 24
	.quad 0
gdt_end:
	.balign 4
gdtr:	.word gdt_end - gdt - 1
	.quad gdt
	.balign 4
idtr:	.word 256 * 16 - 1
	.quad idt

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 8, 18 /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad payload_entry

	.text
	.code32
	.globl payload_entry
payload_entry:
	mov $boot_stack_end, %esp
	mov $guest_main, %edi
	mov %ebx, %esi /* start info, first argument of guest_main() */
	/* Where the monitor made a PIC and a PIT, their ticks come by this line. */
	movl $APIC_LVT_MASKED, APIC_LVT0

	/* EDI: where to go at level 3, ESI: its argument, ESP: its stack. */
enter_long_mode:
	lgdt gdtr
	mov $X86_CR4_PAE, %eax
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	xor %edx, %edx
	mov $EFER_LME, %eax
	wrmsr
	mov $(X86_CR0_PG | X86_CR0_WP | X86_CR0_PE), %eax
	mov %eax, %cr0
	ljmp $SEL_CODE64, $long_mode

	.code64
long_mode:
	lidt idtr
	mov $invalid_opcode, %eax /* the gate for SYSEXIT where there is none */
	mov %ax, idt + 6 * 16
	movl $(0x8e000000 | SEL_CODE64), idt + 6 * 16 + 2
	shr $16, %eax
	mov %ax, idt + 6 * 16 + 6
	mov $SEL_TSS, %eax
	movb $0x89, gdt + SEL_TSS + 5 /* not busy: another CPU may have loaded it */
	ltr %ax
	mov $MSR_SYSENTER_CS, %ecx
	mov $SEL_CODE64, %eax
	xor %edx, %edx
	wrmsr
	mov $(SEL_USER_DATA | 3), %eax
	mov %eax, %ds
	mov %eax, %es
	pushq $(X86_EFLAGS_IOPL | X86_EFLAGS_FIXED)
	popfq
	mov %edi, %edx
	lea -8(%rsp), %rcx /* as after a call: RSP + 8 is 16-byte aligned */
	mov %esi, %edi
	/* STI's shadow: no interrupt is taken before level 3 runs. */
	sti
	sysexitq

	/* Invalid opcode, at level 0. From level 0 it is SYSEXIT on AMD: leave by IRETQ. From level 3 it is
	 * ring0()'s call, or a real one. */
invalid_opcode:
	testb $3, 8(%rsp)
	jnz 1f
	mov %rdx, (%rsp)
	movq $(SEL_USER_CODE64 | 3), 8(%rsp)
	mov %rcx, 24(%rsp)
	movq $(SEL_USER_DATA | 3), 32(%rsp)
	iretq
1:	cmpq $ring0_call, (%rsp)
	je ring0_entry
	mov (%rsp), %r8
	mov 24(%rsp), %rcx
	and $-16, %rcx
	sub $8, %rcx
	mov $2f, %edx
	sti
	sysexitq
2:	mov $6, %edi /* level 3: exception_report(vector, error, address) */
	xor %esi, %esi
	mov %r8, %rdx
	jmp exception_report

	/* uint64_t ring0(op, a, b) at level 3, and its other half at level 0. SYSCALL would be the way, but
	 * a software KVM does not change the level by it; it does by an exception. */
	.globl ring0
ring0:
	mov %rdi, %rax
	mov %rsi, %rdi
	mov %rdx, %rsi
ring0_call:
	ud2
	ret

ring0_entry:
	test %eax, %eax
	jnz 1f
	mov %edi, %ecx /* 0: RDMSR a */
	rdmsr
	shl $32, %rdx
	or %rdx, %rax
	jmp 9f
1:	cmp $1, %eax
	jne 2f
	mov %edi, %ecx /* 1: WRMSR a, b */
	mov %esi, %eax
	mov %rsi, %rdx
	shr $32, %rdx
	wrmsr
	jmp 9f
2:	cmp $2, %eax
	jne 3f
	mov %rbx, %r9 /* 2: CPUID a; EBX in the upper half */
	mov %edi, %eax
	xor %ecx, %ecx
	cpuid
	shl $32, %rbx
	or %rbx, %rax
	mov %r9, %rbx
	jmp 9f
3:	cli /* else: stop this CPU for ever */
	hlt
	jmp 3b
9:	mov (%rsp), %rdx
	add $2, %rdx
	mov 24(%rsp), %rcx
	sti
	sysexitq

	.altmacro
	/* Vector stubs, 16 bytes each; irq.c points the gates at vector_stubs + 16 * vector. */
	.macro stub vector
	.balign 16
	.if \vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21
	.else
	pushq $0
	.endif
	pushq $\vector
	jmp vector_common
	.endm
	.balign 16
	.globl vector_stubs
vector_stubs:
	.set vector, 0
	.rept 64
	stub %vector
	.set vector, vector + 1
	.endr

	.balign 16
vector_common:
	push %rax
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %rbp
	mov %rsp, %rbp
	cld
	mov 80(%rbp), %rdi /* vector */
	mov 88(%rbp), %rsi /* error code */
	mov 96(%rbp), %rdx /* address */
	and $-16, %rsp
	call vector_handler
	mov %rbp, %rsp
	pop %rbp
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

	/* Real mode, at a page below 1 MiB that smp.c copies this to. */
	.code16
	.globl ap_trampoline, ap_trampoline_end
ap_trampoline:
	lgdtl %cs:(ap_gdtr - ap_trampoline)
	mov $X86_CR0_PE, %eax
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $ap_entry
	.balign 4
ap_gdtr:
	.word gdt_end - gdt - 1
	.long gdt
ap_trampoline_end:

	.code32
ap_entry:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov ap_stack, %esp
	mov $ap_main, %edi
	mov ap_argument, %esi
	jmp enter_long_mode

	.section .bss
	.balign 4096
	.globl idt
idt:	.skip 256 * 16
level0_stack:
	.skip 1024
level0_stack_end:
boot_stack:
	.skip 65536
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
