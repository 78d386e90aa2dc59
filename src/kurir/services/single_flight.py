"""One look-up for concurrent callers with the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kurir.store.database import counted_wait

K = TypeVar("K")
V = TypeVar("V")


class OneAtATime(Generic[K, V]):
    """Runs one look-up per key at a time; all its callers get its result or exception.

    The result None is for the first caller only: the others then look up themselves, one after the other, so that a
    limit on wrong tries counts each of them.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Future[V | None]] = {}

    async def run(self, key: K, look_up: Callable[[], Awaitable[V | None]]) -> V | None:
        """The result of `look_up`, or of one in progress for the same key. Raises what it raises."""
        while (other := self._under_way.get(key)) is not None:
            try:
                with counted_wait():
                    found = await asyncio.shield(other)
            except asyncio.CancelledError:
                if other.cancelled():
                    continue  # the caller that looked up was cancelled, not this one
                raise
            if found is not None:
                return found
        self._under_way[key] = mine = asyncio.get_running_loop().create_future()
        try:
            found = await look_up()
        except asyncio.CancelledError:
            mine.cancel()
            raise
        except BaseException as error:
            mine.set_exception(error)
            mine.exception()  # possibly nobody waits for it
            raise
        else:
            mine.set_result(found)
            return found
        finally:
            del self._under_way[key]
