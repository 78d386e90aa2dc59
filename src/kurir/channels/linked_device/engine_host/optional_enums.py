"""Makes the engine deliver events with unknown enum values, instead of ending its event stream.

The engine (neonize) describes its events with proto2 messages. Where WhatsApp sends a word that the engine's encoder
does not list, such as the receipt type `server-error` or a new reason of a login failure, the encoder leaves the field
out; the field is `required`, so the event cannot be serialized, and the engine's event loop ends with "required field …
not set" while its client continues to acknowledge messages that are no longer read.

The Go side reads the file descriptor in its library when an event is serialized for the first time. Before that, this
module changes each `required` label of an enum field to `optional`: one byte per field, in this process's memory
(private copy-on-write pages). The library file and other processes are not changed. An event whose value is unknown
then arrives with the field absent: readers of an enum call `HasField` first. `docs/upstream.md` has the fix that would
make this module unnecessary.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from neonize.proto import Neonize_pb2

_LABEL_AND_TYPE = bytes((0x20, FieldDescriptorProto.LABEL_REQUIRED, 0x28, FieldDescriptorProto.TYPE_ENUM))
"""A required enum field's `label` and `type` as they appear in a serialized FieldDescriptorProto."""
_PROT_READ, _PROT_WRITE = mmap.PROT_READ, mmap.PROT_WRITE


class DescriptorNotFoundError(RuntimeError):
    """The engine's descriptor is not in the expected place or form: nothing was changed."""


def relax(library: str) -> int:
    """Makes the required enum fields of the loaded `library` (a part of its file name) optional; returns how many.

    Call it once, before a device is opened. Raises DescriptorNotFoundError unless each field is found exactly as often
    as the engine's messages have it, and OSError when the memory cannot be changed.
    """
    places: list[int] = []
    memory = [(start, ctypes.string_at(start, end - start)) for start, end in _constants(library)]
    for field, count in _required_enums().items():
        hits = [start + hit.start() for start, bytes_ in memory for hit in re.finditer(re.escape(field), bytes_)]
        if len(hits) != count:
            name = FieldDescriptorProto.FromString(field).name
            raise DescriptorNotFoundError(f"enum field {name} was found {len(hits)} times, expected {count}")
        label = field.index(_LABEL_AND_TYPE) + 1
        places += [hit + label for hit in hits]
    for place in places:
        _overwrite(place, FieldDescriptorProto.LABEL_OPTIONAL)
    return len(places)


def _required_enums() -> dict[bytes, int]:
    """The required enum fields as the descriptor holds them (up to the JSON name, which Python's lacks), with how
    many messages have just that field."""
    fields: dict[bytes, int] = {}
    for message in FileDescriptorProto.FromString(Neonize_pb2.DESCRIPTOR.serialized_pb).message_type:
        for field in message.field:
            if field.label == FieldDescriptorProto.LABEL_REQUIRED and field.type == FieldDescriptorProto.TYPE_ENUM:
                known = field.SerializeToString()
                fields[known] = fields.get(known, 0) + 1
    return fields


def _constants(library: str) -> list[tuple[int, int]]:
    """The read-only mappings of the library, where Go keeps constant strings."""
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1] == "r--p" and library in fields[5]:
            start, end = fields[0].split("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _overwrite(place: int, value: int) -> None:
    page = place & ~(mmap.PAGESIZE - 1)
    _protect(page, _PROT_READ | _PROT_WRITE)
    ctypes.memset(place, value, 1)
    _protect(page, _PROT_READ)


def _protect(page: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), protection) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mprotect: {os.strerror(number)}")
