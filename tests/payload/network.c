/* SPDX-License-Identifier: Apache-2.0
 *
 * "network": the devices of this network namespace and their addresses, as rtnetlink tells them.
 * "tcp": a connection on the loopback device that this process has both ends of.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "out.h"
#include "verbs.h"

static char answers[1 << 16];

static void address_text(const char *name, int family, const void *bytes)
{
	char text[INET6_ADDRSTRLEN];

	j_kstr(name, inet_ntop(family, bytes, text, sizeof(text)));
}

static void show_link(const struct ifinfomsg *link, int size)
{
	char text[64] = "";

	j_open('{');
	j_kint("index", link->ifi_index);
	j_kint("flags", link->ifi_flags);
	for (const struct rtattr *at = IFLA_RTA(link); RTA_OK(at, size); at = RTA_NEXT(at, size)) {
		const unsigned char *data = RTA_DATA(at);

		if (at->rta_type == IFLA_IFNAME)
			j_kstr("name", (const char *)data);
		else if (at->rta_type == IFLA_MTU)
			j_kint("mtu", *(const unsigned *)data);
		else if (at->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(at) == 6)
			snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", data[0], data[1], data[2],
				 data[3], data[4], data[5]);
	}
	j_kstr("address", text);
	j_close('}');
}

static void show_address(const struct ifaddrmsg *address, int size)
{
	unsigned flags = address->ifa_flags;

	j_open('{');
	j_kint("index", address->ifa_index);
	j_kint("prefix", address->ifa_prefixlen);
	j_kint("scope", address->ifa_scope);
	for (const struct rtattr *at = IFA_RTA(address); RTA_OK(at, size); at = RTA_NEXT(at, size)) {
		const void *data = RTA_DATA(at);

		if (at->rta_type == IFA_ADDRESS)
			address_text("address", address->ifa_family, data);
		else if (at->rta_type == IFA_LOCAL)
			address_text("local", address->ifa_family, data);
		else if (at->rta_type == IFA_BROADCAST)
			address_text("broadcast", address->ifa_family, data);
		else if (at->rta_type == IFA_LABEL)
			j_kstr("label", data);
		else if (at->rta_type == IFA_RT_PRIORITY)
			j_kint("metric", *(const unsigned *)data);
		else if (at->rta_type == IFA_FLAGS)
			flags = *(const unsigned *)data;
	}
	j_kint("flags", flags);
	j_close('}');
}

static void dump(int fd, int type)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg body;
	} request = {0};

	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = type;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (send(fd, &request, sizeof(request), 0) < 0)
		return;
	for (;;) {
		ssize_t size = recv(fd, answers, sizeof(answers), 0);

		if (size <= 0)
			return;
		for (struct nlmsghdr *at = (struct nlmsghdr *)answers; NLMSG_OK(at, size); at = NLMSG_NEXT(at, size)) {
			if (at->nlmsg_type == NLMSG_DONE || at->nlmsg_type == NLMSG_ERROR)
				return;
			if (at->nlmsg_type == RTM_NEWLINK)
				show_link(NLMSG_DATA(at), IFLA_PAYLOAD(at));
			if (at->nlmsg_type == RTM_NEWADDR)
				show_address(NLMSG_DATA(at), IFA_PAYLOAD(at));
		}
	}
}

int verb_network(int argc, char **argv)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	(void)argc;
	(void)argv;
	j_open('{');
	j_kstr("verb", "network");
	j_key("links");
	j_open('[');
	dump(fd, RTM_GETLINK);
	j_close(']');
	j_key("addresses");
	j_open('[');
	dump(fd, RTM_GETADDR);
	j_close(']');
	j_close('}');
	j_line_end();
	close(fd);
	return 0;
}

/* tcp open: connect; tcp say TEXT: send it from one end to the other, in a later verb of the same process */
int verb_tcp(int argc, char **argv)
{
	static int ends[2];
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	char text[64] = "";
	int error = 0;

	if (argc == 2) {
		int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0 ||
		    getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
		    connect(ends[0], (struct sockaddr *)&address, size) < 0)
			error = errno;
		ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		close(listener);
	} else if (write(ends[0], argv[2], strlen(argv[2])) < 0 || read(ends[1], text, sizeof(text) - 1) < 0) {
		error = errno;
	}
	j_open('{');
	j_kstr("verb", "tcp");
	j_kstr("data", text);
	if (error)
		j_kerrno(error);
	j_close('}');
	j_line_end();
	return 0;
}
