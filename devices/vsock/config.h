// SPDX-License-Identifier: BSD-2-Clause
/* What the socket device is to be. */
#ifndef SKEP_VSOCK_CONFIG_H
#define SKEP_VSOCK_CONFIG_H

#include <stdint.h>

#include "config/device_options.h"

/* The context IDs that a guest may have; the others are reserved (virtio 1.3, section 5.10.4). */
#define VSOCK_FIRST_CID 3u
#define VSOCK_LAST_CID	0xfffffffeu

struct vsock_config {
	char cid[11]; /* "3", "auto"; empty: auto, and with no uds either there is no device */
	char *uds;    /* the host's end; NULL: a path by the CID in the runtime directory */
};

extern const struct device_options vsock_options;

/* The CID that `config` asks for, 0 for any. -EINVAL with a message. */
int vsock_parse_cid(const struct vsock_config *config, uint32_t *ret, struct error *e);

#endif
