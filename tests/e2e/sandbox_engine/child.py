"""The child process: one neonize client, driven by JSON lines over an inherited socket.

Usage: child.py <socket fd> <session database> <noise root key, hex>. A command is {"id", "call", …arguments}; the
answer is {"id", "result"} or {"id", "error"}; in between come {"event", "data"}. Standard output belongs to the
engine's own noise.
"""

import base64
import contextlib
import ctypes
import json
import os
import socket
import sys
import threading
from pathlib import Path

with contextlib.suppress(ImportError):
    import pylibmagic  # noqa: F401 - lets python-magic find libmagic where the system has none

from google.protobuf.json_format import MessageToDict
from neonize import events
from neonize.client import NewClient
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import LocationMessage, Message
from neonize.utils import build_jid
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, Presence, ReceiptType, VoteType

WHATSAPP_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
EVENTS = (
    "ConnectedEv",
    "DisconnectedEv",
    "MessageEv",
    "ReceiptEv",
    "ChatPresenceEv",
    "PresenceEv",
    "LoggedOutEv",
    "StreamReplacedEv",
    "StreamErrorEv",
    "ConnectFailureEv",
    "TemporaryBanEv",
    "ClientOutdatedEv",
    "PairStatusEv",
    "GroupInfoEv",
    "JoinedGroupEv",
    "OfflineSyncCompletedEv",
    "UndecryptableMessageEv",
)


def trust(root: bytes) -> None:
    """Replaces WhatsApp's Noise root key in this process's copy of the library by the sandbox's."""
    hits = []
    with Path("/proc/self/maps").open() as maps:
        for line in maps:
            fields = line.split()
            if len(fields) < 6 or "neonize" not in fields[5] or not fields[1].startswith("rw"):
                continue
            start, end = (int(x, 16) for x in fields[0].split("-"))
            at = ctypes.string_at(start, end - start).find(WHATSAPP_ROOT)
            if at >= 0:
                hits.append(start + at)
    if len(hits) != 1:
        raise SystemExit(f"expected the root key once in the library, found it {len(hits)} times")
    ctypes.memmove(hits[0], root, len(root))


class Engine:
    def __init__(self, channel: socket.socket, database: str) -> None:
        self.channel = channel.makefile("rw", encoding="utf-8", newline="\n")
        self.lock = threading.Lock()
        self.client = NewClient(database)
        self.client.event.qr(lambda _, data: self.emit(event="qr", data=data.decode()))
        for name in EVENTS:
            self.client.event(getattr(events, name))(
                lambda _, event, name=name: self.emit(event=name.removesuffix("Ev"), data=fields(event))
            )
        self.received: dict[str, Message] = {}
        self.client.event(events.MessageEv)(self.message)

    def emit(self, **line) -> None:
        with self.lock:
            self.channel.write(json.dumps(line) + "\n")
            self.channel.flush()

    def message(self, _, event) -> None:
        self.received[event.Info.ID] = event.Message
        self.emit(event="Message", data=fields(event), raw=base64.b64encode(event.Message.SerializeToString()).decode())

    def serve(self) -> None:
        for line in self.channel:
            command = json.loads(line)
            threading.Thread(target=self.run, args=(command,), daemon=True).start()

    def run(self, command: dict) -> None:
        number, call = command.pop("id"), command.pop("call")
        try:
            self.emit(id=number, result=getattr(self, call)(**command))
        except Exception as error:  # whatever the engine raises is what the test wants to see
            self.emit(id=number, error=f"{type(error).__name__}: {error}")

    def connect(self):
        threading.Thread(target=self.client.connect, daemon=True).start()

    def pair_code(self, phone):
        return self.client.PairPhone(phone, True)

    def send(self, to, kind, **given):
        c, chat = self.client, jid(to)
        if kind == "text":
            sent = c.send_message(chat, Message(conversation=given["text"]))
        elif kind == "raw":
            sent = c.send_message(chat, Message.FromString(base64.b64decode(given["data"])))
        elif kind == "image":
            sent = c.send_image(chat, base64.b64decode(given["data"]), caption=given["caption"])
        elif kind == "document":
            sent = c.send_document(
                chat, base64.b64decode(given["data"]), caption=given["caption"], filename=given["name"]
            )
        elif kind == "location":
            pin = LocationMessage(degreesLatitude=given["lat"], degreesLongitude=given["lon"], name=given["name"])
            sent = c.send_message(chat, Message(locationMessage=pin))
        elif kind == "contact":
            sent = c.send_contact(chat, given["name"], given["phone"])
        elif kind == "poll":
            sent = c.send_message(chat, c.build_poll_vote_creation(given["text"], given["options"], VoteType.SINGLE))
        elif kind == "reaction":
            sent = c.send_message(chat, c.build_reaction(chat, chat, given["message"], given["text"]))
        else:
            raise ValueError(kind)
        return sent.ID

    def download(self, message):
        return base64.b64encode(self.client.download_any(self.received[message])).decode()

    def available(self):
        self.client.send_presence(Presence.AVAILABLE)

    def type(self, to):
        self.client.send_chat_presence(
            jid(to), ChatPresence.CHAT_PRESENCE_COMPOSING, ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        )

    def read(self, chat, message):
        self.client.mark_read(message, chat=jid(chat), sender=jid(chat), receipt=ReceiptType.READ)

    def groups(self):
        return {
            group.JID.User: {
                "subject": group.GroupName.Name,
                "members": {
                    p.PhoneNumber.User: "superadmin" if p.IsSuperAdmin else "admin" if p.IsAdmin else "participant"
                    for p in group.Participants
                },
            }
            for group in self.client.get_joined_groups()
        }

    def group(self, group):
        return self.client.get_group_info(jid(group)).GroupName.Name

    def on_whatsapp(self, numbers):
        return {found.Query: found.IsIn for found in self.client.is_on_whatsapp(*numbers)}

    def canonical(self, number):
        (found,) = self.client.is_on_whatsapp(number)
        return {"in": found.IsIn, "jid": f"{found.JID.User}@{found.JID.Server}"}

    def contacts(self):
        return {c.JID.User: c.Info.FullName for c in self.client.contact.get_all_contacts() if c.Info.FullName}

    def me(self):
        me = self.client.get_me()
        return {"phone": me.JID.User, "device": me.JID.Device, "lid": me.LID.User, "name": me.PushName}

    def rename(self, name):
        self.client.set_profile_name(name)

    def logout(self):
        self.client.logout()

    def disconnect(self):
        self.client.disconnect()


def fields(event) -> dict:
    """The event as JSON values; what is no UTF-8 in it makes the conversion impossible, then only what can be told."""
    try:
        return MessageToDict(event)
    except (ValueError, TypeError) as error:
        info = {"ID": event.Info.ID} if event.HasField("Info") else {}
        return {"Info": info, "Message": {}, "unprintable": str(error)}


def jid(text: str):
    return build_jid(text, "g.us" if text.startswith("120363") else "s.whatsapp.net")


def main() -> None:
    descriptor, database, root = int(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
    trust(root)
    Engine(socket.socket(fileno=descriptor), database).serve()
    os._exit(0)  # the engine's threads would keep the process alive


main()
