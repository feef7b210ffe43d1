// SPDX-License-Identifier: BSD-2-Clause
/*
 * The configuration's parsers: JSON, disks, sizes, durations. Whatever is accepted and valid must
 * survive a round trip through JSON; whatever is refused must come with a message.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "blk/config.h"
#include "config/config.h"
#include "config/units.h"
#include "vm/devices.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

static void round_trip(const struct vm_config *config)
{
	_cleanup_free_ char *text = config_to_json(config), *again = NULL;
	struct vm_config back;

	if (!text) /* not UTF-8 */
		return;
	config_init(&back, vm_device_options);
	CHECK(config_parse_json(&back, text, strlen(text), "again", NULL) == 0);
	again = config_to_json(&back);
	CHECK(again && strcmp(text, again) == 0);
	config_destroy(&back);
}

static void fuzz_json(const char *text, size_t size)
{
	struct vm_config config;
	struct error e = {""};
	int r;

	config_init(&config, vm_device_options);
	r = config_parse_json(&config, text, size, "fuzz", &e);
	CHECK(r <= 0 && (r == 0) == (e.msg[0] == '\0'));
	config_settle(&config);
	if (r == 0 && config_validate(&config, &e) == 0)
		round_trip(&config);
	config_destroy(&config);
}

static void fuzz_texts(const char *text)
{
	struct vm_config config;
	struct error e = {""};
	uint64_t value;
	size_t num;
	int r;

	config_init(&config, vm_device_options);
	r = config_parse_device(&config, &blk_options, text, &e);
	CHECK(r <= 0 && (r == 0) == (e.msg[0] == '\0'));
	config_devices(&config, &blk_options, &num);
	CHECK(num == (r == 0));
	config_settle(&config);
	if (r == 0)
		round_trip(&config);
	config_destroy(&config);
	config_parse_size(text, MIB, &value, &e);
	if (config_parse_duration(text, &value, &e) == 0)
		CHECK(value <= INT64_MAX);
}

/* The first byte chooses. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = malloc(size); /* exactly as long, so that an overrun is seen */
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	if (data[0] & 1) {
		fuzz_json(text, size - 1);
	} else {
		text[size - 1] = '\0';
		fuzz_texts(text);
	}
	free(text);
	return 0;
}
