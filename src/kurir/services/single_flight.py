"""One look-up for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kurir.store.database import counted_wait

K = TypeVar("K")
V = TypeVar("V")


class OneAtATime(Generic[K, V]):
    """Runs one look-up per key at a time; what it finds or raises is for everybody who waits for it.

    Finding nothing (None) is for the one who asked alone: the others then ask themselves, one after the other, so that
    a limit on wrong tries counts each of them.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Future[V | None]] = {}

    async def run(self, key: K, look_up: Callable[[], Awaitable[V | None]]) -> V | None:
        """The result of `look_up`, or of one for the same key that was under way. Raises what it raises."""
        while (other := self._under_way.get(key)) is not None:
            try:
                with counted_wait():
                    found = await asyncio.shield(other)
            except asyncio.CancelledError:
                if other.cancelled():
                    continue  # whoever looked up has gone, not the one who waits here
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
            mine.exception()  # nobody may have waited for it
            raise
        else:
            mine.set_result(found)
            return found
        finally:
            del self._under_way[key]
