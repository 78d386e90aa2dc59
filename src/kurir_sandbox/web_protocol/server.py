"""The WhatsApp Web wire as a whole: its listeners, its media, and what people can do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from google.protobuf.message import DecodeError

from kurir_sandbox.faults import Fault, Faults, Occasion
from kurir_sandbox.json_values import JsonValue
from kurir_sandbox.sent_messages import SentMessage
from kurir_sandbox.traffic import Content, Entry, Network, ReceiptKind

from . import chat_signals, downlink, group_news, login, receipts_of_phones
from .app_state import AppStates
from .certificates import tls_context
from .codec import CodecError
from .connection import Connection
from .conversation import converse
from .delays import Delays
from .drafts import Draft, shown_form
from .exchange import Exchange
from .first_contacts import FirstContacts
from .handsets import Handsets
from .lasting import noise_identity, on_port
from .linked_devices import Device, LinkedDevice, LinkedDevices
from .media import MediaStore, Reference
from .media_server import MediaServer
from .noise import NoiseError
from .pairing import Pairings, ScanError
from .proxy import ConnectProxy
from .queries.app_state_sync import announce
from .receipts_of_phones import Receipt
from .recent_messages import RecentMessages
from .stanza import JID, Node, StanzaError
from .stanza_log import StanzaLog

if TYPE_CHECKING:
    from kurir_sandbox.phones import Phones
    from kurir_sandbox.world import Person, World

log = structlog.get_logger(__name__)

_MAX_MESSAGE = 1 << 25


class WebNetwork(Network):
    """WhatsApp Web on loopback, for unmodified clients: TLS, a CONNECT proxy, linked devices and their messages.

    After `start`, clients need `proxy_url`, `ca_file` (as SSL_CERT_FILE) and `noise_root` as their Noise root key.
    """

    proxy_url: str
    ca_file: Path
    noise_root: bytes

    def __init__(
        self,
        world: World,
        phones: Phones,
        data_dir: Path,
        host: str = "127.0.0.1",
        *,
        tls_port: int = 0,
        proxy_port: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self._world, self._phones, self._folder = world, phones, data_dir
        self._host, self._ports = host, {"tls": tls_port, "proxy": proxy_port}
        self.faults = Faults() if faults is None else faults
        self._proxy = ConnectProxy(host)
        self._runner: web.AppRunner | None = None
        self._connections: set[Connection] = set()
        self._open()

    def _open(self) -> None:
        state = self._world.state
        self._exchange = Exchange(
            self._world,
            self._phones,
            Handsets(state),
            LinkedDevices(state),
            AppStates(self._world, state),
            MediaStore(self._folder / "web_media"),
            RecentMessages(state),
            self.faults,
            Delays(),
            StanzaLog(),
            FirstContacts(state),
        )
        self._pairings = Pairings(self._exchange)

    async def start(self) -> None:
        """Listens, on the ports of an earlier run if they are free. Raises OSError for a taken explicit port."""
        state = self._world.state
        self._identity = noise_identity(state)
        self.noise_root = self._identity.root
        context, self.ca_file = tls_context(self._folder / "certificates")
        app = MediaServer(lambda: self._exchange.media, self.faults).application()
        app.router.add_get("/ws/chat", self._websocket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()

        async def listen(port: int) -> int:
            assert self._runner is not None
            site = web.TCPSite(self._runner, self._host, port, ssl_context=context)
            await site.start()
            return self._runner.addresses[-1][1]

        tls = await on_port(state, "tls", self._ports["tls"], listen)
        proxy = await on_port(state, "proxy", self._ports["proxy"], lambda port: self._proxy.start(port, tls))
        self.proxy_url = f"http://{self._host}:{proxy}"
        log.info("server_listening", host=self._host, tls_port=tls, proxy_url=self.proxy_url)

    async def stop(self) -> None:
        """Disconnects all clients and stops listening. Everything that must last is on disk already."""
        await self._exchange.delays.stop()
        for connection in list(self._connections):
            await connection.hang_up()
        await self._proxy.stop()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def reset(self) -> None:
        """The world was emptied: disconnects all clients and forgets what this wire had in memory."""
        await self._exchange.delays.stop()
        for connection in list(self._connections):
            await connection.hang_up()
        self._open()

    def linked_devices(self) -> list[LinkedDevice]:
        """All linked devices, of all accounts."""
        devices = self._exchange.devices
        return [devices.view(device) for device in devices.all()]

    async def scan(self, phone: str, qr: str) -> LinkedDevice:
        """The person `phone` scans a QR code; returns when the device is linked (10 s at most). Raises ScanError."""
        return await self._pairings.scan(self._person(phone), qr)

    async def enter_code(self, phone: str, code: str) -> LinkedDevice:
        """The person `phone` enters an 8-character linking code. Raises ScanError."""
        return await self._pairings.enter_code(self._person(phone), code)

    def owns(self, phone: str) -> bool:
        """Whether the person `phone` has a linked device."""
        return bool(self._exchange.devices.of(phone))

    async def write(self, sender: str, to: str, content: Content) -> str:
        """A person writes to a number or in a group; returns the message id.

        Raises WriteError or UnsupportedContentError (both ValueError).
        """
        wire_id, _ = await self.send(sender, to, Draft(content))
        return wire_id

    async def send(self, sender: str, to: str, draft: Draft) -> tuple[str, str]:
        """Like `write`, for any plaintext in any stanza; returns the message id, and the path of its media or ""."""
        wire_id, outgoing = await downlink.write(self._exchange, sender, to, draft)
        kind, form = draft.content.kind if draft.content else "raw", shown_form(draft.form)
        await self._phones.ledger.sent.add(SentMessage(sender, to, wire_id, kind, outgoing.plaintext, form))
        return wire_id, outgoing.media_path

    def keep_media(self, kind: str, data: bytes) -> Reference:
        """Encrypts a file and puts it where clients download media; `kind` is one of `MEDIA_KINDS`."""
        return self._exchange.media.seal(kind, data)

    async def receipt(self, entry: Entry, kind: ReceiptKind) -> None:
        """The phone that holds `entry` sends its receipt to the sender's linked devices."""
        arrival, exchange = entry.arrival, self._exchange
        occasion = Occasion("linked_device", arrival.sender, arrival.phone, kind)
        if self.faults.strike(occasion, "withhold_receipt"):
            return
        if late := self.faults.strike(occasion, "late_receipt"):
            exchange.delays.after(late.seconds or 0, lambda: chat_signals.send_receipt(exchange, entry, kind))
            return
        await chat_signals.send_receipt(exchange, entry, kind)
        if self.faults.strike(occasion, "duplicate_receipt"):
            await chat_signals.send_receipt(exchange, entry, kind)

    async def send_receipt(self, sender: str, jid: str, receipt: Receipt) -> None:
        """The phone of the person `sender` sends any receipt to a linked device. Raises LookupError or ScanError."""
        person, device = self._person(sender), self._device(jid)
        await receipts_of_phones.send(self._exchange, person, device, receipt)

    async def typing(self, sender: str, to: str, on: bool) -> None:
        """A person starts or stops typing to a number or in a group."""
        await chat_signals.send_typing(self._exchange, sender, to, on)

    async def unlink(self, jid: str) -> None:
        """The phone removes a linked device, which is notified and must delete its data. Raises LookupError."""
        device = self._device(jid)
        await login.unlink(self._exchange, device)

    async def drop(self, jid: str) -> None:
        """Cuts the device's connection; it may come back. Raises LookupError."""
        line = self._exchange.devices.line(self._device(jid))
        if isinstance(line, Connection):
            await line.hang_up()

    async def replace(self, jid: str) -> None:
        """Notifies the device that another client took its place (`conflict replaced`). Raises LookupError."""
        line = self._exchange.devices.line(self._device(jid))
        if isinstance(line, Connection):
            await line.finish(login.REPLACED)

    async def play(self, jid: str, node: Node, *, keep: bool = False, close: bool = False) -> bool:
        """Sends `node` to a linked device unchanged; returns whether that was possible.

        keep: a device that is away gets it when it comes back, and until it acknowledged it. close: the connection
        ends a little after. Raises LookupError.
        """
        device = self._device(jid)
        if keep:
            await self._exchange.devices.post(device, node)
            return True
        line = self._exchange.devices.line(device)
        if not isinstance(line, Connection):
            return False
        await (line.finish(node) if close else line.send(node))
        return True

    def later(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        """Does `act` in `seconds`; a stopped wire forgets it."""
        self._exchange.delays.after(seconds, act)

    def stanzas(self, jid: str, after: int = 0, tag: str = "") -> list[dict[str, Any]]:
        """What a linked device sent lately, see `StanzaLog.of`."""
        return self._exchange.log.of(jid, after, tag)

    def fail_logins(self, reason: int | str | None, attributes: dict[str, str] | None = None) -> None:
        """From now on all logins get `<failure reason=…>` with `attributes`; None lets them in again."""
        self.faults.clear("refuse_login")
        if reason is not None:
            self.faults.add(Fault("refuse_login", reason=reason, attributes=attributes or {}))

    def lose_session(self, phone: str, jid: str) -> None:
        """The phone forgets what it shares with a linked device, like after a new installation. Raises LookupError."""
        self._exchange.handsets.of(phone).forget_all(self._device(jid).lid)

    def garble_session(self, phone: str, jid: str) -> None:
        """What the phone sends next to a linked device cannot be decrypted there. Raises LookupError."""
        self._exchange.handsets.of(phone).garble(self._device(jid).lid)

    def queued(self, jid: str) -> int:
        """How many stanzas the device hasn't acknowledged yet. Raises LookupError."""
        return self._exchange.devices.queued(self._device(jid))

    def keys_left(self, jid: str) -> int:
        """How many one-time keys of the device are left. Raises LookupError."""
        return self._exchange.devices.one_time_key_count(self._device(jid))

    def use_up_keys(self, jid: str, left: int) -> None:
        """Takes all but `left` of the device's one-time keys away, as many new contacts would. Raises LookupError."""
        device = self._device(jid)
        while self._exchange.devices.one_time_key_count(device) > left:
            self._exchange.devices.bundle(device)

    async def group_changed(self, group_id: str, change: dict[str, JsonValue]) -> None:
        """A group changed in the world: notifies the linked devices of its members. See `group_news.announce`."""
        await group_news.announce(self._exchange, group_id, change)

    async def contacts_changed(self, phone: str) -> None:
        """The address book or name of the person `phone` changed in the world: notifies their linked devices."""
        for name, version in self._exchange.app_states.refresh(phone):
            await announce(self._exchange, phone, name, version)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE, compress=False, timeout=2.0)
        await socket.prepare(request)
        connection = Connection(socket, self._identity, self.faults, request.transport)
        self._connections.add(connection)
        try:
            await converse(self._exchange, self._pairings, connection)
        except (NoiseError, CodecError, StanzaError, DecodeError) as error:
            log.warning("protocol_violated", reason=str(error))
        except (ConnectionError, TimeoutError) as error:
            log.info("client_disconnected", reason=str(error))
        finally:
            self._connections.discard(connection)
            if connection.device:
                self._exchange.devices.detach(connection.device, connection)
            await connection.hang_up()
        return socket

    def _person(self, phone: str) -> Person:
        person = self._world.person(phone)
        if person is None or not person.on_whatsapp:
            raise ScanError(f"phone: {phone} is not on WhatsApp")
        return person

    def _device(self, jid: str) -> Device:
        device = self._exchange.devices.find(JID.parse(jid))
        if device is None:
            raise LookupError(f"jid: {jid} is not linked")
        return device
