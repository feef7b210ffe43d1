// SPDX-License-Identifier: BSD-2-Clause
/*
 * First in, first out: a queue of structs that embed a link. It allocates nothing, and one that is
 * zeroed is empty. A link is in one queue at a time. No locks.
 */
#ifndef SKEP_FIFO_H
#define SKEP_FIFO_H

#include "base/util.h"

struct fifo_link {
	struct fifo_link *next;
};

struct fifo {
	struct fifo_link *first, *last; /* `last` means nothing while `first` is NULL */
};

static inline void fifo_append(struct fifo *fifo, struct fifo_link *link)
{
	link->next = NULL;
	if (fifo->first)
		fifo->last->next = link;
	else
		fifo->first = link;
	fifo->last = link;
}

static inline void fifo_prepend(struct fifo *fifo, struct fifo_link *link)
{
	if (!fifo->first)
		fifo->last = link;
	link->next = fifo->first;
	fifo->first = link;
}

/* Takes a link out that is in there. */
static inline void fifo_remove(struct fifo *fifo, struct fifo_link *link)
{
	struct fifo_link *before = NULL, **at = &fifo->first;

	for (; *at != link; at = &before->next)
		before = *at;
	*at = link->next;
	if (!*at)
		fifo->last = before;
}

static inline struct fifo_link *fifo_take_link(struct fifo *fifo)
{
	struct fifo_link *link = fifo->first;

	if (link)
		fifo->first = link->next;
	return link;
}

/* The struct of `type` whose `member` is `link`, or NULL of none. */
#define fifo_entry(link, type, member)                                                             \
	({                                                                                         \
		struct fifo_link *link_ = (link);                                                  \
		link_ ? container_of(link_, type, member) : NULL;                                  \
	})
/* The first one, or NULL; taken out, or not. */
#define fifo_first(fifo, type, member) fifo_entry((fifo)->first, type, member)
#define fifo_take(fifo, type, member)  fifo_entry(fifo_take_link(fifo), type, member)

#endif
