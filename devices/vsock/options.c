// SPDX-License-Identifier: BSD-2-Clause
/* The option --vsock. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "vsock.h"

static const struct setting settings[] = {
	{"cid", .arg = "N|auto", TEXT_FIELD(vsock_config, cid),
	 .help = "the guest's context ID, from 3 on, which no other VM has; auto: the first one "
		 "that is free (default: auto)"},
	{"uds", .arg = "PATH", STRING_FIELD(vsock_config, uds),
	 .help = "the UNIX socket for programs of the host; those that the guest connects to "
		 "listen "
		 "at PATH_PORT (default: skep/vsock-CID in the runtime directory)"},
	{.name = NULL},
};

int vsock_parse_cid(const struct vsock_config *config, uint32_t *ret, struct error *e)
{
	const char *text = config->cid;
	unsigned long long cid;
	char *end;

	*ret = 0;
	if (!*text || strcmp(text, "auto") == 0)
		return 0;
	cid = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end)
		return error_set(e, -EINVAL, "cid: '%s' is neither a number nor auto", text);
	if (cid < VSOCK_FIRST_CID || cid > VSOCK_LAST_CID)
		return error_set(e, -EINVAL,
				 "cid: %s is reserved: choose one from %u to %u, or auto", text,
				 VSOCK_FIRST_CID, VSOCK_LAST_CID);
	*ret = (uint32_t)cid;
	return 0;
}

static bool is_off(const void *config)
{
	const struct vsock_config *vsock = config;

	return !vsock->cid[0] && !vsock->uds;
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct vsock_config *vsock = configs;
	uint32_t cid;
	int r = num ? vsock_parse_cid(vsock, &cid, e) : 0;

	if (r < 0)
		return error_prefix(e, r, "--vsock");
	if (num && vsock->uds && strlen(vsock->uds) > VSOCK_MAX_PATH)
		return error_set(
			e, -EINVAL,
			"--vsock: uds: '%s' is longer than %zu bytes: there must be room for "
			"_PORT behind it; choose a shorter path, or a relative one",
			vsock->uds, VSOCK_MAX_PATH);
	return 0;
}

static void file(const void *config, struct config_file *ret)
{
	ret->path = ((const struct vsock_config *)config)->uds;
	ret->use = FILE_OUTPUT;
}

const struct device_options vsock_options = {
	.name = "vsock",
	.what = "the socket device",
	.max = 1,
	.option = {.arg = "cid=N|auto[,uds=PATH]",
		   .help = "add sockets between guest and host (AF_VSOCK); see below"},
	.size = sizeof(struct vsock_config),
	.defaults = &(const struct vsock_config){.uds = NULL},
	.settings = settings,
	.named = true,
	.is_off = is_off,
	.file = file,
	.check = check,
};
