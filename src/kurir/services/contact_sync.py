"""Contact lists from WhatsApp while the gateway runs: a phone's address book, a group's members, who is on WhatsApp."""

from __future__ import annotations

from kurir.channels.linked_device.channel import LinkedDevices
from kurir.contacts import sync
from kurir.contacts.sync import CheckReport, NoSuchGroup, SyncReport
from kurir.messages.addresses import AddressError
from kurir.numbers.numbers import Number
from kurir.reasons import administration as refusals
from kurir.services.accounts import Accounts
from kurir.services.contacts import Contacts
from kurir.services.errors import Invalid, NotFound
from kurir.store.database import Database


class ContactSync:
    """Fills and checks lists of a number's account from its device.

    Raises DeviceUnavailable and DatabaseUnavailable throughout.
    """

    def __init__(
        self, database: Database, linked_devices: LinkedDevices, accounts: Accounts, contacts: Contacts
    ) -> None:
        self._database = database
        self._linked_devices = linked_devices
        self._accounts = accounts
        self._contacts = contacts

    async def sync(self, number: Number, group_id: str | None = None) -> SyncReport:
        """Takes the device's address book, or one group's members, into a list of the number's account.

        Raises Invalid for an invalid group id, and NotFound for a group that the number is not in.
        """
        account = await self._accounts.get(number.account_id)
        if group_id is None:
            return await sync.sync_contacts(self._database, self._linked_devices, account, number)
        try:
            return await sync.sync_group(self._database, self._linked_devices, account, number, group_id)
        except AddressError as error:
            raise Invalid("group_id", error.reason) from error
        except NoSuchGroup as error:
            raise NotFound("group_id", refusals.NO_GROUP()) from error

    async def check(self, number: Number, contact_key: str) -> CheckReport:
        """Asks WhatsApp about everybody in the list who was not checked yet. Raises NotFound."""
        account = await self._accounts.get(number.account_id)
        contact = await self._contacts.get(account.id, contact_key)
        return await sync.check_numbers(self._database, self._linked_devices, account, number, contact.id)
