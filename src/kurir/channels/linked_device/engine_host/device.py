"""One linked device on neonize (whatsmeow): its connection, its events, and its calls.

Runs only inside a host process. A separate thread blocks in the engine's `connect`; the engine calls back on its own
threads, one event at a time per device; calls come from the host's workers. Received messages go through `receiver`.

More than 300 lines: one state machine over the engine's events, which share the connection's state and its lock.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import pylibmagic  # noqa: F401  (brings libmagic where the system has none; must come before neonize)
from neonize import events as ev
from neonize.client import NewClient
from neonize.exc import NeonizeError
from neonize.proto.Neonize_pb2 import JID, Node
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.enum import Presence
from neonize.utils.jid import Jid2String, JIDToNonAD

from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.engine_host.client_map_lock import ClientMapLock
from kurir.channels.linked_device.engine_host.engine_errors import could_not_serialize, why_not_connected
from kurir.channels.linked_device.engine_host.incoming_messages import LIDS, PEOPLE, user_of
from kurir.channels.linked_device.engine_host.journal import Backlog
from kurir.channels.linked_device.engine_host.liveness import Liveness
from kurir.channels.linked_device.engine_host.media_fetches import Limits
from kurir.channels.linked_device.engine_host.receiver import Receiver
from kurir.channels.linked_device.logins import PROBATION, Logins, spread
from kurir.channels.linked_device.protocol import (
    CodeShown,
    DeviceState,
    Emit,
    Heartbeat,
    NewsOfConnection,
    Open,
    Paired,
    PairingFailed,
    QrShown,
    Trouble,
    Unread,
    Unsteady,
)
from kurir.kit.backoff import Backoff
from kurir.messages import bounds
from kurir.messages.channel_reports import NumberState
from kurir.reasons import Reason, as_written
from kurir.reasons import numbers as reasons

T = TypeVar("T")

_PROPS = DeviceProps(os="Kurir", platformType=DeviceProps.CHROME)
_RETRY_FIRST, _RETRY_MOST = 1.0, 60.0
_GOOD_LIFE = 60.0
"""Seconds that an event stream must have lasted for the next pause to restart at its first value."""
_PRESENCE_EVERY = 2.0
_ONLY_COUNTED = (
    ev.CallOfferEv,
    ev.CallOfferNoticeEv,
    ev.IdentityChangeEv,
    ev.NewsletterJoinEv,
    ev.NewsletterLeaveEv,
    ev.NewsletterMuteChangeEv,
    ev.PictureEv,
    ev.StreamErrorEv,
    ev.UnknownCallEventEV,
)
"""Events that are only counted. Not included are those that come in bulk and concern no message: history and app state,
typing and presence, offline summaries, steps of one call, privacy settings, blocked people."""
_OVER = ("logged_out", "banned", "replaced", "outdated", "disconnected")
"""Final states: the gateway closes the device, and may open it again later."""
_NOT_HEARD = (ev.DisconnectedEv.__name__, ev.KeepAliveTimeoutEv.__name__)
"""Events that come from the engine's own clock or from a lost connection, not from the server."""
_BAN_REASONS = {
    1: reasons.BAN_PEOPLE,
    2: reasons.BAN_BLOCKED,
    3: reasons.BAN_GROUPS,
    4: reasons.BAN_SAME,
    5: reasons.BAN_LISTS,
}


class GoneError(NeonizeError):
    """The device was closed or logged out: the engine must not be called for it any more."""


