"""A device's cached knowledge of people and groups: who is on WhatsApp, under which address, and who is in a group."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from kurir.channels.linked_device.engine_host.device import NeonizeDevice  # first: it prepares libmagic

# isort: split
from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID, GroupInfo, GroupParticipant
from neonize.utils.jid import JIDToNonAD

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host.engine_log_watch import phones_left_out
from kurir.channels.linked_device.engine_host.incoming_messages import GROUPS, PEOPLE, user_of
from kurir.messages import bounds
from kurir.messages.addresses import GROUP_SERVER, is_group
from kurir.messages.channel_reports import Refused
from kurir.reasons import messages

_GROUPS_FRESH = 5.0
"""Seconds for which "not in the list of groups" is valid without a new query."""


class DeviceDirectory:
    """A cache of what a device knows about people and groups."""

    def __init__(self, device: NeonizeDevice) -> None:
        self.device = device
        self._people: dict[str, JID] = {}
        self._lock = threading.Lock()
        self._groups: dict[str, GroupInfo] = {}
        self._groups_at = 0.0

    def refusal(self, recipient: str) -> Refused | None:
        """Why nothing can be sent to `recipient`, or None. Raises NeonizeError when WhatsApp does not answer."""
        if is_group(recipient):
            if recipient not in self.groups() and recipient not in self.groups(at_most_old=_GROUPS_FRESH):
                return Refused("not_a_group_member", messages.NOT_A_GROUP_MEMBER())
            return None
        if recipient in self._people or self._has_lid(recipient):
            return None
        if not self.on_whatsapp([recipient]).get(recipient, False):
            return Refused("not_on_whatsapp", messages.NOT_ON_WHATSAPP())
        return None

    def on_whatsapp(self, phones: list[str]) -> dict[str, bool]:
        """For each phone that the server answered for, whether it is on WhatsApp."""
        device = self.device
        found = device.call(lambda: device.client.is_on_whatsapp(*(f"+{phone}" for phone in phones)))
        known = {one.Query.partition("@")[0].lstrip("+"): one.IsIn for one in found}
        for one in found:
            if one.IsIn:
                phone = one.Query.partition("@")[0].lstrip("+")
                self._people[phone] = JIDToNonAD(one.JID) if one.JID.User else jid_of(phone)
        return {phone: known[phone] for phone in phones if phone in known}

    def address(self, recipient: str) -> JID:
        """The address that WhatsApp returned for this number, which may be written differently."""
        return self._people.get(recipient) or jid_of(recipient)

    def forget(self, recipient: str) -> None:
        """Drops `recipient` from the cache."""
        self._people.pop(recipient, None)

    def unreached(self, recipient: str, left_out: Collection[str]) -> bool:
        """Whether all phones of a message's recipients may be among `left_out`, the devices without a copy.

        Raises nothing: of a group that is not known now, one phone is enough.
        """
        me = self.device.look(self.device.client.get_me)
        phones = phones_left_out(left_out, (me.JID.User, me.LID.User))
        if not is_group(recipient):
            return bool(phones)
        group = self._groups.get(recipient)
        others = len(group.Participants) - 1 if group is not None else 1
        return bool(phones) and len(phones) >= others

    def groups(self, at_most_old: float | None = None) -> dict[str, GroupInfo]:
        """The groups by id; queried again when the engine reported a change or the list is older than `at_most_old`."""
        device = self.device
        with self._lock:
            old = at_most_old is not None and time.monotonic() - self._groups_at > at_most_old
            if device.groups_changed.is_set() or old:
                device.groups_changed.clear()
                try:
                    joined = device.call(device.client.get_joined_groups)
                except NeonizeError:
                    device.groups_changed.set()
                    raise
                self._groups = {user_of(group.JID) + GROUP_SERVER: group for group in joined}
                self._groups_at = time.monotonic()
            return self._groups

    def contacts(self) -> list[say.DeviceContact]:
        """The phone's address book, each phone number once, by name."""
        found: dict[str, say.DeviceContact] = {}
        for entry in self.device.look(self.device.client.contact.get_all_contacts):
            name = bounds.text(entry.Info.FullName or entry.Info.FirstName, bounds.NAME)
            phone = self.device.phone(entry.JID)
            if name and phone.isdigit():
                found.setdefault(phone, say.DeviceContact(name, phone))
        return sorted(found.values(), key=lambda contact: (contact.name.casefold(), contact.phone))

    def described_groups(self) -> list[say.DeviceGroup]:
        """The groups with their participants."""
        names = {contact.phone: contact.name for contact in self.contacts()}
        groups = self.groups(at_most_old=0.0)
        return [
            say.DeviceGroup(
                id_,
                bounds.text(group.GroupName.Name, bounds.NAME),
                [self._participant(one, names) for one in group.Participants],
            )
            for id_, group in groups.items()
        ]

    def _participant(self, one: GroupParticipant, names: dict[str, str]) -> say.DeviceParticipant:
        phone = self.device.phone(one.PhoneNumber, one.JID, one.LID)
        role = "superadmin" if one.IsSuperAdmin else "admin" if one.IsAdmin else "participant"
        shown = phone if phone.isdigit() else ""
        name = names.get(phone) or bounds.text(one.DisplayName, bounds.NAME)
        return say.DeviceParticipant(shown, name, role, phone in names)

    def _has_lid(self, phone: str) -> bool:
        """Whether the engine already knows this phone's LID, which it learns from WhatsApp only."""
        try:
            found = self.device.look(lambda: self.device.client.get_lid_from_pn(jid_of(phone)))
        except NeonizeError:
            return False
        if found.User:
            self._people[phone] = jid_of(phone)
        return bool(found.User)


def jid_of(recipient: str) -> JID:
    """The address of a phone number (digits) or group id before WhatsApp was asked about it."""
    if is_group(recipient):
        return JID(
            User=recipient.removesuffix(GROUP_SERVER), Server=GROUPS, RawAgent=0, Device=0, Integrator=0, IsEmpty=False
        )
    return JID(User=recipient, Server=PEOPLE, RawAgent=0, Device=0, Integrator=0, IsEmpty=False)
