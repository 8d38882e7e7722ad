// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The companion of a package that has no object file in its payload. It loads the program itself and puts it into the
 * slot that the agent gives it by --map-name. From then on the agent has the program in the chain. The maps are pinned
 * at the paths of l3afd's layout, and maps that are pinned there already are used.
 *
 *   program_loader --iface=eth1 --direction=xdpingress --version=1_0 --map-name=<pin> --name=<program> --object=<file>
 * --function=<name>
 *
 * --once: exits when that is done. --fail-after-ms: exits with status 1 after that time. --kind: xdp or tc, if it
 * differs from the hook's. SIGHUP makes it load the program again.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static const char *iface = "", *direction = "xdpingress", *version = "", *slot = "", *name = "", *object_name = "";
static const char *function = "", *kind = "";

static void fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

/* Makes a directory and its parents. */
static void make_dirs(char *path)
{
	for (char *end = path + 1; *end; end++) {
		if (*end != '/')
			continue;
		*end = '\0';
		mkdir(path, 0755);
		*end = '/';
	}
	mkdir(path, 0755);
}

static struct bpf_object *open_object(void)
{
	char self[PATH_MAX] = "", path[PATH_MAX * 2];
	struct bpf_object *object;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		fail("/proc/self/exe", errno);
	snprintf(path, sizeof(path), "%s/%s", dirname(self), object_name);
	object = bpf_object__open_file(path, NULL);
	if (!object)
		fail(path, errno);
	return object;
}

static void pin_maps(struct bpf_object *object)
{
	int xdp = strcmp(direction, "xdpingress") == 0;
	char dir[PATH_MAX], path[PATH_MAX * 2];
	/* The slot is pinned below the bpffs too, so its path contains the mount point. */
	const char *progs = strstr(slot, "/progs/");
	int bpffs = progs ? (int)(progs - slot) : 0;
	struct bpf_map *map;

	snprintf(dir, sizeof(dir), "%.*s%s/%s/%s/%s", bpffs, slot, xdp ? "" : "/tc/globals", iface, name, version);
	make_dirs(dir);
	bpf_object__for_each_map(map, object) {
		if (bpf_map__is_internal(map))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, bpf_map__name(map));
		/* libbpf uses maps that are pinned there, and pins those that are not. */
		if (bpf_map__set_pin_path(map, path))
			fail(path, errno);
	}
}

static int load(struct bpf_object *object)
{
	int xdp = strcmp(*kind ? kind : strcmp(direction, "xdpingress") == 0 ? "xdp" : "tc", "xdp") == 0, error;
	struct bpf_program *program, *chosen = NULL;

	bpf_object__for_each_program(program, object) {
		if (strcmp(bpf_program__name(program), function) == 0)
			chosen = program;
		else
			bpf_program__set_autoload(program, false);
	}
	if (!chosen)
		fail(function, ENOENT);
	/* All programs of a chain must agree in both. */
	bpf_program__set_type(chosen, xdp ? BPF_PROG_TYPE_XDP : BPF_PROG_TYPE_SCHED_CLS);
	bpf_program__set_expected_attach_type(chosen, xdp ? BPF_XDP : 0);
	pin_maps(object);
	error = bpf_object__load(object);
	if (error)
		fail("load", error);
	return bpf_program__fd(chosen);
}

static void put_into_slot(int program)
{
	int fd = bpf_obj_get(slot), key = 0;

	if (fd < 0)
		fail(slot, fd);
	if (bpf_map_update_elem(fd, &key, &program, BPF_ANY))
		fail("the slot", errno);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "iface", required_argument, NULL, 'i' },     { "direction", required_argument, NULL, 'd' },
		{ "version", required_argument, NULL, 'v' },   { "map-name", required_argument, NULL, 's' },
		{ "log-dir", required_argument, NULL, 'l' },   { "name", required_argument, NULL, 'n' },
		{ "object", required_argument, NULL, 'o' },    { "function", required_argument, NULL, 'f' },
		{ "once", optional_argument, NULL, '1' },      { "fail-after-ms", required_argument, NULL, 'x' },
		{ "kind", required_argument, NULL, 'k' },      {},
	};
	int option, got, once = 0;
	long fail_after = 0;
	struct timespec life;
	sigset_t stop;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'i': iface = optarg; break;
		case 'd': direction = optarg; break;
		case 'v': version = optarg; break;
		case 's': slot = optarg; break;
		case 'n': name = optarg; break;
		case 'o': object_name = optarg; break;
		case 'f': function = optarg; break;
		case '1': once = 1; break;
		case 'x': fail_after = atol(optarg); break;
		case 'k': kind = optarg; break;
		case 'l': break;
		default: return 2;
		}
	}
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGHUP);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	put_into_slot(load(open_object()));
	printf("loaded %s for %s\n", function, iface);
	fflush(stdout);
	if (once)
		return 0;
	life = (struct timespec){ .tv_sec = fail_after / 1000, .tv_nsec = fail_after % 1000 * 1000000 };
	while ((got = sigtimedwait(&stop, NULL, fail_after > 0 ? &life : NULL)) == SIGHUP)
		put_into_slot(load(open_object()));
	return got < 0;
}
