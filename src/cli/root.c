// SPDX-License-Identifier: BSD-2-Clause
/* Where the command of `skep run -- COMMAND` runs: its root and its directory (agent/protocol.h). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/protocol.h"
#include "base/util.h"
#include "boot/cache.h"
#include "run.h"

#define ROOT_NAME "skep-root" /* a tag or a serial number */
#define WORK_NAME "skep-cwd"

/* Of the host's root: what nobody but its owner should have. "~" is the user's home. */
static const char *const secrets[] = {
	"/root",
	"/etc/shadow",
	"/etc/shadow-",
	"/etc/gshadow",
	"/etc/gshadow-",
	"/etc/ssl/private",
	"/etc/ssh/ssh_host_rsa_key",
	"/etc/ssh/ssh_host_ecdsa_key",
	"/etc/ssh/ssh_host_ed25519_key",
	"~/.ssh",
	"~/.gnupg",
	"~/.netrc",
	"~/.aws",
	"~/.azure",
	"~/.config/gcloud",
	"~/.config/gh",
	"~/.kube",
	"~/.docker",
	"~/.git-credentials",
	"~/.password-store",
	"~/.local/share/keyrings",
	"~/.npmrc",
	"~/.pypirc",
	"~/.cargo/credentials.toml",
};

static void add(FILE *out, enum agent_record what, const char *text)
{
	fprintf(out, "%c%s", (char)what, text);
	fputc('\0', out);
}

/* As a sub-option: commas are doubled. */
static void add_escaped(FILE *text, const char *path)
{
	for (; *path; path++) {
		if (*path == ',')
			fputc(',', text);
		fputc(*path, text);
	}
}

static bool is_exposed(const struct vm_config *config, const char *path)
{
	for (char **exposed = config->expose; exposed && *exposed; exposed++)
		if (strcmp(*exposed, path) == 0)
			return true;
	return false;
}

static void add_secrets(FILE *text, const struct vm_config *config)
{
	const char *home = getenv("HOME");

	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++) {
		bool at_home = secrets[i][0] == '~';
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s%s", at_home && home ? home : "", secrets[i] + at_home) <
		    0) {
			path = NULL;
			continue;
		}
		if ((at_home && !home) || is_exposed(config, path))
			continue;
		fputs(",hide=", text);
		add_escaped(text, path);
	}
}

static const struct device_options *find_type(const struct vm_config *config, bool directory)
{
	const struct device_options *const *type = config->types;

	while (*type && !(directory ? (*type)->is_directory : (*type)->has_systems))
		type++;
	return *type;
}

/* Adds a device that is PATH, then what `options` say. */
static int add_device(struct vm_config *config, bool directory, const char *path,
		      const char *options, struct error *e)
{
	const struct device_options *type = find_type(config, directory);
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!type || !out)
		return error_set(e, -ENOMEM, "out of memory");
	add_escaped(out, path);
	fputs(options, out);
	if (directory)
		add_secrets(out, config);
	if (fclose(out) != 0)
		return error_set(e, -ENOMEM, "out of memory");
	return config_parse_device(config, type, text, e);
}

static int add_root(struct vm_config *config, FILE *out, struct error *e)
{
	const char *root = config->root ? config->root : "/";
	struct stat st;

	if (config->guest)
		return 0;
	if (stat(root, &st) < 0)
		return error_set(e, -errno, "--root: '%.200s': %m", root);
	add(out, S_ISDIR(st.st_mode) ? AGENT_ROOT_SHARE : AGENT_ROOT_IMAGE, ROOT_NAME);
	return S_ISDIR(st.st_mode)
		       ? add_device(config, true, root, ":" ROOT_NAME ",readonly,flat,cache=always",
				    e)
		       : add_device(config, false, root, ",ephemeral,serial=" ROOT_NAME, e);
}

/* The whole of the host is never the command's to change. */
static int add_work(struct vm_config *config, FILE *out, struct error *e)
{
	_cleanup_free_ char *cwd = getcwd(NULL, 0);

	if (!cwd)
		return error_set(e, -errno, "the working directory is gone: %m");
	add(out, AGENT_DIRECTORY, cwd);
	if (config->cwd == CWD_OFF || strcmp(cwd, "/") == 0)
		return 0;
	add(out, config->cwd == CWD_OVERLAY ? AGENT_WORK_OVERLAY : AGENT_WORK, WORK_NAME);
	return add_device(config, true, cwd,
			  config->cwd == CWD_RW	       ? ":" WORK_NAME
			  : config->cwd == CWD_OVERLAY ? ":" WORK_NAME ",readonly,flat"
						       : ":" WORK_NAME ",readonly",
			  e);
}

/* The first of a cache's directories that no VM has, at `path`: its lock is held as long as the process
 * lives. */
static int take_directory(const char *path, char *ret, size_t size, struct error *e)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_set(e, -errno, "'%.200s': %m", path);
	for (unsigned i = 0;; i++) {
		int fd;

		snprintf(ret, size, "%s/%u", path, i);
		if (mkdir(ret, 0700) == 0)
			chmod(ret,
			      01777); /* any user of the guest's may write; the host's get no further than here */
		fd = open(ret, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (fd < 0 || errno != EWOULDBLOCK)
			return error_set(e, -errno, "'%.200s': %m", ret);
		close(fd);
	}
}

static int add_caches(struct vm_config *config, FILE *out, struct error *e)
{
	struct cache cache;
	int r = config->caches ? cache_open(&cache, e) : 0;

	for (size_t i = 0; r == 0 && config->caches && config->caches[i]; i++) {
		const char *text = config->caches[i];
		size_t len = strcspn(text, ":");
		char path[700], directory[720], options[32];

		snprintf(path, sizeof(path), "%s/shared-%.*s", cache.path, (int)len, text);
		snprintf(options, sizeof(options), ":skep-cache-%zu", i);
		fprintf(out, "%c%s %s", AGENT_CACHE, options + 1, text + len + 1);
		fputc('\0', out);
		r = take_directory(path, directory, sizeof(directory), e);
		if (r == 0)
			r = add_device(config, true, directory, options, e);
	}
	if (config->caches)
		cache_close(&cache);
	return r < 0 ? error_prefix(e, r, "--cache") : 0;
}

int cli_add_root(struct vm_config *config, FILE *out, struct error *e)
{
	int r = add_root(config, out, e);

	if (r == 0)
		r = add_work(config, out, e);
	return r < 0 ? r : add_caches(config, out, e);
}
