// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Linux's log (kernel/printk/printk_ringbuffer.c, since 5.10) is a ring of
 * descriptors and a ring of text. A descriptor has an ID, which grows by one with each record, the
 * state of the record, and where its text begins and ends: positions that grow, too, of which the
 * lower bits are places in the text ring. A block of text begins with the ID of its descriptor. A
 * second array has what else is known of the records: number, time, length, level.
 *
 * The kernel and we share no lock: a record is copied, and then its state is looked at once more.
 * No number that is read is used but as an address, which the page tables bound, or for a length
 * that is checked; and the work of a call is bounded by its range.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "guest.h"

#define STATE_SHIFT 62
#define ID_MASK	    ((1ull << STATE_SHIFT) - 1)
enum { RESERVED, COMMITTED, FINALIZED, REUSABLE };

#define MAX_COUNT_BITS 26u /* log_buf_len= is at most 2 GiB, of 32 bytes for a record */
#define MAX_SIZE_BITS  31u

#define RECORD_COST 48u	  /* what a record counts beside its text */
#define TEXT_MAX    4096u /* Linux cuts messages at 1 or 2 KiB */
#define MAX_RECORDS (KLOG_MAX_BYTES / RECORD_COST)
#define HEAD_PROBES 1024u /* newest records of which one must be whole */
#define LAST_WORDS  8u	  /* messages that may follow that of a kexec, and one */

struct ring {
	struct klog_facts facts;
	uint32_t count_bits, size_bits;
	uint64_t descs, infos, data; /* addresses */
	uint64_t head, tail;	     /* IDs */
};

struct record {
	uint64_t state, begin, next; /* the descriptor's */
	uint64_t seq, ns;
	uint16_t text_len;
	uint8_t level;
	uint32_t caller;
};

struct reader {
	const struct ring *ring;
	struct klog_page *page;
	uint64_t distance; /* from an ID to the number */
	size_t left;	   /* of the range's bytes */
	size_t used;	   /* of page->text */
};

static bool get(const struct klog_facts *facts, uint64_t va, void *ret, size_t len)
{
	return klog_copy(&facts->map, va, ret, len) == 0;
}
#define GET(facts, va, ret) get((facts), (va), (ret), sizeof(*(ret)))

static bool open_ring(struct ring *ret, const struct klog_facts *facts)
{
	const uint64_t *of = facts->of;
	uint64_t ring, descs, text;

	ret->facts = *facts;
	if (!GET(facts, of[KLOG_PRB], &ring))
		return false;
	descs = ring + of[KLOG_RING_DESCS];
	text = ring + of[KLOG_RING_TEXT];
	if (!GET(facts, descs + of[KLOG_DESCS_COUNT_BITS], &ret->count_bits) ||
	    !GET(facts, descs + of[KLOG_DESCS_DESCS], &ret->descs) ||
	    !GET(facts, descs + of[KLOG_DESCS_INFOS], &ret->infos) ||
	    !GET(facts, descs + of[KLOG_DESCS_HEAD], &ret->head) ||
	    !GET(facts, descs + of[KLOG_DESCS_TAIL], &ret->tail) ||
	    !GET(facts, text + of[KLOG_TEXT_SIZE_BITS], &ret->size_bits) ||
	    !GET(facts, text + of[KLOG_TEXT_DATA], &ret->data))
		return false;
	ret->head &= ID_MASK;
	ret->tail &= ID_MASK;
	return ret->count_bits && ret->count_bits <= MAX_COUNT_BITS && ret->size_bits &&
	       ret->size_bits <= MAX_SIZE_BITS;
}

static uint64_t index_of(const struct ring *ring, uint64_t id)
{
	return id & ((1ull << ring->count_bits) - 1);
}

static bool get_state(const struct ring *ring, uint64_t id, uint64_t *ret)
{
	const uint64_t *of = ring->facts.of;

	return GET(&ring->facts,
		   ring->descs + index_of(ring, id) * of[KLOG_DESC_SIZE] + of[KLOG_DESC_STATE],
		   ret);
}

