"""Rules for which URLs of strangers may be fetched: on their text, host and resolved addresses.

Pure: no DNS, no sockets. A URL sent by a caller must not reach anything that only this machine or its network can reach
(server-side request forgery). The rule is an explicit list of what is refused: Python's `is_global` lets NAT64, 6to4,
IPv4-compatible, multicast and several reserved addresses through.

Sources of the list: the IANA special-purpose address registries (RFC 6890 and its updates) and the addresses at which
clouds serve credentials to their machines.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from yarl import URL

from kurir.reasons import ReasonedError
from kurir.reasons import media as reasons
from kurir.settings import SettingsError

URL_LENGTH = 2048
"""Maximum number of characters in a URL."""
PORTS = frozenset({80, 443})
"""Ports of the public web; others only on allowed networks."""

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; one cloud's metadata lives here
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's machine agent, on a public-looking address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")
"""All public unicast lies here: outside are loopback, mapped, link-local, fc00::/7, fec0::/10, multicast, …"""
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: contains an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the returned 6bone
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""The well-known translation prefix: the last 32 bits are the IPv4 address that is reached."""

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_NUMBER_AT_THE_END = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\Z")


class UrlRefused(ReasonedError):  # noqa: N818 - an outcome, not a mistake
    """A URL that is never fetched; `reason` is for the caller and reveals nothing about the internal network."""


class Allowed(NamedTuple):
    """What the operator allowed in `KURIR_ALLOWED_NETWORKS`, in addition to the public web.

    A network allows its addresses on all ports, under any name. A `host:port` pair allows exactly that host, as written
    in the URL, on that port, whatever address it resolves to.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    pairs: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Allowed:
        """Reads the setting's entries. Raises SettingsError naming the one that is neither CIDR nor `host:port`."""
        networks: list[IPv4Network | IPv6Network] = []
        pairs: set[tuple[str, int]] = set()
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry))
                continue
            except ValueError:
                host, _, port = entry.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535 or "/" in host:
                raise SettingsError(
                    f"KURIR_ALLOWED_NETWORKS: expected a network such as 10.0.0.0/8, or host:port, got {entry!r}"
                )
            pairs.add((host.strip("[]").lower(), int(port)))
        return cls(tuple(networks), frozenset(pairs))


def check_url(text: str, allowed: Allowed) -> URL:
    """Parses and checks a URL; raises UrlRefused. Checks the text and literal addresses only, without DNS."""
    text = text.strip()
    if not text:
        raise UrlRefused(reasons.URL_EMPTY())
    if len(text) > URL_LENGTH:
        raise UrlRefused(reasons.URL_TOO_LONG(most=URL_LENGTH))
    if not text.isprintable():
        raise UrlRefused(reasons.URL_CHARACTER())
    scheme, separator, rest = text.partition("://")
    if scheme.lower() not in {"http", "https"} or not separator:
        raise UrlRefused(reasons.URL_SCHEME())
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise UrlRefused(reasons.URL_CREDENTIALS())
    if re.search(r"[%\\\s]", authority):
        raise UrlRefused(reasons.URL_HOST())
    try:
        url = URL(text).with_fragment(None)
        host = (url.raw_host or "").removesuffix(".")
        port = url.port or 0
    except (ValueError, UnicodeError) as error:
        raise UrlRefused(reasons.URL_INVALID()) from error
    if authority.startswith("[") and not isinstance(_literal(host), IPv6Address):
        raise UrlRefused(reasons.URL_HOST())
    _check_host(host, port, allowed)
    return url


def _check_host(host: str, port: int, allowed: Allowed) -> None:
    address = _literal(host)
    if (host, port) in allowed.pairs:
        return
    if address is not None:
        check_address(address, port, allowed)
        return
    if not _NAME.match(host) or _NUMBER_AT_THE_END.search(host):
        raise UrlRefused(reasons.URL_HOST())
    if port not in PORTS and not allowed.networks:
        raise UrlRefused(reasons.URL_PORT())
    if (host == "localhost" or host.endswith(".localhost")) and not allowed.networks:
        raise UrlRefused(reasons.URL_NOT_PUBLIC())


def check_address(address: IPv4Address | IPv6Address, port: int, allowed: Allowed) -> None:
    """Raises UrlRefused for an address, literal or resolved, that is not public or whose port is not a web port."""
    address = _reached(address)
    if any(address.version == network.version and address in network for network in allowed.networks):
        return
    if not is_public(address):
        raise UrlRefused(reasons.URL_NOT_PUBLIC())
    if port not in PORTS:
        raise UrlRefused(reasons.URL_PORT())


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address belongs to the public internet; mapped and translated ones count as the address they
    reach."""
    address = _reached(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return (
        address.scope_id is None and address in _UNICAST_V6 and not any(address in network for network in _REFUSED_V6)
    )


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
