// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The companion of port-count: reads its maps at the paths of l3afd's layout and exports them by UDP, as text:
 *
 *   packets 1204
 *   port 443 1100
 *
 * It sends one datagram for each line, at every interval and once more at the end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *iface = "", *direction = "xdpingress", *version = "", *bpffs = "/sys/fs/bpf";
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int open_map(const char *name)
{
	const char *base = strcmp(direction, "xdpingress") == 0 ? "" : "/tc/globals";
	union bpf_attr attr = {};
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s%s/%s/port-count/%s/%s", bpffs, base, iface, version, name);
	attr.pathname = (uint64_t)(uintptr_t)path;
	fd = bpf(BPF_OBJ_GET, &attr);
	if (fd < 0) {
		fprintf(stderr, "cannot open %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static int look_up(int map, const void *key, void *value)
{
	union bpf_attr attr = {
		.map_fd = map,
		.key = (uint64_t)(uintptr_t)key,
		.value = (uint64_t)(uintptr_t)value,
	};

	return bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

static int next_key(int map, const void *key, void *next)
{
	union bpf_attr attr = {
		.map_fd = map,
		.key = (uint64_t)(uintptr_t)key,
		.next_key = (uint64_t)(uintptr_t)next,
	};

	return bpf(BPF_MAP_GET_NEXT_KEY, &attr);
}

static void send_line(int to, const char *format, unsigned port, uint64_t count)
{
	char line[64];
	int length = snprintf(line, sizeof(line), format, (unsigned long long)count, port);

	/* There may be no listener yet; the next datagram repeats everything. */
	if (send(to, line, (size_t)length, 0) < 0 && errno != ECONNREFUSED)
		perror("send");
}

static void export(int to, int total, int ports)
{
	uint16_t port = 0, next = 0;
	uint32_t zero = 0;
	uint64_t count;
	int first = 1;

	if (look_up(total, &zero, &count) == 0)
		send_line(to, "packets %llu", 0, count);
	while (next_key(ports, first ? NULL : &port, &next) == 0) {
		first = 0;
		port = next;
		if (look_up(ports, &port, &count) == 0)
			send_line(to, "port %2$u %1$llu", port, count);
	}
}

static int connect_to(const char *collector)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char host[64];
	unsigned port;
	int fd;

	if (sscanf(collector, "%63[^:]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		fprintf(stderr, "--collector must be <IPv4 address>:<port>, got %s\n", collector);
		exit(2);
	}
	address.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror("socket");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "iface", required_argument, NULL, 'i' },     { "direction", required_argument, NULL, 'd' },
		{ "version", required_argument, NULL, 'v' },   { "log-dir", required_argument, NULL, 'l' },
		{ "bpffs", required_argument, NULL, 'b' },     { "collector", required_argument, NULL, 'c' },
		{ "interval-ms", required_argument, NULL, 'n' }, {},
	};
	const char *collector = "127.0.0.1:2055";
	struct sigaction action = { .sa_handler = stop };
	long interval = 1000;
	int option, to, total, ports;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'i': iface = optarg; break;
		case 'd': direction = optarg; break;
		case 'v': version = optarg; break;
		case 'b': bpffs = optarg; break;
		case 'c': collector = optarg; break;
		case 'n': interval = atol(optarg); break;
		case 'l': break;
		default: return 2;
		}
	}
	sigaction(SIGTERM, &action, NULL);
	to = connect_to(collector);
	total = open_map("packet_count");
	ports = open_map("port_packets");
	printf("exporting to %s\n", collector);
	fflush(stdout);
	while (!stopped) {
		struct timespec pause = { .tv_sec = interval / 1000, .tv_nsec = interval % 1000 * 1000000 };

		export(to, total, ports);
		nanosleep(&pause, NULL);
	}
	export(to, total, ports);
	return 0;
}
