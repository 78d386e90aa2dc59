"""Makes this process trust a sandbox network in place of WhatsApp. Used only when the sandbox setting is on.

The engine pins WhatsApp's Noise root key: 32 bytes in its library against which the server's certificate chain is
checked. Overwriting them in this process's memory (a private copy-on-write page) lets the unmodified engine connect to
a sandbox; the library file and every other process are not changed.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

NOISE_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
"""WhatsApp's Noise root public key, as found in the engine's library (neonize 0.5.2)."""


class SandboxSwitchError(RuntimeError):
    """The root key could not be replaced unambiguously; the host must not start."""


def trust_sandbox(noise_root: bytes, library: str) -> None:
    """Replaces the Noise root key in the loaded `library` (a part of its file name) by `noise_root` (32 bytes).

    Only writable private mappings of the library are searched. Raises SandboxSwitchError unless there is exactly one
    place.
    """
    if len(noise_root) != 32:
        raise SandboxSwitchError("the sandbox's Noise root key must have 32 bytes")
    places = [start + offset for start, end in _writable_mappings(library) for offset in _hits(start, end)]
    if len(places) != 1:
        raise SandboxSwitchError(f"the Noise root key was found {len(places)} times in the engine, expected once")
    ctypes.memmove(places[0], noise_root, 32)
    sys.stderr.write("WARNING: SANDBOX: this engine host trusts a sandbox network; it cannot reach WhatsApp\n")
    sys.stderr.flush()


def _writable_mappings(library: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1].startswith("rw-p") and library in fields[5]:
            start, end = fields[0].split("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _hits(start: int, end: int) -> list[int]:
    memory = ctypes.string_at(start, end - start)
    hits: list[int] = []
    at = memory.find(NOISE_ROOT)
    while at >= 0:
        hits.append(at)
        at = memory.find(NOISE_ROOT, at + 1)
    return hits
