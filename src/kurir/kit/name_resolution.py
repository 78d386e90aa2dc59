"""Resolves host names of strangers' URLs: checks every address, and shares the look-ups between accounts."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

from aiohttp.abc import AbstractResolver, ResolveResult

from kurir.kit.fair_sharing import Turns
from kurir.kit.url_rules import Allowed, check_address

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives all addresses of a host name (for a port); raises OSError."""

LookUp = Callable[[str, int], list[str]]
"""The same, as a blocking call."""

NAME_WAIT = 10.0
"""Seconds that a name look-up waits for its account's turn."""
account_of_task: ContextVar[int] = ContextVar("account", default=0)
"""The account whose request this task makes; the connector passes no argument for it to the resolver."""


class CheckedResolver(AbstractResolver):
    """Resolves for the connector, which connects only to the returned addresses: if one is refused, none is used."""

    def __init__(self, resolve: Resolve, allowed: Allowed) -> None:
        self._resolve = resolve
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        named = (host.removesuffix("."), port) in self._allowed.pairs
        found: list[ResolveResult] = []
        for text in await self._resolve(host, port):
            address = ipaddress.ip_address(text)
            if not named:
                check_address(address, port, self._allowed)
            version = socket.AF_INET if address.version == 4 else socket.AF_INET6
            found.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=version,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return found

    async def close(self) -> None:
        """Nothing to close."""


class SystemNames:
    """The system's name resolution on its own threads, shared by accounts in turns."""

    def __init__(self, threads: int, look_up: LookUp | None) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")
        self._turns = Turns(threads)
        self._look_up = look_up or _look_up

    async def resolve(self, host: str, port: int) -> list[str]:
        """All addresses of `host`, in the system's order of preference. Raises OSError."""
        account = account_of_task.get()
        try:
            async with asyncio.timeout(NAME_WAIT):
                await self._turns.enter(account)
        except TimeoutError:
            raise OSError(socket.EAI_AGAIN, "its account has too many slow look-ups under way") from None
        found = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port)
        # a look-up cannot be stopped: when the caller gives up, the thread and the place stay in use
        found.add_done_callback(lambda _: self._turns.leave(account))
        return await asyncio.shield(found)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
