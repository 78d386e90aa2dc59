"""Which Host names are answered while the status page is open to everybody. Pure.

A web page of a stranger can make its own name point at 127.0.0.1 (DNS rebinding) and would then read the open page in
its visitor's browser. The browser still sends the stranger's name as Host: only names that nobody else can own are
answered. Addresses cannot be pointed elsewhere, so any address is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from kurir.settings import Settings


def host_check(settings: Settings, base_url: str) -> Callable[[bytes], bool] | None:
    """A test of a Host header's value; None when everything may pass, because `status_page` is not `open`."""
    if settings.status_page != "open":
        return None
    urls = (base_url, settings.public_url, settings.gateway_url)
    names = {"localhost", settings.host.lower(), *(urlsplit(url).hostname or "" for url in urls)} - {""}

    def allowed(host: bytes) -> bool:
        name = _name(host.decode("latin-1"))
        return name in names or name.endswith(".localhost") or _is_address(name)

    return allowed


def _name(host: str) -> str:
    """The name or address without brackets, port and the root's dot, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
