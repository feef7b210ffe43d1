// SPDX-License-Identifier: BSD-2-Clause
/* Asks a running VM: one request, one answer, on a connection of its own. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/runtime.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "config/output.h"
#include "control.h"
#include "control/control.h"

#define MAX_ANSWER MIB
#define PATIENCE_S 1

static int explain_connect(int err, struct error *e)
{
	switch (err) {
	case ENOENT:
		return error_set(e, -err,
				 "no such socket: a VM makes it when started with --control; nor "
				 "is there a VM of this name: 'skep ps' lists those that run");
	case ECONNREFUSED:
		return error_set(e, -err,
				 "nothing listens there: the VM has ended, or this is "
				 "not a control socket");
	case EACCES:
	case EPERM:
		return error_set(
			e, -err,
			"permission denied: only the VM's user and root may use the socket");
	default:
		return error_set(e, -err, "cannot connect: %m");
	}
}

/* Whether a process is stopped: the state follows its name, which may contain anything. */
static bool is_stopped(pid_t pid)
{
	char text[256];
	const char *state;

	read_text(text, sizeof(text), "/proc/%d/stat", (int)pid);
	state = strrchr(text, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

struct silence {
	const char *vm;
	uint64_t since, patience_ns;
	bool told; /* to who waits for the end */
};

/* After PATIENCE_S without an answer: a message, or 0 to keep waiting. */
static int explain_silence(int fd, struct silence *s, struct error *e)
{
	struct ucred peer = {.pid = 0};
	socklen_t len = sizeof(peer);
	int r = 0;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (peer.pid > 0 && is_stopped(peer.pid))
		r = error_set(e, -ETIMEDOUT,
			      "the VM's process %d is stopped: continue it with kill -CONT %d, "
			      "or fg in its shell",
			      (int)peer.pid, (int)peer.pid);
	else if (now_ns() - s->since >= s->patience_ns)
		return error_set(e, -ETIMEDOUT,
				 "no answer for %u s: the VM hangs, or is busy with other clients",
				 (unsigned)(s->patience_ns / NSEC_PER_SEC));
	if (r == 0 || s->patience_ns != CONTROL_UNTIL_END)
		return r;
	if (!s->told)
		log_warn("%s: %s", s->vm, e->msg);
	s->told = true;
	return 0;
}

/* A stopped VM still gets up to CONTROL_MAX_CLIENTS connections, and no more. */
static int connect_to(int fd, const struct sockaddr_un *addr, struct error *e)
{
	uint64_t since = now_ns();

	while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return explain_connect(errno, e);
		if (now_ns() - since >= CONTROL_PATIENCE_NS)
			return error_set(
				e, -ETIMEDOUT,
				"the VM accepts no connections: it is stopped, or it hangs");
	}
	return 0;
}

static int open_socket(const char *path, struct error *e)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un addr;
	int fd, r = unix_address(&addr, path, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, -errno, "cannot create a socket: %m");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	r = connect_to(fd, &addr, e);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Descriptors go with the first byte. */
static ssize_t send_with(int fd, const char *text, size_t len, const int *files, unsigned num)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CONTROL_MAX_FILES * sizeof(int))];
	} passed = {.header = {.cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(num * sizeof(int))}};
	struct iovec data = {(char *)(uintptr_t)text, len};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};

	if (num) {
		memcpy(CMSG_DATA(&passed.header), files, num * sizeof(int));
		m.msg_control = &passed;
		m.msg_controllen = CMSG_SPACE(num * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int send_request(int fd, const json_t *request, const int *files, unsigned num,
			struct silence *silence, struct error *e)
{
	_cleanup_free_ char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	text[len++] = '\n'; /* in the place of the NUL */
	for (size_t done = 0; done < len;) {
		ssize_t n = send_with(fd, text + done, len - done, files, done ? 0 : num);
		int r = n < 0 && errno == EAGAIN ? explain_silence(fd, silence, e) : 0;

		if (r < 0)
			return r;
		/* Before it hung up it said why: there is an answer. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return error_set(e, -EIO, "cannot send: %s", strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int read_answer(int fd, struct silence *silence, json_t **ret, struct error *e)
{
	_cleanup_free_ char *text = malloc(MAX_ANSWER);
	size_t len = 0;
	ssize_t n;
	int r;

	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	while (!memchr(text, '\n', len)) {
		n = len < MAX_ANSWER ? read(fd, text + len, MAX_ANSWER - len) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			r = explain_silence(fd, silence, e);
			if (r < 0)
				return r;
			continue;
		}
		if (n <= 0)
			return error_set(e, -EIO, "the VM ended without an answer");
		len += (size_t)n;
	}
	*ret = json_loadb(text, len, 0, NULL);
	if (!json_is_object(*ret)) {
		json_decref(*ret);
		return error_set(e, -EIO, "the answer makes no sense: is this a control socket?");
	}
	return 0;
}

int control_ask(const char *vm, const json_t *request, const int *files, unsigned num,
		uint64_t patience_ns, json_t **ret, struct error *e)
{
	struct silence silence = {.vm = vm, .patience_ns = patience_ns};
	_cleanup_free_ char *path = runtime_socket(vm);
	_cleanup_close_ int fd = -1;
	json_t *answer = NULL;
	const char *error;
	int r;

	if (!path)
		return error_set(e, -ENOMEM, "out of memory");
	r = fd = open_socket(path, e);
	silence.since = now_ns();
	if (r >= 0)
		r = send_request(fd, request, files, num, &silence, e);
	if (r >= 0)
		r = read_answer(fd, &silence, &answer, e);
	if (r < 0)
		return error_prefix(e, r, "%s", vm);
	error = json_string_value(json_object_get(answer, "error"));
	if (!error || json_object_get(answer, "end")) {
		*ret = answer;
		return 0;
	}
	r = error_set(e, -EIO, "%s", error);
	json_decref(answer);
	return r;
}

/* Asks, and where there is more of the answer asks for that. */
static int ask_all(const struct control_call *call, int file, FILE *out, struct error *e)
{
	const struct device_command *c = call->command;
	json_t *first = NULL, *answer = NULL;
	bool more = true;
	int r = 0;

	while (more) {
		r = control_ask(call->vm, call->request, &file, file >= 0,
				c->waits ? CONTROL_UNTIL_END : CONTROL_PATIENCE_NS, &answer, e);
		if (r < 0)
			break;
		if (!first)
			first = json_incref(answer);
		r = c->print ? c->print(&call->words, answer, out) : 0;
		more = r == 0 && c->more && c->more(first, answer, call->request);
		json_decref(answer);
	}
	json_decref(first);
	return r;
}

/* Asks, and prints what comes behind the answer until the VM closes the connection. */
static int follow(const struct control_call *call, FILE *out, struct error *e)
{
	struct silence silence = {call->vm, now_ns(), CONTROL_UNTIL_END, false};
	_cleanup_free_ char *path = runtime_socket(call->vm), *line = NULL;
	int fd = path ? open_socket(path, e) : error_set(e, -ENOMEM, "out of memory");
	int r = fd < 0 ? fd : send_request(fd, call->request, NULL, 0, &silence, e);
	FILE *in = r < 0 ? NULL : fdopen(fd, "r");
	size_t size = 0;
	bool answered = false;

	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return error_prefix(e, r, "%s", call->vm);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0}, sizeof(struct timeval));
	while (in && r == 0 && getline(&line, &size, in) > 0) {
		json_t *event = json_loads(line, 0, NULL);
		const char *error = json_string_value(json_object_get(event, "error"));

		if (answered)
			r = call->command->print(&call->words, event, out);
		else if (!event || error)
			r = error_set(e, -EIO, "%s", error ? error : "the answer makes no sense");
		answered = true;
		json_decref(event);
	}
	if (in)
		fclose(in);
	return answered ? r : error_set(e, -EIO, "%s: the VM ended without an answer", call->vm);
}

int control_call_run(const struct control_call *call, FILE *out, struct error *e)
{
	const char *path = call->words.operand[0];
	_cleanup_close_ int file = -1;
	bool is_new = false;
	int r;

	if (strcmp(call->command->operands, "FILE") == 0) {
		/* The VM opens nothing, as it is in its sandbox. */
		is_new = access(path, F_OK) < 0;
		file = output_open(path, O_APPEND, 0600, NULL, e);
		if (file < 0)
			return error_prefix(e, -EIO, "%s", path);
	}
	r = call->command->streams ? follow(call, out, e) : ask_all(call, file, out, e);
	if (r < 0 && is_new)
		unlink(path);
	return r < 0 ? -EIO : r;
}
