// SPDX-License-Identifier: BSD-2-Clause
/* The option --port. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"

static const struct setting settings[] = {
	{"file", .arg = "PATH", STRING_FIELD(vport_config, file),
	 .help = "append what the guest writes to this file, or write it to this pipe"},
	{"name", .arg = "NAME", TEXT_FIELD(vport_config, name),
	 .help = "what the guest finds it by: /dev/virtio-ports/NAME"},
	{"socket", .arg = "PATH", STRING_FIELD(vport_config, socket),
	 .help = "make a Unix socket there, for one program of the host at a time; the guest sees "
		 "it come and go"},
	{"pty", BOOL_FIELD(vport_config, pty),
	 .help = "make a pseudo-terminal, whose name skep says at the start"},
	{"fd", .arg = "N", COUNT_FIELD(vport_config, fd), .max = INT_MAX,
	 .help = "a descriptor that skep inherits: a socket, a pipe, a terminal or a file"},
	{.name = NULL},
};

static int check_one(const struct vport_config *port, struct error *e)
{
	static const char fits[] = "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	if (!port->name[0])
		return error_set(e, -EINVAL, "give it a name, name=NAME");
	if (port->name[strspn(port->name, fits)] || port->name[0] == '.')
		return error_set(e, -EINVAL,
				 "name: '%s' would be no file's in the guest: use letters, digits, "
				 "'.', '_' and '-'",
				 port->name);
	if (!!port->file + !!port->socket + port->pty + !!port->fd != 1)
		return error_set(e, -EINVAL,
				 "'%s': give one of socket=PATH, file=PATH, pty and fd=N",
				 port->name);
	if (port->fd && port->fd <= STDERR_FILENO)
		return error_set(e, -EINVAL, "fd=%u is a standard stream", port->fd);
	return 0;
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct vport_config *ports = configs;

	for (size_t i = 0; i < num; i++) {
		if (check_one(&ports[i], e) < 0)
			return error_prefix(e, -EINVAL, "port %zu", i + 1);
		for (size_t j = 0; j < i; j++)
			if (strcmp(ports[i].name, ports[j].name) == 0)
				return error_set(
					e, -EINVAL,
					"ports %zu and %zu are both called '%s': give each "
					"its own name",
					j + 1, i + 1, ports[i].name);
	}
	return 0;
}

static void file(const void *config, struct config_file *ret)
{
	const struct vport_config *port = config;

	ret->path = port->file ? port->file : port->socket;
	ret->fd = port->fd;
	ret->use = FILE_OUTPUT;
}

const struct device_options vport_options = {
	.name = "port",
	.plural = "ports",
	.what = "a port",
	.max = VPORT_MAX,
	.option = {.arg = "name=NAME,socket=PATH|file=PATH|pty|fd=N",
		   .help = "add a byte stream between guest and host (repeatable); see below"},
	.size = sizeof(struct vport_config),
	.defaults = &(const struct vport_config){.file = NULL},
	.settings = settings,
	.named = true,
	.file = file,
	.check = check,
};
