"""The engine on neonize (whatsmeow): a table of devices, and the commands carried out on them.

Runs only inside a host process. Opening and closing come one at a time; all other commands may come from several
threads at once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import assert_never

from kurir.channels.linked_device.engine_host.device import NeonizeDevice  # first: it readies libmagic
from kurir.reasons import Reason, messages, numbers, sentence

# isort: split
from neonize.exc import NeonizeError, SendMessageError, UploadError
from neonize.proto.Neonize_pb2 import JID, GroupInfo, GroupParticipant
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, MediaType
from neonize.utils.jid import JIDToNonAD

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host import optional_enums, threads
from kurir.channels.linked_device.engine_host.client_map_lock import ClientMapLock
from kurir.channels.linked_device.engine_host.engine_errors import outcome_of, without_places
from kurir.channels.linked_device.engine_host.engine_log_watch import Unencrypted, phones_left_out
from kurir.channels.linked_device.engine_host.incoming_messages import GROUPS, PEOPLE, user_of
from kurir.channels.linked_device.engine_host.media_fetches import Limits
from kurir.channels.linked_device.engine_host.protobufs import NotSupportedError, Uploaded, compose
from kurir.kit import crash_points
from kurir.media import previews
from kurir.messages import bounds
from kurir.messages.addresses import GROUP_SERVER, is_group
from kurir.messages.content import Image, MediaFile, Outgoing
from kurir.messages.reports import InDoubt, NotConnected, Refused, Sent, TryLater

_GROUPS_FRESH = 5.0
"""Seconds for which "not in the list of groups" is believed without asking again."""
_OPEN_AGAIN = 30.0
"""Seconds until a device that could not be opened is tried again, for want of disk or threads."""

_LIBRARY = "neonize-linux"
"""Part of the engine library's file name."""


