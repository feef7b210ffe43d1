// SPDX-License-Identifier: BSD-2-Clause
/* Clients of the control socket: many, slow, gone or hostile; and its path. */
#include "control_fixture.h"

static void test_lines_in_pieces(void **state)
{
	static const char two[] = "{\"command\": \"power-button\"}\r\n{\"command\": \"stop\"}\n";
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer;

	for (const char *p = two; *p; p++)
		say(fd, p, 1);
	json_decref(hear(fd));
	json_decref(hear(fd));
	say(fd, two, strlen(two));
	say(fd, two, strlen(two));
	shutdown(fd, SHUT_WR); /* what was said before it is answered */
	for (unsigned i = 0; i < 4; i++) {
		answer = hear(fd);
		assert_int_equal(json_object_size(answer), 0);
		assert_non_null(answer);
		json_decref(answer);
	}
	assert_null(hear(fd));
	assert_int_equal(f->pressed, 3);
	assert_int_equal(f->stopped, 3);
	close(fd);
}

/* Of a client that may be refused. */
static json_t *hear_power_button(int fd)
{
	static const char line[] = "{\"command\": \"power-button\"}\n";

	(void)!write(fd, line, sizeof(line) - 1);
	return hear(fd);
}

/* Who hung up before leaves a place; the loop may not have come to it yet. */
static int dial_in_turn(const struct fixture *f)
{
	for (;;) {
		int fd = dial(f);
		json_t *answer = hear_power_button(fd);
		bool taken = answer && json_object_size(answer) == 0;

		json_decref(answer);
		if (taken)
			return fd;
		close(fd);
	}
}

static void test_many_clients(void **state)
{
	struct fixture *f = *state;
	int fd[CONTROL_MAX_CLIENTS], extra;
	json_t *answer;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
			fd[i] = dial(f);
			json_decref(ask(fd[i], "{\"command\": \"power-button\"}"));
		}
		extra = dial(f);
		answer = hear(extra);
		assert_non_null(strstr(json_string_value(json_object_get(answer, "error")),
				       "too many clients"));
		json_decref(answer);
		assert_null(hear(extra));
		close(extra);
		for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
			json_decref(ask(fd[i], "{\"command\": \"power-button\"}"));
		/* All but the first leave, some in the middle of a line; the first sees to it that
		 * they are gone. */
		for (unsigned i = 1; i < ARRAY_SIZE(fd); i++) {
			if (i % 2)
				say(fd[i], "{\"comm", 7);
			close(fd[i]);
		}
		json_decref(ask(fd[0], "{\"command\": \"power-button\"}"));
		close(fd[0]);
		close(dial_in_turn(f));
	}
}

static void test_others_are_refused(void **state)
{
	struct fixture *f = *state;
	int fd, status;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("# it takes root, to be somebody else\n");
		skip();
	}
	assert_int_equal(chmod(f->dir, 0755) | chmod(f->path, 0666), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char text[256] = "";

		_exit(setuid(65534) != 0 || (fd = try_connect(f->path)) < 0 ||
		      read_full(fd, text, sizeof(text) - 1) < 0 || !strstr(text, "EACCES"));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	expect_alive(f);
}

static void tell_paused(void *arg)
{
	struct fixture *f = arg;
	json_t *answer = json_object();

	f->vm.paused = f->pausing;
	control_tell(f->control, CONTROL_PAUSED, answer);
	json_decref(answer);
}

static void tell_event(void *arg)
{
	struct fixture *f = arg;
	json_t *event = json_pack("{s:s, s:s}", "event", "paused", "pad", f->dir);

	for (unsigned i = 0; i < 1000; i++)
		control_event(f->control, event);
	json_decref(event);
}