/* The record, when it is there: committed, or finalized, and not another one in its place. */
static bool get_record(const struct ring *ring, uint64_t id, struct record *ret)
{
	const struct klog_facts *f = &ring->facts;
	const uint64_t *of = f->of;
	uint64_t block = ring->descs + index_of(ring, id) * of[KLOG_DESC_SIZE] + of[KLOG_DESC_TEXT];
	uint64_t info = ring->infos + index_of(ring, id) * of[KLOG_INFO_SIZE];
	unsigned state;

	if (!get_state(ring, id, &ret->state))
		return false;
	state = (unsigned)(ret->state >> STATE_SHIFT);
	if ((ret->state & ID_MASK) != id || (state != COMMITTED && state != FINALIZED))
		return false;
	/* Text length, facility, flags of 5 bits and level of 3 follow each other. */
	if (!GET(f, block + of[KLOG_BLOCK_BEGIN], &ret->begin) ||
	    !GET(f, block + of[KLOG_BLOCK_NEXT], &ret->next) ||
	    !GET(f, info + of[KLOG_INFO_SEQ], &ret->seq) ||
	    !GET(f, info + of[KLOG_INFO_TIME], &ret->ns) ||
	    !GET(f, info + of[KLOG_INFO_CALLER], &ret->caller) ||
	    !GET(f, info + of[KLOG_INFO_TEXT_LEN], &ret->text_len) ||
	    !GET(f, info + of[KLOG_INFO_TEXT_LEN] + 3, &ret->level))
		return false;
	ret->level >>= 5;
	ret->text_len = MIN(ret->text_len, TEXT_MAX);
	return true;
}

/* How much of the text there is; *at is its address. A position that is odd stands for no text. */
static size_t find_text(const struct ring *ring, uint64_t id, const struct record *rec,
			uint64_t *at)
{
	uint64_t size = 1ull << ring->size_bits, begin = rec->begin & (size - 1),
		 end = rec->next & (size - 1), block_id;

	if (rec->begin & 1 || rec->next & 1)
		return 0;
	/* A block does not wrap: it begins anew at 0. Since 6.18 it may end where the ring does. */
	if (begin > end && end == 0)
		end = size;
	else if (begin > end)
		begin = 0;
	if (end - begin <= sizeof(block_id) || !GET(&ring->facts, ring->data + begin, &block_id) ||
	    block_id != id)
		return 0;
	*at = ring->data + begin + sizeof(block_id);
	return MIN((size_t)rec->text_len, end - begin - sizeof(block_id));
}

/* Whether it says that the kernel makes way for another. */
static bool is_farewell(const struct ring *ring, uint64_t id, const struct record *rec)
{
	char text[48] = "";
	uint64_t at = 0;
	size_t len = MIN(find_text(ring, id, rec, &at), sizeof(text) - 1);

	return len && get(&ring->facts, at, text, len) && strstr(text, "Starting new kernel");
}

/* By the newest records that are whole. Without one it is what is left of a log. */
static enum klog_worth judge(const struct klog_facts *facts)
{
	struct ring ring;
	struct record rec;
	unsigned whole = 0;

	if (!open_ring(&ring, facts))
		return KLOG_NONE;
	for (uint64_t i = 0; i < HEAD_PROBES && whole < LAST_WORDS; i++) {
		uint64_t id = (ring.head - i) & ID_MASK;

		if (get_record(&ring, id, &rec)) {
			whole++;
			if (is_farewell(&ring, id, &rec))
				return KLOG_ENDED;
		}
		if (id == ring.tail)
			break;
	}
	return whole ? KLOG_LIVES : KLOG_ENDED;
}

static size_t cost_of(const struct ring *ring, uint64_t id)
{
	struct record rec;

	return RECORD_COST + (get_record(ring, id, &rec) ? rec.text_len : 0);
}

/* Numbers and IDs grow together: what is between them, by the newest record that is whole. */
static bool get_distance(const struct ring *ring, uint64_t *ret)
{
	struct record rec;

	for (uint64_t i = 0; i < HEAD_PROBES; i++) {
		uint64_t id = (ring->head - i) & ID_MASK;

		if (get_record(ring, id, &rec)) {
			*ret = rec.seq - id;
			return true;
		}
		if (id == ring->tail)
			break;
	}
	return false;
}

static uint64_t seq_of(const struct reader *r, uint64_t id)
{
	return (id + r->distance) & ID_MASK;
}

/* How many of the newest records it is, of `there`, that cost no more than the range allows. */
static uint64_t count_newest(const struct reader *r, const struct klog_range *range, uint64_t there)
{
	size_t left = r->left, cost;
	uint64_t num = 0;

	while (num < there && (!range->records || num < range->records)) {
		cost = cost_of(r->ring, (r->ring->head - num) & ID_MASK);
		if (cost > left)
			break;
		left -= cost;
		num++;
	}
	return num;
}

