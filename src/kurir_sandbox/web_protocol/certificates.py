"""What the sandbox proves itself with: a TLS certificate of its own CA, and a Noise certificate chain of its own
root key.

A client trusts the first through `SSL_CERT_FILE` (the file `ca.pem`) and the second by having `NoiseIdentity.root`
in the place of WhatsApp's key. Both are made once and kept, so that a client that was set up keeps working after a
restart.
"""

from __future__ import annotations

import datetime
import ssl
import time
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .curve import KeyPair
from .protobufs import cert

HOSTS = ("web.whatsapp.com", "*.whatsapp.com", "*.whatsapp.net", "localhost")
_LIFETIME = datetime.timedelta(days=3650)


class NoiseIdentity(msgspec.Struct, frozen=True):
    """The pinned root key (32 bytes), the server's static key pair and the serialised chain between them."""

    root: bytes
    static: KeyPair
    chain: bytes


def make_noise_identity() -> NoiseIdentity:
    """A fresh root, intermediate and leaf. Clients check the issuer serials 0 and 1, signatures and validity times."""
    root, intermediate, static = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
    start = int(time.time()) - 3600
    end = start + int(_LIFETIME.total_seconds())
    certificate = cert.CertChain.NoiseCertificate
    upper = certificate.Details(
        serial=1, issuerSerial=0, key=intermediate.public, notBefore=start, notAfter=end
    ).SerializeToString()
    lower = certificate.Details(
        serial=2, issuerSerial=1, key=static.public, notBefore=start, notAfter=end
    ).SerializeToString()
    chain = cert.CertChain(
        intermediate=certificate(details=upper, signature=root.sign(upper)),
        leaf=certificate(details=lower, signature=intermediate.sign(lower)),
    )
    return NoiseIdentity(root.public, static, chain.SerializeToString())


def tls_context(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """The server's TLS context and the CA file for clients; both are made in `folder` when they aren't there yet."""
    ca_file, pair_file = folder / "ca.pem", folder / "tls.pem"
    if not (ca_file.exists() and pair_file.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        ca, pair = _make_tls()
        pair_file.touch(mode=0o600)
        pair_file.write_bytes(pair)
        ca_file.write_bytes(ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair_file)
    return context, ca_file


def _make_tls() -> tuple[bytes, bytes]:
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kurir sandbox CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        _builder(name, ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(pem), leaf.public_bytes(pem) + private


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
    )
