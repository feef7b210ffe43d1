// SPDX-License-Identifier: BSD-2-Clause
/* `skep control`: one request, one answer. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/util.h"
#include "config/output.h"
#include "control.h"
#include "control/control.h"

#define MAX_ANSWER     MIB
#define PATIENCE_S     1
#define MAX_SILENCE_NS (60 * NSEC_PER_SEC)

static int explain_connect(int err, struct error *e)
{
	switch (err) {
	case ENOENT:
		return error_set(e, -err,
				 "no such socket: a VM makes it that is run with --control");
	case ECONNREFUSED:
		return error_set(e, -err,
				 "nobody listens there: the VM has ended, or it is no "
				 "control socket");
	case EACCES:
	case EPERM:
		return error_set(e, -err,
				 "permission denied: the socket is for the VM's user, and root");
	default:
		return error_set(e, -err, "cannot connect: %s", strerror(err));
	}
}

/* Whether a process was stopped: the state is what follows its name, which may hold anything. */
static bool is_stopped(pid_t pid)
{
	char path[32], text[256] = "";
	const char *state;
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read_full(fd, text, sizeof(text) - 1) < 0)
		return false;
	state = strrchr(text, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

/* After PATIENCE_S without a sign of the VM: a message, or 0 to go on waiting. */
static int explain_silence(int fd, uint64_t since, struct error *e)
{
	struct ucred peer = {.pid = 0};
	socklen_t len = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (peer.pid > 0 && is_stopped(peer.pid))
		return error_set(e, -ETIMEDOUT,
				 "the VM's process %d is stopped, and answers nothing: kill -CONT "
				 "%d (or fg, in its shell) lets it go on",
				 (int)peer.pid, (int)peer.pid);
	if (now_ns() - since < MAX_SILENCE_NS)
		return 0;
	return error_set(e, -ETIMEDOUT, "no answer for %u s: the VM hangs, or has other clients",
			 (unsigned)(MAX_SILENCE_NS / NSEC_PER_SEC));
}

/* A VM that is stopped takes up to CONTROL_MAX_CLIENTS connections, and no more. */
static int connect_to(int fd, const struct sockaddr_un *addr, struct error *e)
{
	uint64_t since = now_ns();

	while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return explain_connect(errno, e);
		if (now_ns() - since >= MAX_SILENCE_NS)
			return error_set(e, -ETIMEDOUT,
					 "the VM takes no connection: it is stopped, or hangs");
	}
	return 0;
}

