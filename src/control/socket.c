// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. A client is in one of three states: skep reads from it; or it has
 * something to write: an answer, or lines in its buffer that need one; or it waits for what takes
 * longer. In the latter two it reads nothing, so a client that does not take its answers stops itself. A turn of the loop carries out
 * at most one request per client, so that a busy client starves nobody.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/log.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "control/control.h"

struct client {
	struct control *control;
	struct loop_fd watch;
	json_t *id;   /* of the request that is answered; NULL: none */
	char *answer; /* NULL: none */
	size_t answer_len, written;
	bool ending;		     /* is gone when the answer is written */
	enum control_wait waits;     /* for what is its answer; 0: for nothing */
	int file[CONTROL_MAX_FILES]; /* that it passed; -1: taken over */
	unsigned num_files;
	size_t len;
	char in[CONTROL_MAX_LINE];
};

struct control {
	struct loop *loop;
	struct control_vm *vm;
	char *path;
	uid_t uid; /* whose VM it is */
	struct loop_fd listener;
	struct loop_timer retry;
	struct client *client[CONTROL_MAX_CLIENTS];
};

static void close_files(struct client *c)
{
	while (c->num_files)
		if (c->file[--c->num_files] >= 0)
			close(c->file[c->num_files]);
}

/* Of too many the last ones. */
static void keep_file(struct client *c, int fd)
{
	if (c->num_files == CONTROL_MAX_FILES) {
		close(c->file[0]);
		memmove(c->file, c->file + 1, --c->num_files * sizeof(c->file[0]));
	}
	c->file[c->num_files++] = fd;
}

static void drop(struct client *c)
{
	for (unsigned i = 0; i < CONTROL_MAX_CLIENTS; i++)
		if (c->control->client[i] == c)
			c->control->client[i] = NULL;
	loop_unwatch(&c->watch);
	close_files(c);
	close(c->watch.fd);
	json_decref(c->id);
	free(c->answer);
	free(c);
}

/* A line; NULL when memory is short. */
static char *line_of(json_t *doc, json_t *id)
{
	if (id)
		json_object_set(doc, "id", id);

	_cleanup_free_ char *text =
		doc ? json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	char *line = NULL;

	json_decref(doc);
	return text && asprintf(&line, "%s\n", text) >= 0 ? line : NULL;
}

static json_t *error_answer(const struct error *e)
{
	const char *code = strerrorname_np(-error_last_code());

	return json_pack("{s:o, s:s}", "error", json_from_bytes(e->msg), "code",
			 code ? code : "EIO");
}

/* jansson recurses. No request is nested, nor has this many brackets in its strings. */
static bool is_deep(const char *line, size_t len)
{
	unsigned open = 0;

	for (size_t i = 0; i < len; i++)
		open += line[i] == '[' || line[i] == '{';
	return open > 64;
}

static json_t *parse(const char *line, size_t len, struct error *e)
{
	json_error_t where = {.text = "nested too deeply"};
	json_t *request =
		is_deep(line, len) ? NULL : json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);

	if (!request)
		error_set(e, -EINVAL, "%s: a request is a line like {\"command\": \"status\"}",
			  where.text);
	return request;
}

static char *respond(struct client *c, const char *line, size_t len)
{
	const struct control_vm *vm = c->control->vm;
	struct error e = {""};
	json_t *request = parse(line, len, &e);
	json_t *answer = NULL, *id = json_object_get(request, "id");

	json_decref(c->id);
	c->id = NULL;
	if (id && !json_is_integer(id) && !json_is_string(id)) {
		error_set(&e, -EINVAL, "\"id\" must be a whole number or a string");
	} else if (request) {
		c->id = json_incref(id);
		answer = control_command(vm, request, &e);
	}
	json_decref(request);
	if (!answer && !e.msg[0])
		error_set(&e, -ENOMEM, "out of memory");
	if (json_is_integer(answer)) {
		c->waits = (enum control_wait)json_integer_value(answer);
		json_decref(answer);
		return c->waits == CONTROL_EVENTS ? line_of(json_object(), c->id) : NULL;
	}
	return line_of(answer ? answer : error_answer(&e), c->id);
}