/* Who reads gets all of them, in order; who does not is dropped, and nobody waits for him. */
static void test_events(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f), deaf = dial(f);
	json_t *answer = ask(fd, "{\"command\": \"events\", \"id\": 5}");

	assert_null(json_object_get(answer, "error"));
	json_decref(answer);
	json_decref(ask(deaf, "{\"command\": \"events\"}"));
	for (unsigned round = 0; round < 10; round++) {
		loop_call(f->loop, tell_event, f);
		for (unsigned i = 0; i < 1000; i++) {
			answer = hear(fd);
			assert_string_equal(json_string_value(json_object_get(answer, "event")),
					    "paused");
			assert_int_equal(json_integer_value(json_object_get(answer, "id")), 5);
			json_decref(answer);
		}
	}
	expect_alive(f);
	while ((answer = hear(deaf)))
		json_decref(answer);
	close(fd);
	close(deaf);
}

/* Two who pause at once are both answered, and go on with what they say next. */
static void test_a_pause_is_answered_when_it_is_there(void **state)
{
	static const char pause[] = "{\"command\": \"pause\"}\n",
			  pause_and_go_on[] = "{\"command\": \"pause\"}\n{\"command\": \"stop\"}\n";
	struct fixture *f = *state;
	int fd = dial(f), other = dial(f), third = dial(f);
	json_t *answer;

	for (unsigned round = 1; round <= 3; round++) {
		say(fd, pause, strlen(pause));
		say(other, pause_and_go_on, strlen(pause_and_go_on));
		while (!f->pausing)
			json_decref(ask(third, "{\"command\": \"status\"}"));
		answer = ask(third, "{\"command\": \"resume\"}");
		assert_string_equal(json_string_value(json_object_get(answer, "error")), "not yet");
		json_decref(answer);
		assert_int_equal(f->stopped, round - 1);
		loop_call(f->loop, tell_paused, f);
		json_decref(hear(fd));
		json_decref(hear(other));
		json_decref(hear(other));
		assert_int_equal(f->stopped, round);
		answer = ask(fd, "{\"command\": \"status\"}");
		assert_string_equal(json_string_value(json_object_get(answer, "state")), "paused");
		json_decref(answer);
		json_decref(ask(fd, "{\"command\": \"pause\"}")); /* it is */
		json_decref(ask(fd, "{\"command\": \"resume\"}"));
		json_decref(ask(fd, "{\"command\": \"resume\"}"));
		expect_alive(f);
	}
	close(fd);
	close(other);
	close(third);
}

/* Those who wait are answered when the VM has ended, once, and whatever else they say is not heard. */
static void test_who_waits_is_told_of_the_end(void **state)
{
	struct fixture *f = *state;
	json_t *end = json_pack("{s:s, s:i}", "end", "power-off", "status", 7), *answer;
	int fd[CONTROL_MAX_CLIENTS - 2], other;

	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = dial(f);
		say(fd[i], i % 2 ? "{\"command\": \"wait\"}\n" : "{\"command\": \"shutdown\"}\n",
		    i % 2 ? 20 : 24);
		say(fd[i], "{\"command\": \"stop\"}\n", 20);
	}
	/* Who hangs up meanwhile leaves a place. */
	for (unsigned i = 0; i < 100; i++) {
		other = dial_in_turn(f);
		say(other, "{\"command\": \"wait\"}\n", 20);
		close(other);
	}
	shutdown(fd[1], SHUT_WR);
	other = dial_in_turn(f);
	assert_int_equal(f->stopped, 0);
	assert_true(f->shut_down_ns == UINT64_MAX);
	answer = ask(other, "{\"command\": \"shutdown\", \"timeout_ns\": -1}");
	assert_non_null(json_object_get(answer, "error"));
	json_decref(answer);
	loop_stop(f->loop);
	control_tell(f->control, CONTROL_END, end);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
		answer = hear(fd[i]);
		assert_true(json_equal(answer, end));
		json_decref(answer);
		close(fd[i]);
	}
	assert_int_equal(recv(other, &(char){0}, 1, MSG_DONTWAIT), -1);
	close(other);
	json_decref(end);
}

