"""A server on loopback whose answers a test writes byte by byte, over plain TCP or TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import re
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Script = Callable[["Line"], Awaitable[None]]


class Line:
    """One connection of the server: reads requests and writes whatever the script wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: RawServer) -> None:
        self.reader = reader
        self.writer = writer
        self.server = server
        self.answered = 0

    async def request(self) -> bytes:
        """The next request, head and body; raises IncompleteReadError at the end of the connection."""
        head = await self.head()
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        self.server.requests[-1] = head + body
        return head + body

    async def head(self) -> bytes:
        """The head of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.server.requests.append(head)
        self.server.arrived.set()
        return head

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def flood(self, piece: bytes, most: int) -> int:
        """Writes `piece` again and again until the other side closes, or `most` bytes; returns the bytes written."""
        written = 0
        with contextlib.suppress(OSError):
            while written < most and not self.writer.transport.is_closing():
                await self.write(piece)
                await asyncio.sleep(0)  # writing to an ended connection neither fails nor waits
                written += len(piece)
        return written

    async def closed(self) -> bool:
        """Waits until the other side has closed."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65_536):
                pass
        return True

    def reset(self) -> None:
        """Breaks the connection off with RST."""
        of_loop = self.writer.get_extra_info("socket")  # uvloop's has no options to set
        with socket.fromfd(of_loop.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    """What a test knows of its server: its address, and what came to it."""

    url: str = ""
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the end of the test, for scripts that hold a connection."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a connection has ended."""


@asynccontextmanager
async def raw_server(
    script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncGenerator[RawServer]:
    """Runs `script` for each connection. With `tls` the address is `https://localhost`."""
    server = RawServer()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        server.connections += 1
        server.open += 1
        server.most_open = max(server.most_open, server.open)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await script(Line(reader, writer, server))
        finally:
            server.open -= 1
            writer.transport.abort() if server.over.is_set() else writer.close()
            server.ended.set()
            running.discard(task)

    listening = await asyncio.start_server(serve, host, 0, ssl=tls, limit=1 << 20)
    server.port = listening.sockets[0].getsockname()[1]
    name = "localhost" if tls else f"[{host}]" if ":" in host else host
    server.url = f"http{'s' if tls else ''}://{name}:{server.port}"
    try:
        yield server
    finally:
        server.over.set()
        listening.close()
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(list(running))


def answering(*answers: bytes, then: Script | None = None) -> Script:
    """A script that answers one request after the other, on one or more connections, then runs `then` or closes."""
    left = list(answers)

    async def script(line: Line) -> None:
        while left:
            await line.request()
            await line.write(left.pop(0))
        if then is not None:
            await then(line)

    return script


async def until_over(line: Line) -> None:
    """Holds the connection, silent, to the end of the test."""
    await line.server.over.wait()


# -- certificates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for a test, and a certificate of it for `localhost` and 127.0.0.1."""

    trusted: Path
    server: ssl.SSLContext
    other_name: ssl.SSLContext
    """Presents a certificate of the same authority for another name."""


def new_authority(folder: Path) -> Authority:
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("An authority of a test")
    certificate = (
        _certificate(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    trusted = folder / "authority.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def signed_for(host: str, *more: x509.GeneralName) -> ssl.SSLContext:
        own = ec.generate_private_key(ec.SECP256R1())
        issued = (
            _certificate(_name(host), name, own)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host), *more]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = folder / f"{host}.pem"
        pem.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + issued.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return Authority(trusted, signed_for("localhost", address), signed_for("other.example"))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