class UnavailableError(NeonizeError):
    """The device cannot be asked now, for a reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(sentence(reason, "en"))
        self.reason = reason


class NeonizeEngine:
    """All devices of one host."""

    def __init__(self, emit: say.Emit, media_limit: int, media_seconds: float = 120.0, reserve: int = 0) -> None:
        self._emit = emit
        self._limits = Limits(media_limit, media_seconds, reserve=reserve)
        self._client_map_lock = ClientMapLock()
        self._unencrypted = Unencrypted(self._store_failed, self._undecodable)
        try:
            optional_enums.relax(_LIBRARY)
        except (optional_enums.DescriptorNotFoundError, OSError) as error:
            # an event with an unknown value then ends its device's event stream, which is opened anew
            emit(say.Trouble(0, f"unknown values of the engine's events end its event stream: {error}", "not_relaxed"))
        self._devices: dict[int, NeonizeDevice] = {}
        self._books: dict[int, _Book] = {}

    def perform(self, command: say.Command) -> say.HostReply:
        """Carries out one command. Never raises."""
        try:
            return self._perform(command)
        except UnavailableError as error:
            return say.Failed(error.reason)
        except Exception as error:
            self._report(command, error)
            if isinstance(command, say.Send):  # on the wire: what fails before that is answered in `_send`
                return InDoubt(messages.ENGINE_FAILED_WHILE())
            return say.Failed(numbers.NO_ANSWER() if isinstance(error, NeonizeError) else numbers.ENGINE_FAILED())

    def _perform(self, command: say.Command) -> say.HostReply:  # noqa: PLR0911, PLR0912  (one per command)
        match command:
            case say.Ping():
                devices = list(self._devices.items())
                journals = [say.JournalState(number, *device.backlog()) for number, device in devices]
                return say.Alive(journals, threads.failing())
            case say.Open(device=number):
                if number not in self._devices:
                    return self._open(command)
                return say.Done()
            case say.Close(device=number):
                device = self._devices.pop(number, None)
                self._books.pop(number, None)
                if device is not None:
                    device.stop()
                return say.Done()
            case say.Send(device=number):
                return self._send(number, command)
            case say.Stored(device=number, entries=entries):
                device = self._devices.get(number)
                if device is not None:
                    device.stored(entries)
                return say.Done()
            case say.Replay(device=number, payload=payload):
                device = self._devices.get(number)
                if device is None:
                    return say.Failed(numbers.NOT_OPEN())
                device.replay(payload)
                return say.Done()
            case say.LookUp(device=number, phones=phones):
                return say.OnWhatsApp(self._connected(number).on_whatsapp(phones))
            case say.ListContacts(device=number):
                return say.Contacts(self._connected(number).contacts())
            case say.ListGroups(device=number):
                return say.Groups(self._connected(number).described_groups())
            case say.LogOut(device=number):
                device = self._connected(number).device
                device.call(device.client.logout)
                return say.Done()
            case _:
                assert_never(command)

    def _open(self, order: say.Open) -> say.HostReply:
        try:
            device = NeonizeDevice(order, self._client_map_lock, self._emit, self._limits)
        except (sqlite3.Error, OSError) as error:
            file = "/".join(Path(order.journal).parts[-2:])
            return self._not_opened(order, numbers.JOURNAL_NOT_OPENED(file=file, error=error))
        try:
            device.start()
        except RuntimeError as error:  # no thread to be had
            device.stop()
            return self._not_opened(order, numbers.NOT_STARTED(error=error))
        self._devices[order.device] = device
        self._books[order.device] = _Book(device)
        return say.Done()

    def _not_opened(self, order: say.Open, reason: Reason) -> say.Failed:
        """Has the gateway try again after a while."""
        state = say.DeviceState(order.device, "disconnected", reason, retry_after=_OPEN_AGAIN, opening=order.opening)
        self._emit(state)
        return say.Failed(reason)

    def _report(self, command: say.Command, error: Exception) -> None:
        number = getattr(command, "device", 0)
        what = f"{type(command).__name__}: {type(error).__name__}: {without_places(error)}"
        self._emit(say.Trouble(number, bounds.text(what, bounds.REASON), "call_failed"))

    def _store_failed(self) -> None:
        for number, device in list(self._devices.items()):  # the log does not say which
            self._emit(say.StoreFailed(number, opening=device.order.opening))

    def _undecodable(self) -> None:
        self._emit(say.Unread(0, "undecodable"))  # the log does not say on which device

    def _connected(self, number: int) -> _Book:
        book = self._books.get(number)
        if book is None:
            raise UnavailableError(numbers.NOT_OPEN())
        state, reason = book.device.state
        if state != "connected":
            raise UnavailableError(numbers.NOT_CONNECTED_BECAUSE(reason=reason))
        return book

    def _send(self, number: int, command: say.Send) -> say.HostReply:
        try:
            book = self._connected(number)
        except UnavailableError as error:
            return NotConnected(error.reason)
        try:
            ready = self._prepare(book, command)
        except Exception as error:
            self._report(command, error)
            return TryLater("engine_failed", messages.ENGINE_FAILED_BEFORE())
        return self._put_on_wire(book, command, *ready) if isinstance(ready, tuple) else ready

    def _prepare(self, book: _Book, command: say.Send) -> tuple[JID, Message] | Refused | TryLater:
        """Where to send what, or why that cannot be said. Nothing of the message is on the wire yet."""
        device, outgoing = book.device, command.outgoing
        try:
            refusal = book.refusal(outgoing.recipient)
        except NeonizeError as error:
            device.report(f"look-up: {without_places(error)}")
            return TryLater("lookup_failed", messages.LOOKUP_UNANSWERED())
        if refusal is not None:
            return refusal
        try:
            uploaded = _upload(device, outgoing)
            message = compose(outgoing.content, command.secret, uploaded)
        except NotSupportedError:
            return Refused("unsupported", messages.NO_TEMPLATES())
        except (UploadError, OSError) as error:
            device.report(f"upload: {error}")
            return TryLater("upload_failed", messages.FILE_NOT_UPLOADED())
        to = book.address(outgoing.recipient)
        if command.typing > 0:
            _type(device, to, command.typing)
        return to, message

    def _put_on_wire(self, book: _Book, command: say.Send, to: JID, message: Message) -> say.HostReply:
        device, outgoing = book.device, command.outgoing
        crash_points.reach("engine.sending")
        try:
            response = device.call(lambda: device.client.send_message(to, message))
        except SendMessageError as error:
            device.report(f"send: {error}")
            book.forget(outgoing.recipient)  # what WhatsApp says about this number may have changed
            return outcome_of(without_places(error))
        crash_points.reach("engine.sent")
        left_out = self._unencrypted.devices(response.ID)
        if left_out and book.unreached(outgoing.recipient, left_out):
            return InDoubt(messages.LEFT_OUT(), response.ID)
        if left_out:
            what = f"{len(left_out)} devices without keys got no copy of a message"
            self._emit(say.Trouble(command.device, what, "device_left_out"))
        return Sent(response.ID)


class _Book:
    """What a device knows of people and groups, remembered between sends."""

    def __init__(self, device: NeonizeDevice) -> None:
        self.device = device
        self._people: dict[str, JID] = {}
        self._lock = threading.Lock()
        self._groups: dict[str, GroupInfo] = {}
        self._groups_at = 0.0

    def refusal(self, recipient: str) -> Refused | None:
        """Why nothing can be sent to `recipient`, or None. Raises NeonizeError when WhatsApp does not say."""
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
                self._people[phone] = JIDToNonAD(one.JID) if one.JID.User else _jid(phone)
        return {phone: known[phone] for phone in phones if phone in known}

    def address(self, recipient: str) -> JID:
        """Where to send to: the address that WhatsApp answered for this number, which may be written otherwise."""
        return self._people.get(recipient) or _jid(recipient)

    def forget(self, recipient: str) -> None:
        """The next send to `recipient` asks WhatsApp again."""
        self._people.pop(recipient, None)

    def unreached(self, recipient: str, left_out: Collection[str]) -> bool:
        """Whether all phones that a message was for may be among `left_out`, the devices that got no copy.

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
        """The groups by id; asked anew when the engine told of a change or the list is older than `at_most_old`."""
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
            found = self.device.look(lambda: self.device.client.get_lid_from_pn(_jid(phone)))
        except NeonizeError:
            return False
        if found.User:
            self._people[phone] = _jid(phone)
        return bool(found.User)


