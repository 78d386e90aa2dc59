"""Curve25519 keys and symmetric functions against published vectors and an independent implementation."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from kurir_sandbox.web_protocol.curve import CurveError, KeyPair, verify
from kurir_sandbox.web_protocol.symmetric import CipherError, cbc_decrypt, cbc_encrypt, hkdf

keys = st.builds(KeyPair.generate)


@given(keys, keys)
def test_agreement_equals_another_implementation(own: KeyPair, other: KeyPair) -> None:
    theirs = X25519PrivateKey.from_private_bytes(own.private)
    assert theirs.public_key().public_bytes_raw() == own.public
    expected = theirs.exchange(X25519PublicKey.from_public_bytes(other.public))
    assert own.agree(other.public) == own.agree(b"\x05" + other.public) == expected


@given(keys, keys, st.binary(max_size=200))
def test_only_the_signer_and_the_message_verify(signer: KeyPair, other: KeyPair, message: bytes) -> None:
    signature = signer.sign(message)
    assert verify(signer.public, message, signature) and verify(b"\x05" + signer.public, message, signature)
    assert not verify(other.public, message, signature)
    assert not verify(signer.public, message + b"x", signature)


@given(keys, st.integers(0, 511))
def test_a_changed_bit_spoils_a_signature(signer: KeyPair, bit: int) -> None:
    signature = bytearray(signer.sign(b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(signer.public, b"message", bytes(signature))


def test_a_signature_of_libsignal_verifies() -> None:
    """The vector of libsignal's `curve25519` test: an identity key that signed an ephemeral key."""
    public = bytes.fromhex("ab7e717d4a163b7d9a1d8071dfe9dcf8cdcd1cea3339b6356be84d887e322c64")
    message = bytes.fromhex("05edce9d9c415ca78cb7252e72c2c4a554d3eb29485a0e1d503118d1a82d99fb4a")
    signature = bytes.fromhex(
        "5de88ca9a89b4a115da79109c67c9c7464a3e4180274f1cb8c63c2984e286dfb"
        "ede82deb9dcd9fae0bfbb821569b3d9001bd8130cd11d486cef047bd60b86e88"
    )
    assert verify(public, message, signature)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(34), b"\x06" + bytes(32), bytes(32)])
def test_unusable_public_keys_are_refused(public: bytes) -> None:
    with pytest.raises(CurveError):
        KeyPair.generate().agree(public)
    assert not verify(public, b"m", bytes(64))
    assert not verify(KeyPair.generate().public, b"m", bytes(63))


def test_hkdf_gives_the_first_vector_of_rfc_5869() -> None:
    okm = hkdf(b"\x0b" * 22, 42, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), bytes.fromhex("000102030405060708090a0b0c"))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


@given(st.binary(max_size=64), st.integers(1, 200), st.binary(max_size=20), st.binary(max_size=40))
def test_hkdf_equals_another_implementation(secret: bytes, size: int, info: bytes, salt: bytes) -> None:
    assert hkdf(secret, size, info, salt) == HKDF(SHA256(), size, salt or None, info).derive(secret)


@given(st.binary(max_size=100))
def test_cbc_pads_and_unpads(plain: bytes) -> None:
    assert cbc_decrypt(b"k" * 32, b"i" * 16, cbc_encrypt(b"k" * 32, b"i" * 16, plain)) == plain


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"x" * 17, b"x" * 32])
def test_broken_ciphertexts_are_refused(data: bytes) -> None:
    with pytest.raises(CipherError):
        cbc_decrypt(b"k" * 32, b"i" * 16, data)
