// SPDX-License-Identifier: BSD-2-Clause
/*
 * What skep and its agent in the guest say to each other, over a port: docs/run-command.md. Both take
 * the other one for hostile.
 */
#ifndef SKEP_PROTOCOL_H
#define SKEP_PROTOCOL_H

#include <stdint.h>

#define AGENT_PORT    "skep.agent" /* the port's name */
#define AGENT_VERSION 2u

#define AGENT_MAX_DATA	(32768u - 8u) /* in a message: with its header what Linux takes at once */
#define AGENT_WINDOW	(256u * 1024) /* bytes of a stream that are under way, at most */
#define AGENT_MAX_SETUP (4u * 1024 * 1024) /* of AGENT_SETUP, which has no window */

/* Numbers are little-endian. `len` bytes follow, in AGENT_DATA alone. */
struct agent_message {
	uint8_t type;	/* enum agent_kind */
	uint8_t stream; /* AGENT_STREAM_OF the command, and enum agent_stream or 0 */
	uint16_t len;
	uint32_t value;
};

enum agent_kind {
	AGENT_HELLO,  /* the agent's first: `value` is its version */
	AGENT_DATA,   /* 1 to AGENT_MAX_DATA bytes of the stream */
	AGENT_END,    /* nothing more comes; or, from who gets the stream: it takes no more */
	AGENT_CREDIT, /* who gets the stream is done with `value` bytes: so many more may come */
	AGENT_SIGNAL, /* to the agent: signal `value` for the command */
	AGENT_SIZE, /* to the agent: the terminal has value >> 16 columns and value & 0xffff rows */
	AGENT_EXIT, /* the agent's last: how the command ended, see below */
};

/* `value` of AGENT_EXIT has the command's status, or its signal; and whether the kernel had to kill a
 * process meanwhile, for want of memory. */
#define AGENT_STATUS(value)    ((value)&0xffu)
#define AGENT_SIGNALLED(value) ((value) >> 8 & 0xffu)
#define AGENT_OUT_OF_MEMORY    0x10000u
#define AGENT_EXIT_MASK	       0x1ffffu

enum agent_stream {
	AGENT_STDIN,
	AGENT_STDOUT,
	AGENT_STDERR,
	AGENT_ARTIFACTS, /* after the command's end, as agent/pack.h has them */
	AGENT_SETUP,	 /* to the agent, first of all: records, see below */
};

/* Which of the commands that run, and of its streams. Command 0 is `skep run`'s; others are begun by skep,
 * with a number that is free: no command has had it, or its AGENT_EXIT has come. */
#define AGENT_COMMANDS		    16u
#define AGENT_STREAM_OF(id, stream) ((id) << 3 | (stream))
#define AGENT_ID(stream)	    ((stream) >> 3)
#define AGENT_STREAM(stream)	    ((stream)&7u)

/* A record of AGENT_SETUP is one of these letters and a text, ended by a NUL. Numbers are decimal. */
enum agent_record {
	AGENT_ARGUMENT = 'a', /* of the command, in order */
	AGENT_VARIABLE =
		'e', /* NAME=VALUE of its environment; of two with a name the last counts */
	AGENT_DIRECTORY = 'd', /* where it starts */
	AGENT_UID = 'u',
	AGENT_GID = 'g',
	AGENT_GROUP = 'G', /* one more */
	AGENT_USER = 'n',  /* instead of these: NAME, UID or UID:GID, by /etc/passwd of its root */
	AGENT_UMASK = 'm',
	AGENT_LIMIT = 'l',    /* RESOURCE SOFT HARD, as setrlimit(2) has them */
	AGENT_IGNORED = 'i',  /* it ignores signal N; one more */
	AGENT_SEND = 's',     /* instead of a command: this path is packed to standard output; */
	AGENT_TAKE = 'k',     /* or made of what comes by standard input (agent/pack.h) */
	AGENT_TERMINAL = 't', /* it has one, and no pipes; AGENT_SIZE comes before this */
	/* Instead of the guest's own root: the disk with this serial number; or the shared directory
	 * with this tag, under an overlay that is thrown away. */
	AGENT_ROOT_IMAGE = 'r',
	AGENT_ROOT_SHARE = 'R',
	/* The shared directory with this tag is AGENT_DIRECTORY: itself; or under an overlay. */
	AGENT_WORK = 'w',
	AGENT_WORK_OVERLAY = 'W',
	AGENT_OVERLAY_LIMIT = 'D', /* bytes of an overlay, at most */
	AGENT_CACHE = 'c', /* "TAG PATH": a shared directory, and where it is mounted; one more */
	AGENT_ARTIFACT = 'A', /* a path of AGENT_ARTIFACTS, one more */
};

#endif