def _jid(recipient: str) -> JID:
    if is_group(recipient):
        return JID(
            User=recipient.removesuffix(GROUP_SERVER), Server=GROUPS, RawAgent=0, Device=0, Integrator=0, IsEmpty=False
        )
    return JID(User=recipient, Server=PEOPLE, RawAgent=0, Device=0, Integrator=0, IsEmpty=False)


def _upload(device: NeonizeDevice, outgoing: Outgoing) -> Uploaded | None:
    if outgoing.media is None:
        return None
    file: MediaFile = outgoing.media
    data = Path(file.path).read_bytes()
    is_image = isinstance(outgoing.content, Image)
    kind = MediaType.MediaImage if is_image else MediaType.MediaDocument
    at = device.call(lambda: device.client.upload(data, kind))
    return Uploaded(file, at, previews.load(file.path) if is_image else None)


def _type(device: NeonizeDevice, to: JID, seconds: float) -> None:
    """Shows "typing …" for a while; a message is not held up because that could not be shown."""
    text = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
    try:
        device.call(lambda: device.client.send_chat_presence(to, ChatPresence.CHAT_PRESENCE_COMPOSING, text))
        threading.Event().wait(seconds)
        device.call(lambda: device.client.send_chat_presence(to, ChatPresence.CHAT_PRESENCE_PAUSED, text))
    except NeonizeError:
        return
