"""Delivers what waits in the database FILE until it is killed: `python -m tests.reliability.webhook_child FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.webhook_desk import delivering

from kurir.foundation.database import Database


async def main(path: Path) -> None:
    database = Database(path)
    await database.start()
    async with delivering(database):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
