// SPDX-License-Identifier: BSD-2-Clause
/* struct vm_config: its defaults, devices and files, and what must hold for the whole. */
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/util.h"
#include "config/config.h"
#include "config/device_options.h"

static struct device_configs *configs_of(const struct vm_config *config,
					 const struct device_options *type)
{
	for (size_t i = 0; config->types && config->types[i]; i++)
		if (config->types[i] == type)
			return &config->devices[i];
	return NULL;
}

const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num)
{
	const struct device_configs *devices = configs_of(config, type);
	bool is_given = devices && devices->num;
	const void *one = is_given ? devices->all : type->defaults;

	if (type->is_there) {
		*ret_num = type->is_there(config);
		return one;
	}
	if (type->plural) {
		*ret_num = devices ? devices->num : 0;
		return devices ? devices->all : NULL;
	}
	*ret_num = (is_given || !type->yields || !config->command) &&
		   (!type->is_off || !type->is_off(one));
	return one;
}

bool config_pins_memory(const struct vm_config *config)
{
	const struct device_options *const *type = config->types;

	for (; type && *type; type++) {
		size_t num;
		const char *all = config_devices(config, *type, &num);

		for (size_t i = 0; (*type)->pins_memory && i < num; i++)
			if ((*type)->pins_memory(all + i * (*type)->size))
				return true;
	}
	return false;
}

int config_add_device(struct vm_config *config, const struct device_options *type,
		      const void *device, struct error *e)
{
	struct device_configs *devices = configs_of(config, type);
	char *all;

	if (!type->plural && devices->num) {
		device_config_destroy(type, devices->all);
		memcpy(devices->all, device, type->size);
		return 0;
	}
	if (devices->num == type->max)
		return error_set(e, -EINVAL, "more than %u %s", type->max, type->plural);
	all = reallocarray(devices->all, devices->num + 1, type->size);
	if (!all)
		return -ENOMEM;
	memcpy(all + devices->num++ * type->size, device, type->size);
	devices->all = all;
	return 0;
}

int config_parse_device(struct vm_config *config, const struct device_options *type,
			const char *text, struct error *e)
{
	_cleanup_free_ void *device = device_config_new(type);
	int r;

	if (!device)
		return -ENOMEM;
	r = device_config_parse(type, device, text, e);
	if (r == 0)
		r = config_add_device(config, type, device, e);
	if (r < 0)
		device_config_destroy(type, device);
	return r;
}

static int set_device(void *config, const struct setting *s, const char *text, struct error *e)
{
	return config_parse_device(config, s->device, text, e);
}

static size_t count_types(const struct device_options *const *types)
{
	size_t n = 0;

	while (types && types[n])
		n++;
	return n;
}

/* The options of types come after the first group, those of the last type first: what users add
 * before what is there in any case. */
static void merge_settings(struct setting *out, const struct device_options *const *types)
{
	const struct setting *s = vm_settings;

	for (const char *group = s->group; s->name && strcmp(s->group, group) == 0; s++)
		*out++ = *s;
	for (size_t i = count_types(types); i-- > 0;) {
		if (!types[i]->option.help)
			continue;
		*out = types[i]->option;
		out->name = types[i]->name;
		out->group = "Devices";
		out->type = SETTING_DEVICE;
		out->key = types[i]->plural;
		out->set = set_device;
		out++->device = types[i];
	}
	for (; s->name; s++)
		*out++ = *s;
}

int config_init(struct vm_config *config, const struct device_options *const *types)
{
	size_t num_types = count_types(types), num_settings = num_types + 1;

	for (const struct setting *s = vm_settings; s->name; s++)
		num_settings++;
	*config = (struct vm_config){
		.stop_timeout_ns = 30 * NSEC_PER_SEC,
		.kaslr = true,
		.cache = true,
		.sandbox = true,
		.types = types,
		.devices = calloc(num_types + 1, sizeof(*config->devices)),
		.settings = calloc(num_settings, sizeof(*config->settings)),
	};
	if (!config->devices || !config->settings) {
		config_destroy(config);
		return -ENOMEM;
	}
	merge_settings(config->settings, types);
	return 0;
}