static void test_a_line_that_does_not_end(void **state)
{
	struct fixture *f = *state;
	char *line = malloc(CONTROL_MAX_LINE);
	int fd = dial(f);
	json_t *answer;

	/* The longest that there may be. */
	memset(line, ' ', CONTROL_MAX_LINE);
	memcpy(line, "{\"command\": \"stop\"}", 19);
	line[CONTROL_MAX_LINE - 1] = '\n';
	say(fd, line, CONTROL_MAX_LINE);
	answer = hear(fd);
	assert_int_equal(json_object_size(answer), 0);
	json_decref(answer);

	line[CONTROL_MAX_LINE - 1] = ' ';
	say(fd, line, CONTROL_MAX_LINE);
	answer = hear(fd);
	assert_non_null(
		strstr(json_string_value(json_object_get(answer, "error")), "line is longer"));
	json_decref(answer);
	assert_null(hear(fd));
	close(fd);
	free(line);
	assert_int_equal(f->stopped, 1);
	expect_alive(f);
}

/* It is not read from while its answers wait: what it may send is bounded, and so is what we keep
 * for it. */
static void test_a_client_that_never_reads(void **state)
{
	static const char line[] = "{\"command\": \"status\"}\n";
	struct fixture *f = *state;
	size_t sent = 0;
	unsigned idle = 0;
	int fd = dial(f);

	while (idle < 100) {
		ssize_t n = send(fd, line, sizeof(line) - 1, MSG_DONTWAIT);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			idle++;
			expect_alive(f);
			continue;
		}
		assert_int_equal(n, sizeof(line) - 1);
		idle = 0;
		sent += (size_t)n;
		assert_true(sent < 64 * MIB);
	}
	/* Then it reads after all, and gets every answer. */
	shutdown(fd, SHUT_WR);
	for (; sent; sent -= sizeof(line) - 1) {
		json_t *answer = hear(fd);

		assert_non_null(json_object_get(answer, "state"));
		json_decref(answer);
	}
	assert_null(hear(fd));
	close(fd);
}

