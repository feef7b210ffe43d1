// SPDX-License-Identifier: BSD-2-Clause
/* Bits of the processor's registers and page tables (Intel SDM, volume 3), for assembly too. */
#ifndef SKEP_X86_H
#define SKEP_X86_H

#include <asm/processor-flags.h>

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100 /* long mode enabled */
#define EFER_LMA 0x400 /* long mode active */

/* The same in every level of page tables. */
#define PTE_PRESENT  0x01
#define PTE_WRITE    0x02
#define PTE_USER     0x04
#define PTE_ACCESSED 0x20
#define PTE_DIRTY    0x40
#define PTE_HUGE     0x80 /* a page of 2 MiB, not a table */

#endif
