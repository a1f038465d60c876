"""Find the network interface that leads to the other nodes."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress

ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux


def point_gloo_to(main_address: str) -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is set already, to the interface that leads to rank 0's address.

    Otherwise Gloo takes the interface of the host's own name. On many machines that name resolves to 127.0.0.1, and
    then one node fails and the other waits in silence.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((main_address, 9))  # sends nothing: it chooses the way
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                request = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(probe.fileno(), ADDRESS_OF_INTERFACE, request)[20:24]) == own:
                    os.environ["GLOO_SOCKET_IFNAME"] = name
