"""Pairing: how a person links a device, by scanning its QR code or by entering its 8-character code on the phone.

By QR: the server gives the device six references, the device shows one of them with its keys and a secret; the
phone signs the device's identity and authenticates that with the secret. By code: both sides agree on the secret
through ephemeral keys that are wrapped with a key derived from the code. Then the server answers `pair-success`,
the device countersigns (`pair-device-sign`), the server ends the stream with code 515, and the device comes back to
log in.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from kurir_sandbox.faults import Occasion

from . import device_news
from .connection import Connection
from .curve import KEY_TYPE, CurveError, KeyPair, verify
from .exchange import Exchange
from .link_codes import code_key, ctr
from .linked_devices import Device, LinkedDevice, now
from .protobufs import adv, companion, wa6
from .stanza import SERVER, Node, StanzaError, result
from .symmetric import hkdf, hmac_sha256

if TYPE_CHECKING:
    from kurir_sandbox.world import Person

log = structlog.get_logger(__name__)

_REFS = 6
_TIMEOUT = 10.0
_CODE_ALPHABET = set("123456789ABCDEFGHJKLMNPQRSTVWXYZ")
_MAX_LINKED_DEVICES = 20


T = TypeVar("T")


class ScanError(ValueError):
    """Why a phone cannot link the device: the code is unknown, expired or not for this number."""


@dataclass(eq=False, slots=True)
class Candidate:
    """A device that waits to be linked, on its connection."""

    connection: Connection
    noise_key: bytes
    registration: wa6.ClientPayload.DevicePairingRegistrationData
    refs: list[str]
    signed: asyncio.Future[Device] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    offered: Device | None = None
    code: CodeExchange | None = None


@dataclass(slots=True)
class CodeExchange:
    """The phone-number side of a candidate: what the device announced, and what the phone answered."""

    phone: str
    wrapped: bytes
    ref: bytes
    shared: bytes = b""
    secret: asyncio.Future[bytes] | None = None


class Pairings:
    """All devices that are waiting to be linked."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._candidates: list[Candidate] = []

    async def begin(self, connection: Connection, noise_key: bytes, payload: wa6.ClientPayload) -> Candidate:
        """A device without an account connected: gives it the references for its QR codes. Raises StanzaError."""
        data = payload.devicePairingData
        for name, size in (("eIdent", 32), ("eSkeyVal", 32), ("eSkeySig", 64), ("eRegid", 4), ("eSkeyID", 3)):
            if len(getattr(data, name)) != size:
                raise StanzaError(f"devicePairingData.{name}: {size} bytes expected")
        if not verify(data.eIdent, KEY_TYPE + data.eSkeyVal, data.eSkeySig):
            raise StanzaError("devicePairingData.eSkeySig: wrong signature")
        refs = [f"2@{base64.b64encode(secrets.token_bytes(60)).decode()}" for _ in range(_REFS)]
        candidate = Candidate(connection, noise_key, data, refs)
        self._candidates.append(candidate)
        await connection.send(
            _request("md", [Node("pair-device", {}, [Node("ref", {}, ref.encode()) for ref in refs])])
        )
        return candidate

    def end(self, candidate: Candidate) -> None:
        """The candidate's connection is gone."""
        self._candidates.remove(candidate)
        candidate.signed.cancel()
        if candidate.code and candidate.code.secret:
            candidate.code.secret.cancel()

    async def scan(self, person: Person, qr: str) -> LinkedDevice:
        """The person scans `qr` with the phone. Raises ScanError."""
        ref, *parts = qr.rsplit("#", 1)[-1].split(",")
        try:
            noise_key, identity, adv_secret = (base64.b64decode(part, validate=True) for part in parts[:3])
        except (ValueError, binascii.Error) as error:
            raise ScanError("qr: this is not a WhatsApp linking code") from error
        candidate = next((c for c in self._candidates if ref in c.refs), None)
        if candidate is None:
            raise ScanError("qr: this code is unknown or expired")
        if (noise_key, identity) != (candidate.noise_key, candidate.registration.eIdent):
            raise ScanError("qr: the keys are not those of the waiting device")
        return await self._link(candidate, person, adv_secret, "qr")

    async def enter_code(self, person: Person, code: str) -> LinkedDevice:
        """The person types `code` ("34DG-8G2E") into the phone. Raises ScanError."""
        plain = code.replace("-", "").strip().upper()
        if len(plain) != 8 or not set(plain) <= _CODE_ALPHABET:
            raise ScanError("code: 8 letters and digits expected, like 34DG-8G2E")
        candidates = [c for c in self._candidates if c.code and c.code.phone == person.phone]
        if not candidates:
            raise ScanError("code: no device is waiting for this number, or the code is expired")
        candidate = candidates[-1]
        assert candidate.code is not None
        if candidate.code.secret is not None:
            raise ScanError("code: another code is being checked")
        secret = candidate.code.secret = asyncio.get_running_loop().create_future()
        try:
            await self._answer_code(candidate, candidate.code, person, plain)
            adv_secret = await _answer(secret, "code")
        finally:
            candidate.code.secret = None
        return await self._link(candidate, person, adv_secret, "code")

    async def code_stanza(self, candidate: Candidate, iq: Node) -> None:
        """A `link_code_companion_reg` request of the device: its hello, or its end of the key exchange."""
        registration = iq.need("link_code_companion_reg")
        stage = registration.need_text("stage")
        if stage == "companion_hello":
            phone = registration.need_jid("jid").user
            wrapped = registration.need_data("link_code_pairing_wrapped_companion_ephemeral_pub", size=80)
            candidate.code = CodeExchange(phone, wrapped, b"2@" + secrets.token_bytes(16))
            ref = Node("link_code_pairing_ref", {}, candidate.code.ref)
            answer = Node("link_code_companion_reg", {"stage": "companion_hello"}, [ref])
            await candidate.connection.send(result(iq, [answer]))
        elif stage == "companion_finish":
            bundle = registration.need_data("link_code_pairing_wrapped_key_bundle")
            await candidate.connection.send(result(iq))
            self._finish_code(candidate, bundle)
        else:
            raise StanzaError(f"link_code_companion_reg: stage {stage[:40]!r} is unknown")

    async def signed(self, candidate: Candidate, answer: Node) -> None:
        """The device countersigned its identity (`pair-device-sign`): from now on it is linked. Raises StanzaError."""
        device = candidate.offered
        if device is None or candidate.signed.done():
            raise StanzaError("pair-device-sign: nothing was offered to this device")
        raw = answer.need_data("pair-device-sign", "device-identity")
        try:
            identity = adv.ADVSignedDeviceIdentity.FromString(raw)
        except DecodeError as error:
            raise StanzaError("pair-device-sign/device-identity: malformed protobuf") from error
        account = self._exchange.handsets.of(device.phone).identity.public
        signed = b"\x06\x01" + identity.details + device.identity + account
        if not verify(device.identity, signed, identity.deviceSignature):
            raise StanzaError("pair-device-sign/device-identity: wrong device signature")
        self._exchange.devices.add(device)
        await device_news.announce(self._exchange, device, "add")
        log.info("device_linked", device=str(device.lid), phone=device.phone)
        if not self._exchange.faults.strike(Occasion("linked_device", device.phone), "withhold_restart"):
            await candidate.connection.finish(Node("stream:error", {"code": "515"}))
        candidate.signed.set_result(device)

    async def _link(self, candidate: Candidate, person: Person, adv_secret: bytes, field: str) -> LinkedDevice:
        if candidate.offered is not None:
            raise ScanError(f"{field}: this code was used already")
        devices = self._exchange.devices
        if len(devices.of(person.phone)) >= _MAX_LINKED_DEVICES:
            raise ScanError(f"phone: {_MAX_LINKED_DEVICES} devices are linked already")
        candidate.offered = self._device(candidate, person)
        await candidate.connection.send(self._pair_success(candidate.offered, person, adv_secret))
        device = await _answer(candidate.signed, field)
        return devices.view(device)

    def _device(self, candidate: Candidate, person: Person) -> Device:
        data = candidate.registration
        return Device(
            phone=person.phone,
            lid_user=person.lid,
            device_id=self._exchange.devices.next_device_id(person.phone),
            registration=int.from_bytes(data.eRegid, "big"),
            identity=data.eIdent,
            signed_key_id=int.from_bytes(data.eSkeyID, "big"),
            signed_key=data.eSkeyVal,
            signature=data.eSkeySig,
            noise_key=candidate.noise_key,
            platform=_platform(data.deviceProps),
            linked_at=int(time.time()),
        )

    def _pair_success(self, device: Device, person: Person, adv_secret: bytes) -> Node:
        handset = self._exchange.handsets.of(person.phone)
        details = adv.ADVDeviceIdentity(
            rawID=secrets.randbelow(1 << 31), timestamp=int(time.time()), keyIndex=device.device_id
        ).SerializeToString()
        signature = handset.identity.sign(b"\x06\x00" + details + device.identity)
        signed = adv.ADVSignedDeviceIdentity(
            details=details, accountSignatureKey=handset.identity.public, accountSignature=signature
        ).SerializeToString()
        box = adv.ADVSignedDeviceIdentityHMAC(details=signed, HMAC=hmac_sha256(adv_secret, signed))
        return _request(
            "md",
            [
                Node(
                    "pair-success",
                    {},
                    [
                        Node("device-identity", {}, box.SerializeToString()),
                        Node("platform", {"name": "android"}),
                        Node("device", {"jid": device.jid, "lid": device.lid}),
                    ],
                )
            ],
        )

    async def _answer_code(self, candidate: Candidate, code: CodeExchange, person: Person, plain: str) -> None:
        salt, iv, wrapped = code.wrapped[:32], code.wrapped[32:48], code.wrapped[48:]
        theirs = ctr(await code_key(plain, salt), iv, wrapped)
        own = KeyPair.generate()
        try:
            code.shared = own.agree(theirs)
        except CurveError as error:
            raise ScanError("code: wrong code") from error
        salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
        ephemeral = salt + iv + ctr(await code_key(plain, salt), iv, own.public)
        handset = self._exchange.handsets.of(person.phone)
        hello = [
            Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, ephemeral),
            Node("primary_identity_pub", {}, handset.identity.public),
            Node("link_code_pairing_ref", {}, code.ref),
        ]
        attrs = {"from": SERVER, "type": "link_code_companion_reg", "id": stanza_id(), "t": now()}
        await candidate.connection.send(
            Node("notification", attrs, [Node("link_code_companion_reg", {"stage": "primary_hello"}, hello)])
        )

    def _finish_code(self, candidate: Candidate, wrapped: bytes) -> None:
        code = candidate.code
        if code is None or code.secret is None or code.secret.done():
            raise StanzaError("link_code_companion_reg: companion_finish before the phone answered")
        key = hkdf(code.shared, 32, b"link_code_pairing_key_bundle_encryption_key", wrapped[:32])
        try:
            bundle = AESGCM(key).decrypt(wrapped[32:44], wrapped[44:], None)
        except (InvalidTag, ValueError):
            # the ephemeral keys are wrapped without a check: only here a wrong code shows
            code.secret.set_exception(ScanError("code: this code is wrong"))
            return
        identity = self._exchange.handsets.of(code.phone).identity
        if len(bundle) != 96 or bundle[:32] != candidate.registration.eIdent or bundle[32:64] != identity.public:
            raise StanzaError("link_code_pairing_wrapped_key_bundle: not the keys of this exchange")
        secret = code.shared + identity.agree(bundle[:32]) + bundle[64:]
        code.secret.set_result(hkdf(secret, 32, b"adv_secret"))


def stanza_id() -> str:
    """A fresh id for a stanza of the server."""
    return str(secrets.randbelow(10**9))


def _request(namespace: str, content: list[Node]) -> Node:
    attrs = {"from": SERVER, "type": "set", "id": stanza_id(), "xmlns": namespace, "t": now()}
    return Node("iq", attrs, content)


async def _answer(future: asyncio.Future[T], field: str) -> T:
    """What the device answers in time. Raises ScanError."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await asyncio.shield(future)
    except TimeoutError as error:
        raise ScanError(f"{field}: the device did not answer in time") from error
    except asyncio.CancelledError as error:
        if future.cancelled():
            raise ScanError(f"{field}: the device hung up before it was linked") from error
        raise


def _platform(props: bytes) -> str:
    try:
        return companion.DeviceProps.FromString(props).os or "unknown"
    except DecodeError:
        return "unknown"
