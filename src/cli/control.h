// SPDX-License-Identifier: BSD-2-Clause
/* `skep control`: controls a running VM through its control socket. */
#ifndef SKEP_CONTROL_CALL_H
#define SKEP_CONTROL_CALL_H

#include <stdalign.h>

#include "command.h"
#include "virtio/type.h"

struct control_call {
	const char *vm; /* its name, or its socket's path; borrowed, as all words here */
	const struct device_command *command;
	struct device_words words;
	alignas(uint64_t) char options[DEVICE_MAX_OPTIONS];
	json_t *request;
};

/* What follows `skep control`. To be destroyed in either case. */
int cli_parse_control(int argc, char *const *argv, struct control_call *ret, struct error *e);
void control_call_destroy(struct control_call *call);
/* The VM's own commands, then those of the device types. Ends with name == NULL. */
const struct cli_verb *cli_control_verbs(void);

/* One request and its answer, on a connection of its own; `num` descriptors go along. A negative errno with
 * a message that names the VM, or is the VM's own. */
int control_ask(const char *vm, const json_t *request, const int *files, unsigned num, json_t **ret,
		struct error *e);

/* Sends the request and prints the answer on `out`. A negative errno with a message that names the
 * socket; never -EINVAL or -ERANGE, which are for wrong usage. */
int control_call_run(const struct control_call *call, FILE *out, struct error *e);

#endif
