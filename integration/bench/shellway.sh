#!/bin/sh
# The incident's own repair of a pod, for each of the pods in the list $1: nine commands. Seven are
# those that were typed then; two more give the MAC and the MTU back. `ip` stands for its ifconfig
# and route, which are slower by nothing; index and queue length go along with the first.
set -eu
while read -r pod _ index mac mtu address prefix _ gateway subnet; do
    ip link add macvlan1 link eth0 index "$index" txqueuelen 0 type macvlan mode bridge
    ip link set macvlan1 netns "$pod"
    ip netns exec "$pod" ip link set macvlan1 name eth0
    ip netns exec "$pod" ip link set eth0 address "$mac"
    ip netns exec "$pod" ip link set eth0 mtu "$mtu"
    ip netns exec "$pod" ip address add "$address/$prefix" broadcast + dev eth0
    ip netns exec "$pod" ip link set eth0 up
    ip netns exec "$pod" ip route add default via "$gateway" dev eth0
    # The kernel made this one already: `route add -net` made it a second time.
    ip netns exec "$pod" \
        ip route replace "$subnet" dev eth0 proto kernel scope link src "$address"
done <"$1"
