// SPDX-License-Identifier: BSD-2-Clause
/*
 * Descriptors that came with the process, beyond the standard streams: whoever started skep left
 * them open, and a guest that took over a thread could use them. They are there while skep opens
 * what it needs, since a path may be one of them (/dev/fd/63, of a shell's <(...)).
 */
#ifndef SKEP_INHERITED_H
#define SKEP_INHERITED_H

/* Remembers them: the first thing in main(). Without /proc they have no paths, and are closed. */
void inherited_note(void);
/* Closes them, once nothing is opened any more. */
void inherited_close(void);

#endif
