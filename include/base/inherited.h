// SPDX-License-Identifier: BSD-2-Clause
/*
 * Descriptors that the process inherited, beyond the standard streams: a compromised thread could
 * use them. They stay open while skep opens its files, since a path may name one of them
 * (/dev/fd/63, from a shell's <(...)).
 */
#ifndef SKEP_INHERITED_H
#define SKEP_INHERITED_H

/* Remembers them: called first in main(). Without /proc they have no paths, and are closed. */
void inherited_note(void);
/* Closes them, once skep has opened everything. */
void inherited_close(void);

#endif
