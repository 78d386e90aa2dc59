"""Delivers what waits in a database (file or URL) until it is killed: `python -m tests.reliability.webhook_child …`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.harness.webhooks import delivering

from kurir.store.database import Database


async def main(where: Path | str) -> None:
    database = Database(where)
    await database.start()
    async with delivering(database):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])))
