// SPDX-License-Identifier: BSD-2-Clause
/* What all kinds of port have in common. */
#include <stdlib.h>
#include <unistd.h>

#include "vhost.h"

void net_port_close(struct net_port *port)
{
	if (!port)
		return;
	for (unsigned i = 0; i < port->pairs; i++)
		if (port->fd[i] >= 0)
			close(port->fd[i]);
	if (port->listener >= 0)
		close(port->listener);
	net_vhost_close(port->vhost);
	free(port->name);
	free(port);
}
