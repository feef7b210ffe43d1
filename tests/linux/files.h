// SPDX-License-Identifier: BSD-2-Clause
/* What the parts of the program files share. */
#ifndef SKEP_FILES_H
#define SKEP_FILES_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One call, by its own text. */
#define TRY(call) say(#call, (long long)(call))

/* Which times of `path` a call changes. */
#define TIMES(path, call)                                                                          \
	do {                                                                                       \
		set_old(path);                                                                     \
		TRY(call);                                                                         \
		show_times(path);                                                                  \
	} while (0)

/* What follows in braces, as that user. */
#define AS(uid, gid) for (bool once = become(uid, gid); once; once = (become(0, 0), false))

void say(const char *call, long long r);
int opens(const char *path, int flags, mode_t mode); /* and closes: descriptors differ */
void show(const char *path);
void put(const char *path, const char *text, mode_t mode);
void make_link(const char *to, const char *path);
void clear(const char *command);
void set_old(const char *path);
void show_times(const char *path);
bool become(uid_t uid, gid_t gid);

/* files_content.c */
void files_content(void);

#endif
