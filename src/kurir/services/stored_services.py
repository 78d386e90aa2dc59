"""The services that need nothing but the database, and how a command gets them over the data folder.

This is the command line's composition: `kurir.app` does the same for a running gateway, with the running parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from kurir.data_folder import open_data_folder
from kurir.kit.clock import Clock, system_clock
from kurir.kit.safe_fetch import SafeFetch
from kurir.kit.sealing import Sealing
from kurir.kit.url_rules import Allowed
from kurir.services.accounts import Accounts
from kurir.services.contacts import Contacts
from kurir.services.messages import Messages
from kurir.services.numbers import Numbers
from kurir.services.quarantine import Quarantine
from kurir.services.webhooks import Webhooks
from kurir.settings import Settings
from kurir.store.database import LONG_WORK, Database


@dataclass(frozen=True, slots=True)
class StoredServices:
    """What can be done with the data alone, whether or not a gateway runs."""

    accounts: Accounts
    numbers: Numbers
    messages: Messages
    quarantine: Quarantine
    webhooks: Webhooks
    contacts: Contacts


def stored_services(
    settings: Settings,
    database: Database,
    sealing: Sealing,
    clock: Clock,
    poster: Callable[[], AbstractAsyncContextManager[SafeFetch]],
    *,
    number_due: Callable[[int, int], None] = lambda _account_id, _number_id: None,
) -> StoredServices:
    """The services on a started database; `number_due` as in `Numbers`."""
    return StoredServices(
        accounts=Accounts(database, sealing, clock),
        numbers=Numbers(database, sealing, clock, number_due),
        messages=Messages(database, clock),
        quarantine=Quarantine(database),
        webhooks=Webhooks(database, sealing, clock, allowed=Allowed.parse(settings.allowed_networks), poster=poster),
        contacts=Contacts(database, clock),
    )


@asynccontextmanager
async def over_data_folder(settings: Settings, *, create: bool = False) -> AsyncGenerator[StoredServices]:
    """The services over a data folder, beside a running gateway or without one; with `create` it is made.

    Raises what `open_data_folder` raises.
    """
    database, sealing = await asyncio.to_thread(open_data_folder, settings, create=create)
    await database.start(timeout=LONG_WORK)  # only the person at the terminal waits for a long list

    @asynccontextmanager
    async def poster() -> AsyncGenerator[SafeFetch]:
        fetch = SafeFetch(settings)
        await fetch.start()
        try:
            yield fetch
        finally:
            await fetch.close()

    try:
        yield stored_services(settings, database, sealing, system_clock, poster)
    finally:
        await database.close()
