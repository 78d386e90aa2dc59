"""The engine on neonize (whatsmeow): a table of devices, and the commands carried out on them.

Runs only inside a host process. Opening and closing are serialized; all other commands may come from several threads at
once.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import assert_never

from kurir.channels.linked_device.engine_host.device import NeonizeDevice  # first: it prepares libmagic
from kurir.reasons import Reason, ReasonedError, failures, messages, numbers

# isort: split
from neonize.exc import NeonizeError, SendMessageError, UploadError
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, MediaType

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host import optional_enums, threads
from kurir.channels.linked_device.engine_host.client_map_lock import ClientMapLock
from kurir.channels.linked_device.engine_host.device_directory import DeviceDirectory
from kurir.channels.linked_device.engine_host.engine_errors import outcome_of, without_places
from kurir.channels.linked_device.engine_host.engine_log_watch import Unencrypted
from kurir.channels.linked_device.engine_host.media_fetches import Limits
from kurir.channels.linked_device.engine_host.protobufs import NotSupportedError, Uploaded, compose
from kurir.kit import crash_points
from kurir.kit.file_failures import file_failure
from kurir.media import previews
from kurir.messages import bounds
from kurir.messages.channel_reports import InDoubt, NotConnected, Refused, Sent, TryLater
from kurir.messages.content import Image, MediaFile, Outgoing

_OPEN_AGAIN = 30.0
"""Seconds until a device that could not be opened, for lack of disk or threads, is tried again."""

_LIBRARY = "neonize-linux"
"""Part of the engine library's file name."""


class UnavailableError(ReasonedError, NeonizeError):
    """The device cannot be called now, for a reason."""


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
            # an event with an unknown value then ends its device's event stream, which is reopened
            emit(say.Trouble(0, f"unknown values of the engine's events end its event stream: {error}", "not_relaxed"))
        self._devices: dict[int, NeonizeDevice] = {}
        self._directories: dict[int, DeviceDirectory] = {}

    def perform(self, command: say.Command) -> say.HostReply:
        """Carries out one command. Never raises."""
        try:
            return self._perform(command)
        except UnavailableError as error:
            return say.Failed(error.reason)
        except Exception as error:
            self._report(command, error)
            if isinstance(command, say.Send):  # on the wire: earlier failures are answered in `_send`
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
                self._directories.pop(number, None)
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
            self._report(order, error)
            file = "/".join(Path(order.journal).parts[-2:])
            return self._not_opened(order, numbers.JOURNAL_NOT_OPENED(file=file, error=file_failure(error)))
        try:
            device.start()
        except RuntimeError as error:  # no thread could be started
            device.stop()
            self._report(order, error)
            return self._not_opened(order, numbers.NOT_STARTED(error=failures.NO_THREAD))
        self._devices[order.device] = device
        self._directories[order.device] = DeviceDirectory(device)
        return say.Done()

    def _not_opened(self, order: say.Open, reason: Reason) -> say.Failed:
        """Makes the gateway retry after a while."""
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

    def _connected(self, number: int) -> DeviceDirectory:
        directory = self._directories.get(number)
        if directory is None:
            raise UnavailableError(numbers.NOT_OPEN())
        state, reason = directory.device.state
        if state != "connected":
            raise UnavailableError(numbers.NOT_CONNECTED_BECAUSE(reason=reason))
        return directory

    def _send(self, number: int, command: say.Send) -> say.HostReply:
        try:
            directory = self._connected(number)
        except UnavailableError as error:
            return NotConnected(error.reason)
        try:
            ready = self._prepare(directory, command)
        except Exception as error:
            self._report(command, error)
            return TryLater("engine_failed", messages.ENGINE_FAILED_BEFORE())
        return self._put_on_wire(directory, command, *ready) if isinstance(ready, tuple) else ready

    def _prepare(self, directory: DeviceDirectory, command: say.Send) -> tuple[JID, Message] | Refused | TryLater:
        """The address and the composed message, or why there are none. Nothing is on the wire yet."""
        device, outgoing = directory.device, command.outgoing
        try:
            refusal = directory.refusal(outgoing.recipient)
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
        to = directory.address(outgoing.recipient)
        if command.typing > 0:
            _type(device, to, command.typing)
        return to, message

    def _put_on_wire(self, directory: DeviceDirectory, command: say.Send, to: JID, message: Message) -> say.HostReply:
        device, outgoing = directory.device, command.outgoing
        crash_points.reach("engine.sending")
        try:
            response = device.call(lambda: device.client.send_message(to, message))
        except SendMessageError as error:
            device.report(f"send: {error}")
            directory.forget(outgoing.recipient)  # WhatsApp's answer for this number may have changed
            return outcome_of(without_places(error))
        crash_points.reach("engine.sent")
        left_out = self._unencrypted.devices(response.ID)
        if left_out and directory.unreached(outgoing.recipient, left_out):
            return InDoubt(messages.LEFT_OUT(), response.ID)
        if left_out:
            what = f"{len(left_out)} devices without keys got no copy of a message"
            self._emit(say.Trouble(command.device, what, "device_left_out"))
        return Sent(response.ID)


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
    """Shows "typing …" for a while; its failure does not delay the message."""
    text = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
    try:
        device.call(lambda: device.client.send_chat_presence(to, ChatPresence.CHAT_PRESENCE_COMPOSING, text))
        threading.Event().wait(seconds)
        device.call(lambda: device.client.send_chat_presence(to, ChatPresence.CHAT_PRESENCE_PAUSED, text))
    except NeonizeError:
        return
