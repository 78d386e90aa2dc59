"""A host process whose engine is a script: what it does is said by the messages that it is given to send.

Run as the real one is: `python scripted_host.py CALLS NEWS`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from kurir.channels.linked_device import protocol as say
from kurir.channels.linked_device.engine_host import threads
from kurir.channels.linked_device.engine_host.program import Host
from kurir.messages.channel_reports import InDoubt, Refused, Sent, StatusChanged
from kurir.messages.content import Text
from kurir.reasons import as_written

PAIRS_AT_ONCE = "6281111111111"
STAYS_PAIRED = "6281111111112"
"""Is paired, but nothing follows: the server does not end the pairing's connection."""


_LATE: dict[str, Callable[[int], say.News]] = {
    "qr": lambda device: say.QrShown(device, "late"),
    "code": lambda device: say.CodeShown(device, "LATE-LATE"),
    "paired": lambda device: say.Paired(device, "62899", "62899:9@x"),
    "pair-failed": lambda device: say.PairingFailed(device, as_written("late")),
    "unsteady": lambda device: say.Unsteady(device, 1),
    "connected": lambda device: say.DeviceState(
        device, "connected", as_written("late"), phone="62899", jid="62899:9@x"
    ),
    "logged_out": lambda device: say.DeviceState(device, "logged_out", as_written("late")),
    "replaced": lambda device: say.DeviceState(device, "replaced", as_written("late")),
    "banned": lambda device: say.DeviceState(device, "banned", as_written("late"), retry_after=60.0),
}
"""What a host may still say of a device that it has closed."""


