// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: A VM's name is taken while somebody listens at NAME/control in the user's runtime directory.
 * So a crash frees it: the next VM of that name replaces the socket. An end removes the socket while
 * it still listens, hence it is nobody else's, and then the directory, unless there is a new socket
 * in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/runtime.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "inside.h"
#include "sandbox/sandbox.h"

#define TRIES	  1000u
#define SYLLABLES 3u

/* Like "kobaru". */
static void make_up(char *ret)
{
	static const char consonants[] = "bdfghjklmnprstvz", vowels[] = "aeiou";
	uint8_t random[2 * SYLLABLES] = {0};

	(void)!getrandom(random, sizeof(random), 0);
	for (unsigned i = 0; i < 2 * SYLLABLES; i += 2) {
		*ret++ = consonants[random[i] % (sizeof(consonants) - 1)];
		*ret++ = vowels[random[i + 1] % (sizeof(vowels) - 1)];
	}
	*ret = '\0';
}

/* -EADDRINUSE: another VM has the name; -ENOENT: who ended removed the directory meanwhile. */
static int take(struct vm *vm, const char *in, struct error *e)
{
	struct place *p = &vm->place;
	_cleanup_free_ char *dir = NULL, *path = NULL;
	int r;

	if (asprintf(&dir, "%s/%s", in, p->name) < 0 ||
	    asprintf(&path, "%s/" RUNTIME_SOCKET, dir) < 0)
		return error_set(e, -ENOMEM, "out of memory");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return error_set(e, -errno, "cannot make '%s': %m", dir);
	r = control_open(&vm->named, vm->control, path, &vm->asked, e);
	if (r < 0) {
		rmdir(dir);
		return error_prefix(e, r, "'%s'", path);
	}
	p->in = open(in, O_PATH | O_DIRECTORY | O_CLOEXEC);
	p->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	p->listener = fcntl(control_listener(vm->named), F_DUPFD_CLOEXEC, 3);
	return p->listener < 0 ? error_set(e, -errno, "cannot keep '%s': %m", path) : 0;
}

static int take_any(struct vm *vm, const char *in, struct error *e)
{
	const char *given = vm->config->name;
	int r = -EADDRINUSE;

	for (unsigned i = 0; i < TRIES && (r == -ENOENT || r == -EADDRINUSE); i++) {
		if (*given)
			strcpy(vm->place.name, given);
		else
			make_up(vm->place.name);
		r = take(vm, in, e);
		if (r == -EADDRINUSE && *given)
			return error_set(e, r,
					 "another VM has this name: end it with 'skep stop "
					 "%s', or choose another name",
					 given);
	}
	return r;
}

int place_open(struct vm *vm, struct error *e)
{
	const char *given = vm->config->name;
	_cleanup_free_ char *in = NULL;
	struct error why = {""};
	int r = -ENOENT, lock;

	if (strcmp(given, "off") == 0)
		return 0;
	in = runtime_directory(true, &why);
	if (in) {
		lock = unix_lock_directory(in);
		r = take_any(vm, in, &why);
		if (lock >= 0)
			close(lock);
	}
	if (r == 0) {
		log_info("this VM is called '%s'", vm->place.name);
		vm->asked.name = vm->place.name;
	} else if (*given) {
		return error_set(e, r, "--name: %s", why.msg);
	} else {
		log_info("this VM has no name: %s", why.msg);
	}
	return 0;
}

int place_confine(struct vm *vm, struct error *e)
{
	struct place *p = &vm->place;
	int r = p->listener >= 0 ? sandbox_allow_removal(p->dir, p->in, e) : 0;

	p->stays = r <= 0;
	return r;
}

void place_remove(struct vm *vm)
{
	struct place *p = &vm->place;

	if (p->listener < 0 || p->stays)
		return;
	unlinkat(p->dir, RUNTIME_SOCKET, 0);
	unlinkat(p->in, p->name, AT_REMOVEDIR);
	p->stays = true; /* the next one of this name is another VM's */
}

void place_close(struct vm *vm)
{
	const struct place *p = &vm->place;

	if (p->listener < 0)
		return;
	close(p->listener);
	close(p->dir);
	close(p->in);
}
