"""Network interfaces and connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import psutil

from receivers.hostmetrics.config import NetworkScraper, selected
from receivers.hostmetrics.conventions import (
    NETWORK_CONNECTION_COUNT,
    NETWORK_ERRORS,
    NETWORK_IO,
    NETWORK_PACKET_COUNT,
    NETWORK_PACKET_DROPPED,
    Attribute,
)
from receivers.hostmetrics.sensor import Observation, procfs

# The conventions' connection states by psutil's names for them, in the order in which the kernel numbers them from 1
# (include/net/tcp_states.h). To the outside, its 12th, a request half accepted, is a connection whose SYN was received.
_STATE_BY_NAME = {
    psutil.CONN_ESTABLISHED: "established",
    psutil.CONN_SYN_SENT: "syn_sent",
    psutil.CONN_SYN_RECV: "syn_received",
    psutil.CONN_FIN_WAIT1: "fin_wait_1",
    psutil.CONN_FIN_WAIT2: "fin_wait_2",
    psutil.CONN_TIME_WAIT: "time_wait",
    psutil.CONN_CLOSE: "closed",
    psutil.CONN_CLOSE_WAIT: "close_wait",
    psutil.CONN_LAST_ACK: "last_ack",
    psutil.CONN_LISTEN: "listen",
    psutil.CONN_CLOSING: "closing",
}
_STATES = tuple(_STATE_BY_NAME.values())
_STATE_BY_NUMBER = {b"%02X" % number: state for number, state in enumerate((*_STATES, "syn_received"), start=1)}


def interfaces(settings: NetworkScraper) -> Iterator[Observation]:
    """Yield what each selected interface has received and transmitted since it was there."""
    # Without psutil's own correction of counters that wrap, as for disks.
    for name, counters in psutil.net_io_counters(pernic=True, nowrap=False).items():
        if not selected(name, settings.include_interfaces, settings.exclude_interfaces):
            continue
        for direction, octets, packets, errors, dropped in (
            ("receive", counters.bytes_recv, counters.packets_recv, counters.errin, counters.dropin),
            ("transmit", counters.bytes_sent, counters.packets_sent, counters.errout, counters.dropout),
        ):
            attributes = {Attribute.NETWORK_INTERFACE_NAME: name, Attribute.NETWORK_IO_DIRECTION: direction}
            yield Observation(NETWORK_IO, octets, attributes)
            # For packets the conventions call the interface a device; the name is there as for all the others too.
            yield Observation(NETWORK_PACKET_COUNT, packets, attributes | {Attribute.SYSTEM_DEVICE: name})
            yield Observation(NETWORK_ERRORS, errors, attributes)
            yield Observation(NETWORK_PACKET_DROPPED, dropped, attributes)


def connections() -> Iterator[Observation]:
    """Yield the number of TCP connections by state, IPv4 and IPv6 together, states without any among them."""
    counts = _connections_of_kernel() if psutil.LINUX else _connections_of_psutil()
    for state in _STATES:
        attributes = {Attribute.NETWORK_TRANSPORT: "tcp", Attribute.NETWORK_CONNECTION_STATE: state}
        yield Observation(NETWORK_CONNECTION_COUNT, counts[state], attributes)


def _connections_of_kernel() -> Counter[str]:
    """Count the states in the kernel's tables.

    psutil would look through the open files of every process for the owner of each connection, which costs more than
    all other sensors together and needs root.
    """
    counts: Counter[str] = Counter()
    for name in ("tcp", "tcp6"):
        try:
            table = procfs("net", name).open("rb")
        except FileNotFoundError:
            continue  # a kernel without IPv6
        with table:
            next(table)
            counts.update(_STATE_BY_NUMBER.get(line.split(None, 4)[3], "unknown") for line in table)
    return counts


def _connections_of_psutil() -> Counter[str]:
    return Counter(_STATE_BY_NAME.get(each.status, "unknown") for each in psutil.net_connections("tcp"))