class NeonizeDevice:
    """A device from `Open` to `Close`. Raises sqlite3.Error and OSError when its journal cannot be opened."""

    def __init__(self, order: Open, client_map_lock: ClientMapLock, emit: Emit, limits: Limits) -> None:
        self.order = order
        self._receiver = Receiver(
            order, self, emit, limits
        )  # first: it may fail, and a client would have to be stopped
        self.client = NewClient(order.session, uuid=str(order.device), props=_PROPS)
        self._client_map_lock = client_map_lock
        self._emit = emit
        self._lock = threading.Lock()
        self._state: NumberState = "connecting"
        self._reason = reasons.CONNECTING()
        self._closing = threading.Event()
        self._gone = False
        self._code_asked = False
        self._presence_due = False
        self._logins = Logins(order.short_connections)
        self._line = 0
        """Counts logins and connection losses, to check whether a login is still the latest event."""
        self._unsteady = False
        self._registered: Callable[[], None] = lambda: None
        self.groups_changed = threading.Event()
        self.groups_changed.set()
        self._runner: threading.Thread | None = None
        self._liveness = Liveness(
            after=order.check_after,
            timeout=order.check_timeout,
            ask=lambda: self.call(self.client.get_blocklist),
            connected=lambda: self.state[0] == "connected",
            on_answer=self._check,
            on_timeout=lambda: self._become("degraded", reasons.SILENT()),
        )
        self._subscribe()

    @property
    def state(self) -> tuple[NumberState, Reason]:
        """The connection state and why."""
        with self._lock:
            return self._state, self._reason

    def start(self) -> None:
        """Starts to connect; the result comes as events. Raises RuntimeError when no thread can be started; call `stop`
        then."""
        number = self.order.device
        self._receiver.start()
        if self.order.check_after:
            threads.keep(f"liveness-{number}", lambda: self._liveness.run(self._closing), self._closing, self.report)
        self._runner = threads.keep(f"device-{number}", self._run, self._closing, self.report)

    def stop(self) -> None:
        """Disconnects and waits a moment for the engine's connect call to return, which it never does while QR codes
        are shown."""
        self._closing.set()
        self._receiver.closing()
        self._forbid()
        # on a dead connection this takes as long as the close handshake's timeout: not while other devices' calls
        # are kept waiting, and not while the engine's map of clients changes
        self.call(self.client.disconnect)
        change = self._client_map_lock.change()
        try:
            self.client.stop()
            if self._runner is not None:
                self._runner.join(2.0)
            # otherwise Python would stop the client a second time when it frees it; the engine offers no other way
            self.client._stop_finalizer.detach()  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        finally:
            change.end()
        self._receiver.close()

    def stored(self, entries: Sequence[int]) -> None:
        """The content of these journal entries is in the gateway's database."""
        self._receiver.stored(entries)

    def replay(self, payload: bytes) -> None:
        """Processes a quarantined entry again. Raises sqlite3.Error, and ValueError once closed."""
        self._receiver.replay(payload)

    def backlog(self) -> Backlog:
        """What has been received and not stored yet."""
        return self._receiver.backlog()

    def call(self, ask: Callable[[], T]) -> T:
        """Calls the engine; may take as long as the server. Raises NeonizeError."""
        self._client_map_lock.enter()
        return ask()

    def look(self, ask: Callable[[], T]) -> T:
        """Reads the engine's store. Such calls crash the whole process when the client is gone. Raises GoneError."""
        self._client_map_lock.enter()
        with self._lock:
            if self._gone:
                raise GoneError("the device has been closed")
            return ask()

    def phone(self, *jids: JID) -> str:
        """The phone number (digits) behind any of a person's addresses; `…@lid` when WhatsApp does not reveal it."""
        for jid in jids:
            if jid.Server == PEOPLE and jid.User:
                return user_of(jid)
        for jid in jids:
            if jid.Server == LIDS and jid.User:
                bare = JIDToNonAD(jid)
                try:
                    found = self.look(lambda bare=bare: self.client.get_pn_from_lid(bare))
                except NeonizeError:
                    return f"{user_of(jid)}@{LIDS}"
                return user_of(found) or f"{user_of(jid)}@{LIDS}"
        return ""

    def download(self, message: Message) -> bytes:
        """The media of a received message. Raises NeonizeError."""
        return self.call(lambda: self.client.download_any(message))

    def report(self, what: str, kind: str = "") -> None:
        """Reports a problem that is not part of an answer; `kind` as in `protocol.Trouble`."""
        self._emit(Trouble(self.order.device, bounds.text(what, bounds.REASON), kind))

    def _say(self, news: NewsOfConnection) -> None:
        self._emit(msgspec.structs.replace(news, opening=self.order.opening))

    def _check(self, seconds: float) -> None:
        self._say(Heartbeat(self.order.device, seconds))

    # -- connection ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(_RETRY_FIRST, _RETRY_MOST)
        while not self._closing.is_set():
            began = time.monotonic()
            change = self._client_map_lock.change()
            self._registered = change.end
            if self._closing.is_set():
                change.end()
                return
            raw = ""
            try:
                self.client.connect()
            except NeonizeError as error:
                raw = str(error)
            except Exception as error:
                raw = f"{type(error).__name__}: {error}"
            finally:
                change.end()
            if self._gone or self._unsteady or self.state[0] in _OVER:
                return
            unreadable = could_not_serialize(raw)
            if unreadable:
                # the client is still connected and acknowledges messages that are no longer read
                self.call(self.client.disconnect)
            if raw:
                self.report(f"the event stream ended: {raw}", "event_stream_ended" if unreadable else "not_connected")
            if self.state[0] == "connected" and time.monotonic() - began > _GOOD_LIFE:
                backoff.reset()
            self._become("connecting", why_not_connected(raw))
            shorter, pause = backoff.last, backoff.after_failure()
            # the line of an event that could not be serialized is fine: the first one costs no pause
            self._closing.wait(spread(shorter if unreadable else pause))

    def _become(self, state: NumberState, reason: Reason, *, line: int | None = None, **more: Any) -> None:
        """Changes the state and emits it; with `line` only while that is the latest."""
        with self._lock:
            if state != "connected":
                self._line += 1
            elif line is not None and line != self._line:
                return
            over = self._state in _OVER and state not in _OVER
            if self._closing.is_set() or self._unsteady or over or (state, reason) == (self._state, self._reason):
                return
            self._state, self._reason = state, reason
            self._receiver.online(connected=state == "connected")
        self._say(DeviceState(self.order.device, state, reason, **more))

    def _forbid(self) -> None:
        with self._lock:
            self._gone = True

    def _subscribe(self) -> None:
        handlers: dict[type[Any], Callable[[Any], None]] = {
            ev.PairStatusEv: self._on_paired,
            ev.ConnectedEv: self._on_connected,
            ev.DisconnectedEv: self._on_disconnected,
            ev.LoggedOutEv: self._on_logged_out,
            ev.StreamReplacedEv: lambda _: self._become("replaced", reasons.OPENED_ELSEWHERE()),
            ev.TemporaryBanEv: self._on_ban,
            ev.ConnectFailureEv: self._on_failure,
            ev.ClientOutdatedEv: lambda _: self._become("outdated", reasons.ENGINE_OUTDATED()),
            ev.KeepAliveTimeoutEv: lambda _: self._become("degraded", reasons.NO_KEEP_ALIVES()),
            ev.KeepAliveRestoredEv: self._on_alive_again,
            ev.MessageEv: self._receiver.take,
            ev.ReceiptEv: self._on_receipt,
            ev.UndecryptableMessageEv: self._on_undecryptable,
            ev.GroupInfoEv: lambda _: self.groups_changed.set(),
            ev.JoinedGroupEv: lambda _: self.groups_changed.set(),
        }
        for kind in _ONLY_COUNTED:
            handlers[kind] = lambda _, kind=kind: self._count(kind.__name__)
        for kind, handler in handlers.items():
            self.client.event(kind)(self._guarded(kind.__name__, handler))
        self.client.event.qr(self._guarded("QR", self._on_qr))
        self._keep_messages_undecoded()

    def _keep_messages_undecoded(self) -> None:
        """Journals messages as the bytes that the engine gives, before the library decodes them.

        Python's protobuf may refuse what the engine decodes (nested too deep, for example): the library would print the
        error and lose the message.
        """
        execute = self.client.event.execute
        write = self._guarded(ev.MessageEv.__name__, self._receiver.take_bytes)

        def written(uuid: int, binary: int, size: int, code: int) -> None:
            if code == ev.EVENT_TO_INT[ev.MessageEv]:
                write(self.client, ctypes.string_at(binary, size))
            else:
                execute(uuid, binary, size, code)

        self.client.event.execute = written

    def _guarded(self, name: str, handler: Callable[[Any], None]) -> Callable[[NewClient, Any], None]:
        """Wraps a callback for the engine, which would only print its exceptions: they are reported instead."""

        def callback(_client: NewClient, event: Any) -> None:
            self._registered()
            if name not in _NOT_HEARD:
                self._liveness.heard()
            try:
                handler(event)
            except Exception as error:
                self.report(f"{name}: {type(error).__name__}: {error}")

        return callback

    # -- events of the engine --------------------------------------------------------------------------------------

    def _on_qr(self, qr: bytes) -> None:
        self._become("pairing", reasons.WAITING_FOR_PHONE())
        if not self.order.phone:
            self._say(QrShown(self.order.device, qr.decode(errors="replace")))
        elif not self._code_asked:
            threads.spawn(f"code-{self.order.device}", self._ask_code, self.report)
            self._code_asked = True  # not before: if no thread could be started, the next QR code retries

    def _ask_code(self) -> None:
        try:
            code = self.call(lambda: self.client.PairPhone(self.order.phone, True))
        except NeonizeError as error:
            reason = reasons.NO_PAIRING_CODE(reason=bounds.text(str(error), bounds.REASON))
            self._say(PairingFailed(self.order.device, reason))
        else:
            self._say(CodeShown(self.order.device, bounds.text(code, bounds.NAME)))

    def _on_paired(self, event: ev.PairStatusEv) -> None:
        if event.Status == ev.PairStatusEv.SUCCESS:
            self._receiver.paired(user_of(event.ID))
            self._say(Paired(self.order.device, user_of(event.ID), bounds.identifier(Jid2String(event.ID))))
        else:
            reason = as_written(bounds.text(event.Error, bounds.REASON)) or reasons.PHONE_REFUSED()
            self._say(PairingFailed(self.order.device, reason))

    def _on_connected(self, _event: ev.ConnectedEv) -> None:
        now = time.monotonic()
        doubtful = self._logins.on_probation(now)
        line = self._next_line()
        if not self._logins.note(now):
            self._stop_reconnecting()
            return
        me = self.look(self.client.get_me)
        self.groups_changed.set()
        self._receiver.paired(user_of(me.JID))
        phone, jid = user_of(me.JID), bounds.identifier(Jid2String(me.JID))

        def believe() -> None:
            self._become("connected", reasons.CONNECTED(), line=line, phone=phone, jid=jid)

        def believe_later() -> None:
            if not self._closing.wait(PROBATION):
                believe()

        # threads last: starting one may fail
        if doubtful:
            try:
                threads.spawn(f"probation-{self.order.device}", believe_later, self.report)
            except RuntimeError:
                believe()
        else:
            believe()
        if not self._presence_due:
            threads.keep(f"presence-{self.order.device}", self._be_available, self._closing, self.report)
            self._presence_due = True

    def _next_line(self) -> int:
        with self._lock:
            self._line += 1
            return self._line

    def _on_alive_again(self, _event: ev.KeepAliveRestoredEv) -> None:
        if self.state[0] == "degraded":
            self._become("connected", reasons.CONNECTED())

    def _on_disconnected(self, _event: ev.DisconnectedEv) -> None:
        self._next_line()
        if not self._logins.lost(time.monotonic()):
            self._stop_reconnecting()
            return
        self._become("connecting", reasons.LOST())

    def _stop_reconnecting(self) -> None:
        """Stops the engine, which would reconnect without a pause; the gateway reopens the device later."""
        with self._lock:
            emitted, self._unsteady = self._unsteady, True
            self._receiver.online(connected=False)
        if not emitted:  # first: the gateway then closes the device even when no thread can be started for the rest
            self._say(Unsteady(self.order.device, max(self._logins.short, 1)))
        # beside the engine's own thread; disconnects an attempt that was in progress as well
        threads.spawn(f"hang-up-{self.order.device}", lambda: self.call(self.client.disconnect), self.report)

    def _on_logged_out(self, event: ev.LoggedOutEv) -> None:
        self._forbid()
        reason = reasons.UNKNOWN_TO_WHATSAPP() if event.OnConnect else reasons.REMOVED_BY_PHONE()
        self._become("logged_out", reason)

    def _on_ban(self, event: ev.TemporaryBanEv) -> None:
        why = reasons.BAN_UNKNOWN()
        if event.HasField("Code"):
            known = _BAN_REASONS.get(event.Code)
            why = known() if known is not None else reasons.BAN_CODE(code=event.Code)
        seconds = _seconds(event.Expire)
        self._become("banned", reasons.BANNED(seconds=round(seconds), why=why), retry_after=seconds)

    def _on_failure(self, event: ev.ConnectFailureEv) -> None:
        code = event.Reason if event.HasField("Reason") else bounds.text(_attribute(event.Raw, "reason"), bounds.NAME)
        self._become("disconnected", reasons.REFUSED(reason=code or "?"), retry_after=_RETRY_MOST)

    def _on_receipt(self, event: ev.ReceiptEv) -> None:
        if event.HasField("Type"):
            self._receiver.take_receipt(event)
        else:
            self.report("a receipt of an unknown type", "unknown_receipt")

    def _on_undecryptable(self, event: ev.UndecryptableMessageEv) -> None:
        """A message that the phone shows and this device cannot decrypt: a view-once message, or one without its
        keys."""
        self._count("unavailable" if event.IsUnavailable else "undecryptable")

    def _count(self, kind: str) -> None:
        self._emit(Unread(self.order.device, kind))

    def _be_available(self) -> None:
        """Announces "online". WhatsApp sends receipts as active only then; it needs the phone's push name, which is
        synced some time after the pairing, so it may take several attempts."""
        while not self._closing.wait(_PRESENCE_EVERY):
            if self.state[0] != "connected":
                continue
            try:
                self.call(lambda: self.client.send_presence(Presence.AVAILABLE))
            except NeonizeError:
                continue
            self._presence_due = False
            return


def _seconds(duration: int) -> float:
    """Converts the engine's durations, which are in nanoseconds, to seconds."""
    return duration / 1e9 if duration > 100_000_000 else float(duration)


def _attribute(node: Node, key: str) -> str:
    """An attribute of a stanza, as text; "" when it has none such."""
    for attribute in node.Attrs:
        if attribute.name == key:
            return attribute.text or str(attribute.integer or "")
    return ""