class ScriptedEngine:
    """A device whose session file does not exist shows a QR text or code; any other is connected at once. One with
    a file `….deadly` beside its session ends the host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.clinging: set[int] = set()
        self.sound = threading.Event()
        self.openings: dict[int, int] = {}

    def perform(self, command: say.Command) -> say.HostReply:
        match command:
            case say.Open(device=device, session=session, phone=phone, opening=opening):
                self.openings[device] = opening
                if Path(session + ".deadly").exists():
                    os._exit(9)
                if Path(session).exists():
                    self._emit(
                        say.DeviceState(device, "connected", as_written("connected"), phone="62811", jid="62811:1@x")
                    )
                elif phone == PAIRS_AT_ONCE:
                    Path(session).touch()
                    self._emit(say.Paired(device, phone, f"{phone}:1@x"))
                    self._emit(
                        say.DeviceState(device, "connected", as_written("connected"), phone=phone, jid=f"{phone}:1@x")
                    )
                elif phone == STAYS_PAIRED:
                    Path(session).touch()
                    self._emit(say.Paired(device, phone, f"{phone}:1@x"))
                elif phone:
                    self._emit(say.CodeShown(device, "ABCD-1234"))
                else:
                    self._emit(say.QrShown(device, "qr-text"))
                return say.Done()
            case say.Send():
                return self._send(command)
            case say.ListContacts():
                return say.Contacts([say.DeviceContact(str(os.getpid()), "0")])
            case say.LogOut(device=device):
                self._emit(say.DeviceState(device, "logged_out", as_written("told before the answer")))
                return say.Done()
            case say.Ping() if found := threads.failing():
                return say.Alive(failing=found)
            case say.Ping() if self.sound.is_set():
                return say.Alive()
            case say.Close(device=device) if device in self.clinging:
                threading.Event().wait()
                return say.Done()
            case _:
                return say.Done()

    def _send(self, command: say.Send) -> say.HostReply:
        assert isinstance(command.outgoing.content, Text)
        device = command.device
        match command.outgoing.content.body.split():
            case ["die"]:
                os._exit(9)
            case ["slow", seconds]:
                threading.Event().wait(float(seconds))
            case ["hang"]:
                threading.Event().wait()
            case ["doubt"]:
                return InDoubt(as_written("no answer in time"))
            case ["fail"]:
                return say.Failed(as_written("something else"))
            case ["unreadable", count]:
                for n in range(int(count)):
                    body = say.frame(say.Notice(StatusChanged(1, device, f"m{n}", "delivered", 1.0)))[4:]
                    broken = body.replace(b"delivered", b"\xffelivered") if n % 2 else body
                    os.write(int(sys.argv[2]), len(broken).to_bytes(4, "big") + broken)
            case ["tells", what]:
                self._emit(say.Trouble(device, what * 10))
                self._emit(say.Trouble(device, "half a pair \ud800"))
                self._emit(say.Trouble(device, b"no text"))  # pyright: ignore[reportArgumentType]
                self._emit(StatusChanged(1, device, "after", "delivered", 1.0))
            case ["answers", "bytes"]:
                return say.Failed(b"no text")  # pyright: ignore[reportArgumentType]
            case ["answers", "nonsense"]:
                return say.Failed(as_written("half a pair \ud800"))
            case ["garbage"]:
                os.write(int(sys.argv[1]), b"\xff" * 64)
                threading.Event().wait()
            case ["news", "qr"]:
                self._emit(say.QrShown(device, "unexpected"))
            case ["news", "ban", *seconds]:
                retry_after = float(seconds[0]) if seconds else 3600.0
                self._emit(say.DeviceState(device, "banned", as_written("banned for a while"), retry_after=retry_after))
            case ["news", "dead"]:
                self._emit(say.DeviceState(device, "degraded", as_written("the check got no answer")))
                self._emit(say.DeviceState(device, "degraded", as_written("no keep-alive")))
                self._emit(say.DeviceState(device, "connected", as_written("connected")))
            case ["news", "degraded"]:
                self._emit(say.DeviceState(device, "degraded", as_written("the check got no answer")))
            case ["clings"]:
                self.clinging.add(device)
            case ["news", "pair-failed"]:
                self._emit(say.PairingFailed(device, as_written("no")))
            case ["news", "unsteady"]:
                self._emit(say.Unsteady(device, 1))
            case ["state", state, *seconds]:
                retry_after = float(seconds[0]) if seconds else None
                self._emit(say.DeviceState(device, state, as_written(f"is {state}"), retry_after=retry_after))  # pyright: ignore[reportArgumentType]
            case ["late", other, what]:
                self._emit(_LATE[what](int(other)))
            case ["flood", count]:
                for n in range(int(count)):
                    self._emit(StatusChanged(1, device, f"m{n}", "delivered", float(n)))
            case ["refused", count]:
                for n in range(int(count)):
                    self._emit(say.Trouble(device, f"look-up {n}"))
                    self._emit(say.Unread(device, "call"))
                    self._emit(say.StoreFailed(device))
                    self._emit(say.DeviceState(device, "degraded", as_written(f"state {n}")))
                self._emit(say.Paired(device, "62811", "62811:1@x"))
                return Refused("not_on_whatsapp", as_written("no"))
            case ["breaks", *names]:
                for name in names:
                    threads.keep(name, self._break, threading.Event(), lambda _: None)
            case ["mends"]:
                self.sound.set()
            case ["noise"]:
                sys.stdout.write("x" * 3_000_000 + "\nphone 6281234567890\n")
                sys.stdout.flush()
        return self._sent(command)

    def _emit(self, news: say.News) -> None:
        if isinstance(news, say.OfOpening):
            news = msgspec.structs.replace(news, opening=self.openings.get(getattr(news, "device", 0), 0))
        self.host.emit(news)

    def _break(self) -> None:
        if not self.sound.is_set():
            raise RuntimeError("broken on purpose")
        threading.Event().wait()

    @staticmethod
    def _sent(command: say.Send) -> say.HostReply:
        return Sent(f"id-{command.outgoing.message_id}-{command.typing:g}")


if __name__ == "__main__":
    host = Host(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))
    host.serve(ScriptedEngine(host))
    os._exit(0)