static int open_socket(const char *path, struct error *e)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un addr;
	int fd, r = control_address(&addr, path, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, -errno, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	r = connect_to(fd, &addr, e);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static void add_limit(json_t *request, const char *name, uint64_t value)
{
	if (value != UINT64_MAX)
		json_object_set_new(request, name, json_integer((json_int_t)MIN(value, INT64_MAX)));
}

static json_t *request_of(const struct control_call *call)
{
	json_t *request = json_pack("{s:s}", "command", call->command);

	if (call->disk) {
		bool position = strspn(call->disk, "0123456789") == strlen(call->disk) &&
				strlen(call->disk) < 10;

		json_object_set_new(request, "disk",
				    position ? json_integer(strtol(call->disk, NULL, 10))
					     : json_from_bytes(call->disk));
	}
	if (call->size)
		json_object_set_new(request, call->grow ? "grow" : "size",
				    json_integer((json_int_t)call->size));
	add_limit(request, "bps", call->bps);
	add_limit(request, "iops", call->iops == UINT_MAX ? UINT64_MAX : call->iops);
	add_limit(request, "burst_ns", call->burst_ns);
	return request;
}

/* A descriptor goes with the first byte. */
static ssize_t send_with(int fd, const char *text, size_t len, int file)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} passed = {.header = {.cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(sizeof(int))}};
	struct iovec data = {(char *)(uintptr_t)text, len};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};

	if (file >= 0) {
		memcpy(CMSG_DATA(&passed.header), &file, sizeof(file));
		m.msg_control = &passed;
		m.msg_controllen = sizeof(passed);
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int send_request(int fd, const struct control_call *call, int file, struct error *e)
{
	json_t *request = request_of(call);
	_cleanup_free_ char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	uint64_t since = now_ns();

	json_decref(request);
	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	text[len++] = '\n'; /* in the place of the NUL */
	for (size_t done = 0; done < len;) {
		ssize_t n = send_with(fd, text + done, len - done, done ? -1 : file);
		int r = n < 0 && errno == EAGAIN ? explain_silence(fd, since, e) : 0;

		if (r < 0)
			return r;
		/* It has said why before it hung up: there is an answer. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return error_set(e, -EIO, "cannot send: %s", strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int read_answer(int fd, json_t **ret, struct error *e)
{
	_cleanup_free_ char *text = malloc(MAX_ANSWER);
	uint64_t since = now_ns();
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
			r = explain_silence(fd, since, e);
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
		return error_set(e, -EIO, "what came is no answer: it is no control socket");
	}
	return 0;
}

static uint64_t number(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name));
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "?";
}

static const char *bytes_of(const json_t *object, const char *name, char ret[FORMAT_BYTES])
{
	format_bytes(number(object, name), ret);
	return ret;
}

static void print_disk(FILE *out, size_t i, const json_t *disk)
{
	char size[FORMAT_BYTES], read[FORMAT_BYTES], written[FORMAT_BYTES], discarded[FORMAT_BYTES];

	print_line(out, "disk %zu (%s): %s, %s", i, text_of(disk, "serial"),
		   bytes_of(disk, "size", size), text_of(disk, "path"));
	fprintf(out,
		"  %" PRIu64 " reads of %s, %" PRIu64 " writes of %s, %" PRIu64
		" discards of %s, %" PRIu64 " flushes, %" PRIu64 " errors\n",
		number(disk, "reads"), bytes_of(disk, "read_bytes", read), number(disk, "writes"),
		bytes_of(disk, "written_bytes", written), number(disk, "discards"),
		bytes_of(disk, "discarded_bytes", discarded), number(disk, "flushes"),
		number(disk, "errors"));
}

static void print_limits(const struct control_call *call, const json_t *answer, FILE *out)
{
	char bps[FORMAT_BYTES];

	fprintf(out, "disk %s:", call->disk);
	if (number(answer, "bps"))
		fprintf(out, " %s/s", bytes_of(answer, "bps", bps));
	if (number(answer, "iops"))
		fprintf(out, " %" PRIu64 " requests/s", number(answer, "iops"));
	if (!number(answer, "bps") && !number(answer, "iops"))
		fprintf(out, " no limit\n");
	else
		fprintf(out, ", bursts of %.6g ms\n", (double)number(answer, "burst_ns") / 1e6);
}

static int print_answer(const struct control_call *call, json_t *answer, FILE *out)
{
	char size[FORMAT_BYTES];
	const json_t *disk;
	size_t i;

	if (call->json) {
		_cleanup_free_ char *text = json_to_text(json_incref(answer));

		if (!text)
			return -ENOMEM;
		fputs(text, out);
	} else if (json_object_get(answer, "state")) {
		print_line(out, "%s for %.1f s", text_of(answer, "state"),
			   json_number_value(json_object_get(answer, "seconds")));
		json_array_foreach(json_object_get(answer, "disks"), i, disk)
			print_disk(out, i, disk);
	} else if (json_object_get(answer, "bps")) {
		print_limits(call, answer, out);
	} else if (call->disk) {
		fprintf(out, "disk %s: %" PRIu64 " bytes (%s)\n", call->disk,
			number(answer, "size"), bytes_of(answer, "size", size));
	}
	return 0;
}

int control_call_run(const struct control_call *call, FILE *out, struct error *e)
{
	_cleanup_close_ int fd = -1, file = -1;
	json_t *answer = NULL;
	const char *error;
	int r;

	if (call->file) {
		/* Where the VM is in its sandbox, it opens nothing. */
		file = output_open(call->file, O_APPEND, 0600, NULL, e);
		if (file < 0)
			return error_prefix(e, -EIO, "%s", call->file);
	}
	r = fd = open_socket(call->path, e);
	if (r >= 0)
		r = send_request(fd, call, file, e);
	if (r >= 0)
		r = read_answer(fd, &answer, e);
	if (r < 0)
		return error_prefix(e, -EIO, "%s", call->path);
	error = json_string_value(json_object_get(answer, "error"));
	if (error)
		r = error_set(e, -EIO, "%s", error);
	else
		r = print_answer(call, answer, out);
	json_decref(answer);
	return r;
}
