/*
 * The floor: the messages that a repair needs at least, sent as cheaply as they can be.
 *
 *     floor POD-LIST      (one pod a line, as integration/bench/node.py writes it)
 *
 * Links are made through the node's socket, up at once, 50 to a send; for the rest (address, default
 * route) there is one socket and one send a pod. Failures are told unasked: only the last message of
 * a send asks for its answer. Before Linux 6.15 the node must not have a link of a pod's index.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_A_SEND 50
#define NEW (NLM_F_CREATE | NLM_F_EXCL)

struct pod {
    char name[64], path[128];
    int netns, index;
    unsigned int mtu, prefix_length;
    struct ether_addr mac;
    struct in_addr address, broadcast, gateway;
};

static char buffer[32768];
static size_t used;
static unsigned int sequence;
static struct nlmsghdr *message;

static void fail(const char *what, const char *about)
{
    fprintf(stderr, "floor: %s %s: %s\n", what, about, strerror(errno));
    exit(1);
}

/* --- Encoding --- */

static void begin(int type, int flags, const void *header, size_t length)
{
    message = (struct nlmsghdr *)(buffer + used);
    *message = (struct nlmsghdr){
        .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = ++sequence};
    memcpy(NLMSG_DATA(message), header, length);
    message->nlmsg_len = NLMSG_SPACE(length);
    used += NLMSG_SPACE(length);
}

static struct rtattr *put(int type, const void *value, size_t length)
{
    struct rtattr *attribute = (struct rtattr *)(buffer + used);

    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(length);
    memcpy(RTA_DATA(attribute), value, length);
    message->nlmsg_len += RTA_SPACE(length);
    used += RTA_SPACE(length);
    return attribute;
}

static void put_number(int type, unsigned int value)
{
    put(type, &value, sizeof value);
}

static void end_nest(struct rtattr *nest)
{
    nest->rta_len = buffer + used - (char *)nest;
}

static void add_link(const struct pod *pod, unsigned int master)
{
    struct ifinfomsg header = {.ifi_index = pod->index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct rtattr *info, *data;

    begin(RTM_NEWLINK, NEW, &header, sizeof header);
    put(IFLA_IFNAME, "eth0", 5);
    put_number(IFLA_LINK, master);
    put(IFLA_ADDRESS, &pod->mac, sizeof pod->mac);
    put_number(IFLA_MTU, pod->mtu);
    put_number(IFLA_TXQLEN, 0);
    put_number(IFLA_NET_NS_FD, pod->netns);
    info = put(IFLA_LINKINFO, "", 0);
    put(IFLA_INFO_KIND, "macvlan", 8);
    data = put(IFLA_INFO_DATA, "", 0);
    put_number(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
    end_nest(data);
    end_nest(info);
}

static void add_address(const struct pod *pod)
{
    struct ifaddrmsg header = {
        .ifa_family = AF_INET, .ifa_prefixlen = pod->prefix_length, .ifa_index = pod->index};

    begin(RTM_NEWADDR, NEW, &header, sizeof header);
    put(IFA_LOCAL, &pod->address, sizeof pod->address);
    put(IFA_ADDRESS, &pod->address, sizeof pod->address);
    put(IFA_BROADCAST, &pod->broadcast, sizeof pod->broadcast);
}

static void add_default_route(const struct pod *pod)
{
    struct rtmsg header = {
        .rtm_family = AF_INET,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_BOOT,
        .rtm_scope = RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST};

    begin(RTM_NEWROUTE, NEW, &header, sizeof header);
    put(RTA_GATEWAY, &pod->gateway, sizeof pod->gateway);
    put_number(RTA_OIF, pod->index);
}

/* --- Sockets --- */

static int open_socket(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd < 0)
        fail("socket", "NETLINK_ROUTE");
    return fd;
}

/* Sends what was encoded, and waits for the kernel's answer to the last of the messages. */
static void exchange(int fd, const char *about)
{
    static char answers[65536];

    message->nlmsg_flags |= NLM_F_ACK;
    if (send(fd, buffer, used, 0) < 0)
        fail("send", about);
    used = 0;
    for (;;) {
        int length = recv(fd, answers, sizeof answers, 0);
        struct nlmsghdr *answer = (struct nlmsghdr *)answers;

        if (length < 0)
            fail("recv", about);
        for (; NLMSG_OK(answer, length); answer = NLMSG_NEXT(answer, length)) {
            errno = -((struct nlmsgerr *)NLMSG_DATA(answer))->error;
            if (errno)
                fail("kernel", about);
            if (answer->nlmsg_seq == sequence)
                return;
        }
    }
}

/* --- Pods --- */

static int read_pods(FILE *list, struct pod *pods)
{
    char line[512], mac[32], address[32], broadcast[32], gateway[32];
    int count = 0;

    while (count < MESSAGES_A_SEND && fgets(line, sizeof line, list)) {
        struct pod *pod = &pods[count++];

        if (sscanf(line, "%63s %127s %d %31s %u %31s %u %31s %31s", pod->name, pod->path,
                   &pod->index, mac, &pod->mtu, address, &pod->prefix_length, broadcast,
                   gateway) != 9 || !ether_aton_r(mac, &pod->mac) ||
            !inet_aton(address, &pod->address) || !inet_aton(broadcast, &pod->broadcast) ||
            !inet_aton(gateway, &pod->gateway)) {
            errno = EINVAL;
            fail("line", line);
        }
        pod->netns = open(pod->path, O_RDONLY | O_CLOEXEC);
        if (pod->netns < 0)
            fail("open", pod->path);
    }
    return count;
}

static void configure(const struct pod *pod)
{
    int fd;

    if (setns(pod->netns, CLONE_NEWNET))
        fail("setns", pod->path);
    fd = open_socket();
    add_address(pod);
    add_default_route(pod);
    exchange(fd, pod->name);
    close(fd);
    close(pod->netns);
}

int main(int argc, char **argv)
{
    static struct pod pods[MESSAGES_A_SEND];
    unsigned int master = if_nametoindex("eth0");
    int node = open_socket(), count;
    FILE *list = argc == 2 ? fopen(argv[1], "re") : NULL;

    if (!master || !list)
        fail(master ? "list" : "link", master ? "of pods" : "eth0");
    while ((count = read_pods(list, pods)) > 0) {
        for (int i = 0; i < count; i++)
            add_link(&pods[i], master);
        exchange(node, "links");
        for (int i = 0; i < count; i++)
            configure(&pods[i]);
    }
    return 0;
}
