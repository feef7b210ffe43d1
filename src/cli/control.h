// SPDX-License-Identifier: BSD-2-Clause
/* Controls a running VM through its control socket. */
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
/* The same of a command for a VM by its name, which is argv[0]: one of cli_steer_verbs(). */
int cli_parse_steer(int argc, char *const *argv, struct control_call *ret, struct error *e);
void control_call_destroy(struct control_call *call);
/* The VM's own commands, then those of the device types. Ends with name == NULL. */
const struct cli_verb *cli_control_verbs(void);

/* call.c */
/* One request and its answer, on a connection of its own; `num` descriptors go along. `patience_ns`: for how
 * long no answer is taken. -ECONNREFUSED: a socket was left behind; -ENOENT: there is none; or another
 * negative errno; with a message that names the VM, or is the VM's own. *ret is changed at 0 alone. */
#define CONTROL_PATIENCE_NS (60 * NSEC_PER_SEC)
#define CONTROL_UNTIL_END   UINT64_MAX /* of the VM */
int control_ask(const char *vm, const json_t *request, const int *files, unsigned num,
		uint64_t patience_ns, json_t **ret, struct error *e);
/* The same of a call, and prints the answer on `out`. The exit status, or a negative errno; never -EINVAL or
 * -ERANGE, which are for wrong usage. */
int control_call_run(const struct control_call *call, FILE *out, struct error *e);

#endif
