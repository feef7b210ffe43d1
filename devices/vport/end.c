// SPDX-License-Identifier: BSD-2-Clause
/* What a port ends at on the host, as its options say. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/pty.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "config/output.h"
#include "vport.h"

#define BACKLOG 8 /* clients that wait for the one that is there */

static int open_file(struct vport_end *end, const struct vport_config *config,
		     const struct device_host *host, struct error *e)
{
	end->fd = output_open(config->file, O_APPEND | O_NONBLOCK, 0600, host->config, e);
	if (end->fd == -ENXIO)
		error_set(e, -ENXIO, "nobody reads from this pipe: start its reader first");
	end->reads = false;
	return end->fd;
}

static int open_descriptor(struct vport_end *end, unsigned fd, struct error *e)
{
	int mode;

	end->fd = inherited_stream(fd, e);
	if (end->fd < 0)
		return end->fd;
	mode = fcntl(end->fd, F_GETFL) & O_ACCMODE;
	end->reads = mode != O_WRONLY;
	end->writes = mode != O_RDONLY;
	return 0;
}

int vport_end_open(struct vport_end *ret, const struct vport_config *config,
		   const struct device_host *host, struct error *e)
{
	char name[PTY_NAME_LEN];
	int r;

	*ret = (struct vport_end){
		.fd = -1, .listener = -1, .other = -1, .reads = true, .writes = true};
	snprintf(ret->where, sizeof(ret->where), "%s",
		 config->file	  ? config->file
		 : config->socket ? config->socket
				  : "");
	if (config->file) {
		r = open_file(ret, config, host, e);
	} else if (config->socket) {
		r = ret->listener = unix_listen(config->socket, BACKLOG, e);
	} else if (config->fd) {
		snprintf(ret->where, sizeof(ret->where), "descriptor %u", config->fd);
		r = open_descriptor(ret, config->fd, e);
	} else {
		r = ret->fd = pty_open(&ret->other, name, e);
		snprintf(ret->where, sizeof(ret->where), "%s", r < 0 ? "pty" : name);
	}
	return r < 0 ? error_prefix(e, r, "port %s: %s", config->name, ret->where) : 0;
}

void vport_end_close(const struct vport_end *end)
{
	const int fds[] = {end->fd, end->listener, end->other};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}