static void test_clients_that_leave_with_answers_due(void **state)
{
	static const char line[] = "{\"command\": \"status\"}\n";
	struct fixture *f = *state;

	for (unsigned i = 0; i < 100; i++) {
		int fd = dial(f);

		for (unsigned n = 0; n < 1 + i; n++)
			if (send(fd, line, sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
				break; /* refused: the ones before are not gone yet */
		close(fd);
	}
	for (bool alive = false; !alive;) {
		int fd = dial(f);
		json_t *answer = hear_power_button(fd);

		alive = answer && json_object_size(answer) == 0;
		json_decref(answer);
		close(fd);
	}
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint8_t data[3000];
	unsigned seed = 1;

	for (unsigned i = 0; i < 200; i++) {
		int fd = dial(f);

		for (size_t n = 0; n < sizeof(data); n++)
			data[n] = (uint8_t)(rand_r(&seed) >> 7);
		/* JSON that is deep, and bytes. */
		if (i % 2)
			memset(data, i % 4 == 1 ? '[' : '{', sizeof(data) - 1);
		data[sizeof(data) - 1] = '\n';
		(void)!write(fd, data, sizeof(data));
		json_decref(hear(fd));
		close(fd);
	}
	test_clients_that_leave_with_answers_due(state);
	assert_int_equal(f->stopped, 0);
}

/* Accepting fails for a while. */
static void test_no_descriptors(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	int fd = dial(f), waiting;
	json_t *answer;

	json_decref(ask(fd, "{\"command\": \"status\"}"));
	waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){3, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	{
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		strcpy(addr.sun_path, f->path);
		assert_int_equal(connect(waiting, (void *)&addr, sizeof(addr)), 0);
	}
	say(waiting, "{\"command\": \"stop\"}\n", 20);
	for (unsigned i = 0; i < 10; i++) {
		answer = ask(fd, "{\"command\": \"status\"}");
		assert_non_null(answer);
		json_decref(answer);
	}
	assert_int_equal(f->stopped, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	answer = hear(waiting);
	assert_non_null(answer);
	json_decref(answer);
	assert_int_equal(f->stopped, 1);
	close(waiting);
	close(fd);
}

static void expect_no_socket(const char *path, int code, const char *why)
{
	struct control *control = NULL;
	struct error e = {""};
	struct loop *loop;

	assert_int_equal(loop_new(&loop, "control", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(control_open(&control, loop, path, NULL, &e), code);
	if (!strstr(e.msg, why))
		fail_msg("%s", e.msg);
	loop_free(loop);
}

static void test_its_path(void **state)
{
	struct fixture *f = *state;
	char path[200], *image = f->image[0];
	struct control *control;
	struct loop *loop;
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	expect_no_socket(f->path, -EADDRINUSE, "in use by a running VM");
	expect_no_socket(image, -EEXIST, "not a socket");
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	expect_no_socket("/nonexistent/socket", -ENOENT, "No such file");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	expect_no_socket(path, -ENAMETOOLONG, "longer than the 107 bytes");
	expect_alive(f);

	/* One that is left behind makes way. */
	snprintf(path, sizeof(path), "%s/left", f->dir);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(loop_new(&loop, "control", LOOP_EPOLL, 0, NULL), 0);
		assert_int_equal(control_open(&control, loop, path, &f->vm, NULL), 0);
		control_close(control, i == 2);
		loop_free(loop);
		assert_int_equal(access(path, F_OK), i == 2 ? -1 : 0);
	}
}

/* A VM that starts: says how that went, and ends when its standard input does. */
static pid_t start_at(struct fixture *f, const char *path, _Atomic bool *go, int report)
{
	struct control *control;
	struct loop *loop;
	pid_t pid = fork();
	int r;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&loop, "control", LOOP_EPOLL, 0, NULL))
		_exit(1);
	while (!atomic_load(go))
		;
	r = control_open(&control, loop, path, &f->vm, NULL);
	if (write(report, &r, sizeof(r)) != sizeof(r))
		_exit(2);
	pause();
	_exit(3);
}

static void leave_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

/* Both find a socket that is left: only one may remove it, and none the other's. */
static void test_two_starts_on_one_stale_path(void **state)
{
	struct fixture *f = *state;
	_Atomic bool *go =
		mmap(NULL, sizeof(*go), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[64];
	int report[2];

	snprintf(path, sizeof(path), "%s/stale", f->dir);
	assert_int_equal(pipe(report), 0);
	for (int round = 0; round < 300; round++) {
		pid_t pid[2];
		int r[2], fd;

		leave_socket(path);
		atomic_store(go, false);
		for (int i = 0; i < 2; i++)
			pid[i] = start_at(f, path, go, report[1]);
		atomic_store(go, true);
		for (int i = 0; i < 2; i++)
			assert_int_equal(read(report[0], &r[i], sizeof(r[i])), sizeof(r[i]));
		assert_int_equal(MAX(r[0], r[1]), 0);
		assert_int_equal(MIN(r[0], r[1]), -EADDRINUSE);
		fd = try_connect(path);
		assert_true(fd >= 0);
		close(fd);
		for (int i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
		unlink(path);
	}
	close(report[0]);
	close(report[1]);
	munmap((void *)go, sizeof(*go));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(others_are_refused),
		T(who_waits_is_told_of_the_end),
		T(events),
		T(a_pause_is_answered_when_it_is_there),
		T(lines_in_pieces),
		T(many_clients),
		T(a_line_that_does_not_end),
		T(a_client_that_never_reads),
		T(clients_that_leave_with_answers_due),
		T(garbage),
		T(no_descriptors),
		T(its_path),
		T(two_starts_on_one_stale_path),
	};

	return cmocka_run_group_tests_name("control_socket", tests, NULL, NULL);
}