static void set_answer(struct client *c, char *line)
{
	c->answer = line;
	c->answer_len = line ? strlen(line) : 0;
	c->written = 0;
}

static char *end_of_line(struct client *c)
{
	return memchr(c->in, '\n', c->len);
}

/* Answers the first line in the buffer, if it is there whole. */
static void answer_next(struct client *c)
{
	char *end = end_of_line(c);
	size_t used;

	if (end) {
		used = (size_t)(end + 1 - c->in);
		c->control->vm->files = c->file;
		c->control->vm->num_files = c->num_files;
		set_answer(c, respond(c, c->in, used));
		close_files(c);
		memmove(c->in, c->in + used, c->len - used);
		c->len -= used;
	} else if (c->len == sizeof(c->in)) {
		struct error e;

		error_set(&e, -E2BIG, "the line is longer than %u bytes", CONTROL_MAX_LINE);
		set_answer(c, line_of(error_answer(&e), NULL));
		c->ending = true;
	} else {
		return;
	}
	c->ending |= !c->answer && !c->waits;
}

/* False when the client is gone. */
static bool take_input(struct client *c)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CONTROL_MAX_FILES * sizeof(int))];
	} passed;
	struct iovec room = {c->in + c->len, sizeof(c->in) - c->len};
	struct msghdr m = {.msg_iov = &room,
			   .msg_iovlen = 1,
			   .msg_control = &passed,
			   .msg_controllen = CMSG_LEN(CONTROL_MAX_FILES * sizeof(int))};
	ssize_t n = recvmsg(c->watch.fd, &m, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	int fd;

	/* What does not fit is closed by the kernel. */
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
		for (size_t at = 0; at + CMSG_LEN(sizeof(fd)) <= header->cmsg_len;
		     at += sizeof(fd)) {
			memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
			keep_file(c, fd);
		}
	}
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	c->len += (size_t)n;
	return true;
}

static bool give_answer(struct client *c)
{
	ssize_t n = write(c->watch.fd, c->answer + c->written, c->answer_len - c->written);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	c->written += (size_t)n;
	if (c->written == c->answer_len) {
		free(c->answer);
		c->answer = NULL;
	}
	return true;
}

static void client_ready(struct loop_fd *w, uint32_t events)
{
	struct client *c = container_of(w, struct client, watch);
	bool alive = !c->waits || c->answer; /* else it hung up */

	(void)events;
	if (alive && !c->answer && !end_of_line(c))
		alive = take_input(c);
	if (alive && !c->answer)
		answer_next(c);
	if (alive && c->answer)
		alive = give_answer(c);
	if (!alive || (c->ending && !c->answer))
		drop(c);
	else
		loop_watch_for(w, c->answer	   ? EPOLLOUT
				  : c->waits	   ? 0
				  : end_of_line(c) ? EPOLLOUT
						   : EPOLLIN);
}

static int add_client(struct control *control, int fd)
{
	struct client *c;
	unsigned i = 0;
	int r;

	while (i < CONTROL_MAX_CLIENTS && control->client[i])
		i++;
	if (i == CONTROL_MAX_CLIENTS)
		return -EUSERS;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->control = control;
	c->answer = NULL;
	c->id = NULL;
	c->ending = false;
	c->waits = 0;
	c->num_files = 0;
	c->len = 0;
	r = loop_watch(control->loop, &c->watch, fd, EPOLLIN, client_ready);
	if (r < 0)
		free(c);
	else
		control->client[i] = c;
	return r;
}

/* The socket's mode says so already, but modes change, and descriptors are passed on. */
static bool is_allowed(const struct control *control, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == control->uid);
}