void config_settle(struct vm_config *config)
{
	uint64_t memory = 256 * MIB;
	cpu_set_t cpus;

	if (config->command) {
		memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
		memory = MIN(MIN(memory, cgroup_limit("memory.max")) / 2, 4 * GIB);
	}
	memory = MAX(ALIGN_DOWN(memory, CONFIG_MEMORY_UNIT), CONFIG_MEMORY_UNIT);
	if (!config->memory.start)
		config->memory = (struct ram_size){memory, memory};
	if (config->cpus)
		return;
	config->cpus = 1;
	if (config->command && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		config->cpus =
			(unsigned)MIN(MIN((uint64_t)CPU_COUNT(&cpus), cgroup_limit("cpu.max")), 8);
}

void config_destroy(struct vm_config *config)
{
	if (!config)
		return;
	for (size_t t = 0; config->devices && config->types && config->types[t]; t++) {
		const struct device_options *type = config->types[t];
		struct device_configs *devices = &config->devices[t];

		for (size_t i = 0; i < devices->num; i++)
			device_config_destroy(type, (char *)devices->all + i * type->size);
		free(devices->all);
	}
	free(config->devices);
	free(config->settings);
	list_free(config->sources);
	free(config->setup.bytes);
	settings_destroy(config, vm_settings);
	*config = (struct vm_config){0};
}

/* The file of device `i`, of all types together. */
static bool device_file(const struct vm_config *config, size_t i, struct config_file *ret)
{
	for (size_t t = 0; config->types && config->types[t]; t++) {
		const struct device_options *type = config->types[t];
		const char *devices;
		size_t num;

		devices = config_devices(config, type, &num);
		if (i < num) {
			*ret = (struct config_file){.what = type->what};
			if (type->file)
				type->file(devices + i * type->size, ret);
			return true;
		}
		i -= num;
	}
	return false;
}

unsigned config_result_fd(const struct vm_config *config)
{
	unsigned fd = 0;
	char rest;

	return config->result_path && sscanf(config->result_path, "fd=%9u%c", &fd, &rest) == 1 ? fd
											       : 0;
}

bool config_file(const struct vm_config *config, size_t i, struct config_file *ret)
{
	const char *result = config->result_path;
	unsigned result_fd = config_result_fd(config);
	const struct config_file own[] = {
		{result && (result_fd || strcmp(result, "-") == 0) ? NULL : result, "the result",
		 FILE_OUTPUT, result_fd},
		{config->control_path, "the control socket", FILE_OUTPUT, 0},
		{config->kernel, "the kernel", FILE_READ, 0},
	};

	if (i < ARRAY_SIZE(own)) {
		*ret = own[i];
		return true;
	}
	i -= ARRAY_SIZE(own);
	for (char **initrd = config->initrds; initrd && *initrd; initrd++)
		if (i-- == 0) {
			*ret = (struct config_file){*initrd, "the initrd", FILE_READ, 0};
			return true;
		}
	return device_file(config, i, ret);
}

/* No file may be both written and used otherwise, and nobody shares a socket or a descriptor. Other
 * names of a file are recognised when it is opened (output_check(), file_lock()). */
static bool clash(const struct config_file *a, const struct config_file *b)
{
	if (a->fd)
		return a->fd == b->fd;
	return a->path && b->path && MAX(a->use, b->use) >= FILE_WRITTEN &&
	       strcmp(a->path, b->path) == 0;
}

static int check_files(const struct vm_config *config, struct error *e)
{
	struct config_file a, b;
	char fd[32];

	for (size_t i = 0; config_file(config, i, &a); i++)
		for (size_t j = i + 1; config_file(config, j, &b); j++) {
			if (!clash(&a, &b))
				continue;
			snprintf(fd, sizeof(fd), "descriptor %u", a.fd);
			return error_set(
				e, -EINVAL, "'%.200s' is both %s and %s: give each its own",
				a.fd ? fd : a.path, a.what, a.what == b.what ? "another" : b.what);
		}
	return 0;
}

/* A path of the guest's and one of the host's. */
static int check_artifacts(char *const *artifact, struct error *e)
{
	for (; artifact && *artifact; artifact++) {
		const char *colon = strchr(*artifact, ':');

		if (!colon || colon == *artifact || !colon[1])
			return error_set(
				e, -EINVAL,
				"artifact: '%.200s': write what to copy and where to, like "
				"'build/log:log'",
				*artifact);
	}
	return 0;
}

/* The name is that of a directory. */
static int check_caches(char *const *cache, struct error *e)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

	for (; cache && *cache; cache++) {
		size_t len = strspn(*cache, letters);

		if (!len || len > 64 || **cache == '.' || strncmp(*cache + len, ":/", 2) != 0)
			return error_set(e, -EINVAL,
					 "cache: '%.200s': write a name of letters and digits and "
					 "where it is to be, like 'ccache:/root/.ccache'",
					 *cache);
	}
	return 0;
}

/* Nothing in it needs a shell's quotes, nor is it a path, an option or hidden; all that is in the name
 * of a systemd unit is allowed. */
static int check_name(const struct vm_config *config, struct error *e)
{
	const char *name = config->name;

	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(p > name ? "_:@\\.-" : "_:@\\", *p))
			return error_set(e, -EINVAL,
					 "name: '%s': write it with letters and digits, and after "
					 "the first one also '.' and '-'",
					 name);
	return 0;
}

int config_validate(const struct vm_config *config, struct error *e)
{
	for (size_t t = 0; config->types && config->types[t]; t++) {
		const struct device_options *type = config->types[t];
		const void *devices;
		size_t num;
		int r;

		devices = config_devices(config, type, &num);
		r = type->check ? type->check(devices, num, e) : 0;
		if (r < 0)
			return r;
	}
	if (config->terminal && config->no_terminal)
		return error_set(e, -EINVAL,
				 "terminal and no-terminal exclude each other: give one of them");
	if (!config->command && (config->env || config->env_files || config->user || config->root ||
				 config->cwd || config->expose || config->overlay_limit ||
				 config->kill_after_ns || config->caches || config->artifacts))
		return error_set(
			e, -EINVAL,
			"env, env-file, user, root, cwd, expose, disk-limit, kill-after, cache and "
			"artifact are a command's: skep run [OPTION...] -- COMMAND [ARG...]");
	if (check_caches(config->caches, e) < 0 || check_artifacts(config->artifacts, e) < 0)
		return -EINVAL;
	if (config->verbose && config->quiet)
		return error_set(e, -EINVAL,
				 "verbose and quiet exclude each other: give one of them");
	return check_name(config, e) ? -EINVAL : check_files(config, e);
}
