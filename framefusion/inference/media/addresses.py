"""Connections to the public part of the network only.

The address that is checked is the one that is connected to, so no name leads elsewhere when asked again.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from http.client import HTTPConnection, HTTPSConnection

from framefusion.core.errors import AddressError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SECONDS = 20
"""To connect, and for each piece of an answer."""

# Addresses that carry another one inside (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public network: not this machine's, a private, link-local or reserved one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _carried(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 one."""
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def connected(host: str, port: int) -> socket.socket:
    """A connection to the first address of `host` that answers. Raises AddressError if one of them is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host} is not found", getattr(error, "strerror", None) or str(error)) from None
    for *_, place in found:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if not is_public(address):
            raise AddressError(
                f"{host} is not fetched from",
                f"{address} is an address of this machine or of a private network",
                "fetch it yourself and name the file",
            )
    trouble: OSError | None = None
    for kind, way, protocol, _, place in found:
        plug = socket.socket(kind, way, protocol)
        plug.settimeout(SECONDS)
        try:
            plug.connect(place)
            return plug
        except OSError as error:
            trouble = error
            plug.close()
    assert trouble is not None
    raise trouble


class PublicConnection(HTTPConnection):
    """HTTP to a public address."""

    def connect(self) -> None:
        self.sock = connected(self.host, self.port)


class PublicSecureConnection(HTTPSConnection):
    """HTTPS to a public address, whose certificate is that of the host's name."""

    def connect(self) -> None:
        plain = connected(self.host, self.port)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
