// SPDX-License-Identifier: BSD-2-Clause
/* The report of `skep check`, as text and as JSON. */
#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "check.h"

void check_add(struct check_report *report, const char *name, enum check_state state,
	       const char *remedy, const char *finding, ...)
{
	struct check_item *item;
	va_list ap;

	if (report->num_items == CHECK_MAX_ITEMS)
		return;
	item = &report->items[report->num_items++];
	snprintf(item->name, sizeof(item->name), "%s", name);
	item->state = state;
	snprintf(item->remedy, sizeof(item->remedy), "%s", remedy ? remedy : "");
	va_start(ap, finding);
	vsnprintf(item->finding, sizeof(item->finding), finding, ap);
	va_end(ap);
	text_clean(item->finding);
}

static const struct {
	const char *mark, *colour, *name;
} states[] = {
	[CHECK_OK] = {"ok", "\033[32m", "ok"},
	[CHECK_ABSENT] = {"--", "\033[33m", "absent"},
	[CHECK_FAILED] = {"no", "\033[31m", "failed"},
};
static_assert(ARRAY_SIZE(states) == CHECK_FAILED + 1, "all states");

/* Whether nothing failed but, perhaps, `except`. */
static bool all_is_well(const struct check_report *report, const char *except)
{
	for (unsigned i = 0; i < report->num_items; i++)
		if (report->items[i].state == CHECK_FAILED &&
		    strcmp(report->items[i].name, except) != 0)
			return false;
	return true;
}

static void print_text(const struct check_report *report, FILE *out)
{
	bool colour = isatty(fileno(out)) && !getenv("NO_COLOR");

	for (unsigned i = 0; i < report->num_items; i++) {
		const struct check_item *item = &report->items[i];

		fprintf(out, "%s%s%s  %-28s%s%s%s\n", colour ? states[item->state].colour : "",
			states[item->state].mark, colour ? "\033[0m" : "", item->name,
			item->finding, item->remedy[0] ? "; " : "", item->remedy);
	}
	/* A path that does not exist says nothing about the host. */
	fprintf(out, "'skep run' %s here\n",
		all_is_well(report, CHECK_DISCARD) ? "works" : "does not work");
}

static void print_json(const struct check_report *report, FILE *out)
{
	_cleanup_free_ char *text = NULL;
	json_t *items = json_array();

	for (unsigned i = 0; i < report->num_items; i++) {
		const struct check_item *item = &report->items[i];

		json_array_append_new(
			items,
			json_pack("{s:s, s:s, s:o, s:o}", "name", item->name, "state",
				  states[item->state].name, "finding",
				  json_from_bytes(item->finding), "remedy",
				  item->remedy[0] ? json_from_bytes(item->remedy) : json_null()));
	}
	text = json_to_text(json_pack("{s:b, s:{s:b, s:b, s:o, s:i}, s:o}", "ok",
				      all_is_well(report, ""), "kvm", "usable", report->kvm_usable,
				      "accelerated", report->kvm_accelerated, "ns_per_instruction",
				      report->ns_per_instruction > 0
					      ? json_real(report->ns_per_instruction)
					      : json_null(),
				      "max_vcpus", (int)report->max_vcpus, "checks", items));
	if (text)
		fputs(text, out);
}

bool check_print(const struct check_report *report, bool json, FILE *out)
{
	if (json)
		print_json(report, out);
	else
		print_text(report, out);
	return all_is_well(report, "");
}