static void refuse(int fd, int code)
{
	static const char full[] =
		"{\"error\":\"too many clients: close some\",\"code\":\"EUSERS\"}\n";
	static const char denied[] = "{\"error\":\"permission denied: only the VM's user and root "
				     "may use the socket\",\"code\":\"EACCES\"}\n";
	static const char other[] = "{\"error\":\"out of memory\",\"code\":\"ENOMEM\"}\n";
	const char *line = code == -EUSERS ? full : code == -EACCES ? denied : other;

	(void)!write(fd, line, strlen(line));
	close(fd);
}

static void listener_ready(struct loop_fd *w, uint32_t events)
{
	struct control *control = container_of(w, struct control, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), r;

	(void)events;
	if (fd >= 0) {
		r = is_allowed(control, fd) ? add_client(control, fd) : -EACCES;
		if (r < 0)
			refuse(fd, r);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* Out of descriptors, or of memory: it stays ready. */
		log_warn("the control socket: %s: trying again", strerror(errno));
		loop_pause(w);
		loop_timer_set(&control->retry, NSEC_PER_SEC);
	}
}

static void retry(struct loop_timer *t)
{
	loop_resume(&container_of(t, struct control, retry)->listener);
}

int control_open(struct control **ret, struct loop *loop, const char *path, struct control_vm *vm,
		 struct error *e)
{
	struct control *control = calloc(1, sizeof(*control));
	int fd, r = -ENOMEM;

	if (!control)
		return error_set(e, r, "out of memory");
	/* Keys are clients': a seed, while /dev/urandom can be opened for one. */
	json_object_seed(0);
	*control = (struct control){.loop = loop, .vm = vm, .uid = geteuid(), .retry.watch.fd = -1};
	control->listener.fd = -1;
	fd = unix_listen(path, (int)CONTROL_MAX_CLIENTS, e);
	if (fd < 0) {
		free(control);
		return fd;
	}
	control->path = strdup(path);
	if (control->path)
		r = loop_timer_init(loop, &control->retry, retry);
	if (r == 0)
		r = loop_watch(loop, &control->listener, fd, EPOLLIN, listener_ready);
	control->listener.fd = fd;
	if (r < 0) {
		control_close(control, true);
		return error_set(e, r, "cannot watch the socket: %m");
	}
	*ret = control;
	return 0;
}

int control_listener(const struct control *control)
{
	return control->listener.fd;
}

void control_tell(struct control *control, enum control_wait what, const json_t *answer)
{
	for (unsigned i = 0; control && i < CONTROL_MAX_CLIENTS; i++) {
		struct client *c = control->client[i];

		if (!c || c->waits != what)
			continue;
		c->waits = 0;
		set_answer(c, line_of(json_copy((json_t *)(uintptr_t)answer), c->id));
		client_ready(&c->watch, EPOLLOUT);
	}
}

/* Behind what it has not read yet. */
static bool add_line(struct client *c, const char *line)
{
	_cleanup_free_ char *before = c->answer;
	char *both = NULL;

	if (before && c->answer_len - c->written > CONTROL_MAX_LINE)
		both = NULL;
	else if (asprintf(&both, "%s%s", before ? before + c->written : "", line) < 0)
		both = NULL;
	set_answer(c, both);
	return both;
}

void control_event(struct control *control, const json_t *event)
{
	for (unsigned i = 0; control && i < CONTROL_MAX_CLIENTS; i++) {
		struct client *c = control->client[i];
		_cleanup_free_ char *line = NULL;

		if (!c || c->waits != CONTROL_EVENTS)
			continue;
		line = line_of(json_copy((json_t *)(uintptr_t)event), c->id);
		if (line && add_line(c, line))
			client_ready(&c->watch, EPOLLOUT);
		else
			drop(c);
	}
}

void control_close(struct control *control, bool remove)
{
	if (!control)
		return;
	assert(loop_is_here(control->loop));
	for (unsigned i = 0; i < CONTROL_MAX_CLIENTS; i++)
		if (control->client[i])
			drop(control->client[i]);
	if (remove && control->path)
		unlink(control->path);
	close(control->listener.fd);
	loop_timer_close(&control->retry);
	free(control->path);
	free(control);
}
