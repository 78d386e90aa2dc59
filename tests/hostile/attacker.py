"""A program that attacks a gateway on loopback until it is ended: `python attacker.py <kind> <port> <json of names>`.

It runs in a process of its own so that a test can stop and continue it (SIGSTOP, SIGCONT) and its own work disturbs
nobody: it has the lowest priority. Only the standard library, so that it starts at once.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

TIMEOUT = 10


def main() -> None:
    kind, port, names = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    os.nice(19)
    threads, pause, attack = KINDS[kind]
    for _ in range(threads):
        threading.Thread(target=_for_ever, args=(attack, pause, port, names), daemon=True).start()
    threading.Event().wait()


def _for_ever(attack: Callable[[int, dict[str, Any]], None], pause: float, port: int, names: dict[str, Any]) -> None:
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            attack(port, names)
        time.sleep(pause)


_COUNT = itertools.count()
_CALLBACKS = itertools.count()


def _address() -> str:
    number = next(_COUNT)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


_WORDY = json.dumps(
    {"entry": [{"changes": [{"value": {"metadata": {"phone_number_id": f"{i:x}"}}}]} for i in range(10_000)]}
).encode()


def callbacks(port: int, _names: dict[str, Any]) -> None:
    """Unsigned callbacks that name ten thousand numbers, each from another address."""
    _ask(port, "POST", "/meta/callbacks", _WORDY, X_Hub_Signature_256="sha256=" + "0" * 64, X_Forwarded_For=_address())


def _strange(count: int, numbers: int) -> list[Any]:
    """Changes about numbers that are set up nowhere."""
    return [{"value": {"metadata": {"phone_number_id": f"{count}-{i:x}"}}} for i in range(numbers)]


def signed(port: int, names: dict[str, Any]) -> None:
    """Large callbacks that a tenant signs with his own app secret: many strange numbers, receipts for ids that were
    made up, a text that only a lenient reader reads, nothing but a large body, and no JSON."""
    count = next(_CALLBACKS)
    ours = {"phone_number_id": names["phone_number_id"]}
    match count % 6:
        case 0:
            changes = _strange(count, 40_000)
        case 1:
            changes = _strange(count, 1_000)
        case 2:
            statuses = [{"id": f"made-up-{count}-{i}", "status": "read"} for i in range(5_000)]
            changes = [{"field": "messages", "value": {"metadata": ours, "statuses": statuses}}]
        case 3:
            changes = [{"field": "messages", "value": {"metadata": ours, "statuses": [{}] * 900_000}}]
        case 4:
            parts = [{"a\0b": [i]} for i in range(13_000)]
            changes = [{"field": f"x{count}", "value": {"metadata": ours, "parts": parts, "odd": float("nan")}}]
        case _:
            changes = [{"field": "calls", "value": {"metadata": ours, "x": f"{count:07d}" * 400_000}}]
    body = json.dumps({"entry": [{"id": names["waba_id"], "changes": changes}]}, separators=(",", ":")).encode()
    if count % 7 == 6:
        body = body[:-1]
    signature = "sha256=" + hmac.new(names["app_secret"].encode(), body, hashlib.sha256).hexdigest()
    _ask(port, "POST", "/meta/callbacks", body, X_Hub_Signature_256=signature, X_Forwarded_For=_address())


def sign_ins(port: int, names: dict[str, Any]) -> None:
    """The right password and wrong ones, each from another address."""
    for password in (names["password"], f"guess {next(_COUNT)}"):
        basic = base64.b64encode(f"{names['email']}:{password}".encode()).decode()
        _ask(port, "GET", "/", Authorization=f"Basic {basic}", X_Forwarded_For=_address())


def keys(port: int, _names: dict[str, Any]) -> None:
    """Wrong keys, each from another address."""
    body = json.dumps({"api_key": f"guess{next(_COUNT)}"}).encode()
    _ask(port, "POST", "/public/v1/info", body, Content_Type="application/json", X_Forwarded_For=_address())


def heads(port: int, _names: dict[str, Any]) -> None:
    """Connections with a head without end, and idle ones."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT))
        endless = stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT))
        endless.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(200):
            endless.sendall(b"x" * 65_536)


def lists(port: int, names: dict[str, Any]) -> None:
    """Searches through a long list, by a tenant with a right key."""
    body = {**names["credentials"], "contact_id": names["contact_id"], "search": f"x{next(_COUNT) % 7}", "length": 10}
    _ask(port, "POST", "/public/v1/get-list-audiences", json.dumps(body).encode(), Content_Type="application/json")


def otp_checks(port: int, names: dict[str, Any]) -> None:
    """Guesses at one-time passwords, by a tenant with a right key."""
    body = {**names["credentials"], "otp_code": f"{next(_COUNT) % 1_000_000:06d}"}
    _ask(port, "POST", "/public/v1/validate_otp", json.dumps(body).encode(), Content_Type="application/json")


def sends(port: int, names: dict[str, Any]) -> None:
    """A tenant fills its queue."""
    body = {**names["credentials"], "phone_no": f"62813{next(_COUNT):08d}", "message": "Halo " * 200}
    _ask(port, "POST", "/public/v1/send_personal_message", json.dumps(body).encode(), Content_Type="application/json")


def bodies(port: int, names: dict[str, Any]) -> None:
    """Large bodies of deep and of wide JSON, and of forms with many fields."""
    kind = next(_COUNT) % 3
    if kind == 0:
        body = b'{"api_key":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    elif kind == 1:
        body = json.dumps({**names["credentials"], **{f"k{i}": i for i in range(20_000)}}).encode()
    else:
        body = "&".join(f"k{i}={i}" for i in range(20_000)).encode()
    content_type = "application/x-www-form-urlencoded" if kind == 2 else "application/json"
    _ask(port, "POST", "/public/v1/info", body, Content_Type=content_type, X_Forwarded_For=_address())


KINDS: dict[str, tuple[int, float, Callable[[int, dict[str, Any]], None]]] = {
    "callbacks": (4, 0.1, callbacks),
    "signed": (1, 0.3, signed),
    "sign_ins": (24, 0.2, sign_ins),
    "keys": (4, 0.05, keys),
    "heads": (2, 0.2, heads),
    "lists": (6, 0.1, lists),
    "otp_checks": (4, 0.05, otp_checks),
    "sends": (4, 0.05, sends),
    "bodies": (2, 0.2, bodies),
}
"""How many do it at once, and the seconds of rest of each in between: what is tried is not whether a machine can be
kept busy by asking it very often, but whether little asking can cost it much."""

if __name__ == "__main__":
    main()