/* How many records there are from the range's first one on, to the newest. */
static uint64_t count_records(const struct reader *r, const struct klog_range *range)
{
	const struct ring *ring = r->ring;
	uint64_t there = ((ring->head - ring->tail) & ID_MASK) + 1, last = seq_of(r, ring->head);

	there = MIN(there, 1ull << ring->count_bits);
	there = MIN(there, last + 1); /* before number 0 there is none */
	if (range->from == KLOG_NEWEST)
		return count_newest(r, range, there);
	return range->from > last ? 0 : MIN(last - range->from, there - 1) + 1;
}

static void set_caller(char ret[KLOG_CALLER], uint32_t caller)
{
	snprintf(ret, KLOG_CALLER, "%c%" PRIu32, caller & 0x80000000 ? 'C' : 'T',
		 caller & 0x7fffffff);
}

/* Cleans each line of the text, which has `len` bytes and a NUL. */
static void clean(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\t' || text[i] == '\0')
			text[i] = ' ';
	while (text) {
		char *end = strchr(text, '\n');

		if (end)
			*end = '\0';
		text_clean(text);
		if (end)
			*end++ = '\n';
		text = end;
	}
}

/* Copies the record into the page, if it is there. */
static void take_record(struct reader *r, uint64_t id)
{
	struct klog_record *ret = &r->page->record[r->page->num];
	char *text = r->page->text + r->used;
	uint64_t at = 0, again;
	struct record rec;
	size_t len;

	if (!get_record(r->ring, id, &rec) || rec.seq != seq_of(r, id))
		return;
	/* It may have become longer since it was counted. */
	len = MIN(find_text(r->ring, id, &rec, &at), KLOG_MAX_BYTES - r->used - 1);
	if (len && !get(&r->ring->facts, at, text, len))
		len = 0;
	/* A record may still grow: what was committed is taken as it was. */
	if (!get_state(r->ring, id, &again) || (again & ID_MASK) != id ||
	    again >> STATE_SHIFT == REUSABLE)
		return;
	text[len] = '\0';
	clean(text, len);
	*ret = (struct klog_record){
		.seq = rec.seq, .ns = MIN(rec.ns, INT64_MAX), .level = rec.level, .text = text};
	set_caller(ret->caller, rec.caller);
	r->page->num++;
	r->used += len + 1;
}

static void read_records(struct reader *r, const struct klog_range *range)
{
	const struct ring *ring = r->ring;
	uint64_t num = count_records(r, range), id = (ring->head - num + 1) & ID_MASK;
	size_t most = range->records ? MIN(range->records, MAX_RECORDS) : MAX_RECORDS;

	r->page->next = seq_of(r, id);
	r->page->end = seq_of(r, ring->head) + 1;
	for (; num > 0 && r->page->num < most && r->used < KLOG_MAX_BYTES; num--) {
		size_t cost = cost_of(ring, id);

		if (cost > r->left)
			break;
		r->left -= cost;
		take_record(r, id);
		id = (id + 1) & ID_MASK;
		r->page->next++;
	}
}

int klog_read(struct klog *log, const struct klog_range *range, struct klog_page *ret)
{
	struct klog_facts facts;
	struct ring ring;
	struct reader reader = {
		.ring = &ring, .page = ret, .left = MIN(range->bytes, KLOG_MAX_BYTES)};
	int r;

	*ret = (struct klog_page){.num = 0};
	r = klog_find(log, &facts, judge);
	if (r < 0)
		return r;
	/* It may have changed since. */
	if (!open_ring(&ring, &facts))
		return -EBADMSG;
	ret->text = malloc(KLOG_MAX_BYTES);
	ret->record = calloc(MAX_RECORDS, sizeof(*ret->record));
	if (!ret->text || !ret->record)
		return -ENOMEM;
	if (get_distance(&ring, &reader.distance))
		read_records(&reader, range);
	return 0;
}

void klog_page_free(struct klog_page *page)
{
	free(page->record);
	free(page->text);
	*page = (struct klog_page){.num = 0};
}

void klog_print(const struct klog_record *record, FILE *out)
{
	const char *line = record->text;

	while (line) {
		const char *end = strchrnul(line, '\n');

		print_line(out, "[%5llu.%06llu] %.*s", record->ns / NSEC_PER_SEC,
			   record->ns % NSEC_PER_SEC / 1000, (int)(end - line), line);
		line = *end ? end + 1 : NULL;
	}
}
