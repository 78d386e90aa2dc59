"""What clients of this wire were configured with, and must find again after a restart: ports and the Noise identity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import structlog

from .certificates import NoiseIdentity, make_noise_identity

if TYPE_CHECKING:
    from kurir_sandbox.world import StateStore

log = structlog.get_logger(__name__)

SPACE = "web_wire"
"""The state space, which a reset of the world must keep."""


async def on_port(state: StateStore, name: str, wanted: int, listen: Callable[[int], Awaitable[int]]) -> int:
    """Lets `listen` take the port `wanted`, or (0) that of an earlier run if it is free, or any; returns it.

    Raises OSError when `wanted` is taken.
    """
    remembered = int(state.get(SPACE, f"{name}_port") or b"0")
    port = await _first_free([wanted] if wanted else [remembered, 0] if remembered else [0], listen)
    state.put(SPACE, f"{name}_port", str(port).encode())
    return port


async def _first_free(ports: list[int], listen: Callable[[int], Awaitable[int]]) -> int:
    for port in ports[:-1]:
        try:
            return await listen(port)
        except OSError:
            log.info("port_taken", port=port)
    return await listen(ports[-1])


def noise_identity(state: StateStore) -> NoiseIdentity:
    """The wire's Noise keys, made at the first start."""
    raw = state.get(SPACE, "noise_identity")
    if raw:
        return msgspec.msgpack.decode(raw, type=NoiseIdentity)
    identity = make_noise_identity()
    state.put(SPACE, "noise_identity", msgspec.msgpack.encode(identity))
    return identity
