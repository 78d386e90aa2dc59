"""The accountant: ledgers that share nothing, one balance sheet, every line zero.

A the callers' own log · B the gateway's database · C the sandbox's ledger of what reached phones · D the letters of
the webhook receiver. Ask it only after
quiescence: when the gateway has nothing queued or in flight any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from standardwebhooks import WebhookVerificationError
from tests.harness.webhooks import WebhookCall, verified
from tests.reliability.load import Call
from tests.reliability.site import Site

from kurir.kit.ids import public_message_id

ARRIVED = ("sent", "delivered", "read")
_BUSY = ("queued", "sending", "webhook waiting", "webhook pending", "webhook sending", "callback waiting")
_STILL = 2.0
NEVER = ("failed", "expired", "canceled")


@dataclass
class Sheet:
    """What came out. `wrong` maps each check to its offenders; all must be empty."""

    totals: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def render(self) -> str:
        """The sheet as lines of text."""
        lines = [f"{name:<28}{count:>8}" for name, count in self.totals.items()]
        lines += [f"{name:<28}{len(found):>8}  {', '.join(found[:5])}" for name, found in self.wrong.items()]
        return "\n".join(lines)

    def assert_zero(self, context: str = "") -> None:
        """Fails when any check found an offender."""
        assert not any(self.wrong.values()), f"\n{self.render()}\n{context}"


async def quiet(site: Site, limit: float) -> None:
    """Waits until the gateway has nothing to send or to tell, WhatsApp has no callback for it, and no receipt has moved
    anything for a while."""
    async with asyncio.timeout(limit):
        last: list[tuple[str, int]] | None = None
        while True:
            states = await asyncio.to_thread(_states, site)
            states.append(("callback waiting", (await site.sandbox.get("/healthz"))["callbacks_waiting"]))
            if states == last and not any(state in _BUSY and count for state, count in states):
                return
            last = states
            await asyncio.sleep(_STILL)


async def balance(
    site: Site,
    calls: list[Call],
    webhook_calls: Sequence[WebhookCall] = (),
    *,
    doubts: int = 0,
    only_kills: bool = False,
) -> Sheet:
    """The balance sheet of a run. `letters` is what the webhook receiver got, once nothing is left to deliver.

    `doubts`: how many messages may be unconfirmed besides those that kills can explain. `only_kills`: nothing else went
    wrong, so that receipts could come for whatever arrived (checks 17 and 18).
    """
    all_rows = await asyncio.to_thread(_gateway, site)
    rows = [row for row in all_rows if row["text"].startswith("#")]  # the rest is none of the callers'
    reached = await arrivals(site)
    sheet = Sheet()
    by_serial: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_serial[serial_of(row["text"])].append(row)
    seen = Counter(serial_of(entry["text"]) for entry in reached)
    called = {call.serial: call for call in calls}

    accepted = [call for call in calls if call.code == "200"]
    states = Counter(row["state"] for row in rows)
    unconfirmed = [row for row in rows if row["state"] == "unconfirmed"]
    sheet.totals = {
        "calls": len(calls),
        "answered 200": len(accepted),
        "without a reply": sum(call.code == "" for call in calls),
        "refused": sum(call.code not in {"", "200"} for call in calls),
        "messages stored": len(rows),
        **{f"  {state}": count for state, count in sorted(states.items())},
        "arrived on phones": len(reached),
        "unconfirmed of devices": sum(row["number_id"] in {s.device.id for s in site.shops} for row in unconfirmed),
        "unconfirmed that arrived": sum(bool(seen[serial_of(row["text"])]) for row in unconfirmed),
        "kills": site.kills,
    }
    sheet.wrong = {
        "1 lost acceptance": [call.serial for call in accepted if not by_serial[call.serial]],
        "2 lost message": [
            s for s, found in by_serial.items() if found and found[0]["state"] in ARRIVED and not seen[s]
        ],
        "3 sent twice": [serial for serial, count in seen.items() if count > 1],
        "4 ghosts": [s for s, found in by_serial.items() if found and found[0]["state"] in NEVER and seen[s]],
        "5 limbo": [serial_of(row["text"]) for row in rows if row["state"] in {"queued", "sending"}],
        "6 out of order": _overtaken(called, reached) if site.others else _disorder(rows, reached),
        "7 altered": [serial_of(e["text"]) for e in reached if e["text"] != called[serial_of(e["text"])].text],
        "8 stored twice": [serial for serial, found in by_serial.items() if len(found) > 1],
        "9 wrong tenant": _strays(site, reached, called),
        "10 doubt beyond the budget": _beyond(unconfirmed, site, doubts),
        "11 books do not balance": _imbalance(rows, seen),
        **_webhooks(site, all_rows, webhook_calls),
        # a 503 of the type "unknown" and a 408 say that it may be stored, or is
        **(_unsettled(unconfirmed, seen, site) if only_kills else {}),
        "16 refused yet stored": [
            c.serial for c in calls if by_serial[c.serial] and c.code not in {"", "200", "408"} and c.kind != "unknown"
        ],
    }
    sheet.totals["webhooks received"] = len(webhook_calls)
    return sheet


def _webhooks(site: Site, rows: list[dict[str, Any]], webhook_calls: Sequence[WebhookCall]) -> dict[str, list[str]]:
    """Every message's state was told to its own account, signed, and one id never carried two bodies."""
    shops = {f"/{shop.account_id}": shop for shop in site.shops}
    bodies: dict[str, set[bytes]] = defaultdict(set)
    reported: set[tuple[int, str, str]] = set()
    forged = []
    for webhook_call in webhook_calls:
        bodies[webhook_call.id].add(webhook_call.body)
        shop = shops[webhook_call.path]
        try:
            data = verified(webhook_call, shop.webhook_secret)["data"]
        except WebhookVerificationError:
            forged.append(webhook_call.id)
            continue
        reported.add((shop.account_id, data["message_id"], data["status"]))
    states = [(row["account_id"], public_message_id(row["id"]), row["state"]) for row in rows]
    ours = {(account_id, message_id) for account_id, message_id, _ in states}
    return {
        "12 state not published": [
            message_id for account, message_id, state in states if (account, message_id, state) not in reported
        ],
        "13 published another's": [m for account, m, _ in reported if (account, m) not in ours],
        "14 one id, two bodies": [id_ for id_, found in bodies.items() if len(found) > 1],
        "15 not signed": forged,
    }


def serial_of(text: str) -> str:
    """The serial that a caller put into a text."""
    return text.split(" ", 1)[0]


def _overtaken(called: dict[str, Call], arrivals: list[dict[str, Any]]) -> list[str]:
    """Serials that reached a person after one that was only called for when they had been answered.

    All that callers of several gateways can know: calls at the same time are accepted in any order.
    """
    last: dict[tuple[str, str], float] = {}
    found = []
    for entry in arrivals:
        call, lane = called[serial_of(entry["text"])], (entry["from"], entry["phone"])
        if call.code and call.answered_at < last.get(lane, 0.0):
            found.append(call.serial)
        last[lane] = max(call.asked_at, last.get(lane, 0.0))
    return found


def _disorder(rows: list[dict[str, Any]], arrivals: list[dict[str, Any]]) -> list[str]:
    """Serials that reached a person before one that was accepted earlier by the same number."""
    order = {serial_of(row["text"]): row["id"] for row in rows}
    last: dict[tuple[str, str], int] = {}
    found = []
    for entry in arrivals:
        serial, lane = serial_of(entry["text"]), (entry["from"], entry["phone"])
        if order.get(serial, 0) < last.get(lane, 0):
            found.append(serial)
        last[lane] = max(order.get(serial, 0), last.get(lane, 0))
    return found


def _strays(site: Site, arrivals: list[dict[str, Any]], called: dict[str, Call]) -> list[str]:
    """Serials that came from a number of another account, or reached another person than the caller named."""
    senders = {shop.device_phone: shop.account_id for shop in site.shops}
    senders |= {shop.official.phone: shop.account_id for shop in site.shops}
    found = []
    for entry in arrivals:
        call = called[serial_of(entry["text"])]
        if senders[entry["from"]] != call.account_id or entry["phone"] != call.recipient:
            found.append(call.serial)
    return found


def _beyond(unconfirmed: list[dict[str, Any]], site: Site, doubts: int) -> list[str]:
    """Doubt is bounded by what can be in flight at a kill: the windows of all numbers."""
    budget = site.kills * len(site.shops) * (8 + 32) + doubts
    return [serial_of(row["text"]) for row in unconfirmed[budget:]]


def _unsettled(unconfirmed: list[dict[str, Any]], seen: Counter[str], site: Site) -> dict[str, list[str]]:
    """What a receipt should have settled.

    Of a device at most one a kill: a receipt that the engine had acknowledged and still held in memory. Of an official
    number none: a call that was in flight to Graph cannot be asked about, but its callback comes. And a device's
    session tells nearly all of what never left from what did.
    """
    devices = {shop.device.id for shop in site.shops}
    of_devices = [row for row in unconfirmed if row["number_id"] in devices]
    of_official = [row for row in unconfirmed if row["number_id"] not in devices]

    def arrived(rows: list[dict[str, Any]]) -> list[str]:
        return [serial for row in rows if seen[serial := serial_of(row["text"])]]

    return {
        "17 arrived unbeknown, devices": arrived(of_devices)[site.kills :],
        "17 arrived unbeknown, official": arrived(of_official),
        "18 device doubts over one a kill": [serial_of(row["text"]) for row in of_devices[site.kills :]],
    }


def _imbalance(rows: list[dict[str, Any]], seen: Counter[str]) -> list[str]:
    """Stored = arrived + never sent + (in doubt and not arrived)."""
    states = Counter(row["state"] for row in rows)
    doubtful = [row for row in rows if row["state"] == "unconfirmed"]
    arrived = sum(1 for row in rows if seen[serial_of(row["text"])])
    missing = sum(1 for row in doubtful if not seen[serial_of(row["text"])])
    ended = sum(states[state] for state in NEVER)
    return [] if len(rows) == arrived + ended + missing else [f"{len(rows)} ≠ {arrived} + {ended} + {missing}"]


def _states(site: Site) -> list[tuple[str, int]]:
    messages = site.rows("SELECT state, count(*) FROM messages GROUP BY state ORDER BY state")
    webhook_calls = site.rows(
        "SELECT 'webhook ' || state, count(*) FROM webhook_deliveries GROUP BY state ORDER BY state"
    )
    return [(str(row[0]), int(row[1])) for row in [*messages, *webhook_calls]]


def _gateway(site: Site) -> list[dict[str, Any]]:
    return [
        {"id": row[0], "account_id": row[1], "state": row[2], "attempts": row[3], "number_id": row[5]}
        | {"text": msgspec.json.decode(row[4]).get("body", "")}
        for row in site.rows("SELECT id, account_id, state, attempts, content, number_id FROM messages ORDER BY id")
    ]


async def arrivals(site: Site) -> list[dict[str, Any]]:
    """All arrivals that carry a serial, in the order in which they reached the phones."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = (await site.sandbox.get(f"/ledger?after={after}&limit=500"))["entries"]
        if not page:
            return [entry for entry in found if entry["text"].startswith("#")]
        found += page
        after = page[-1]["id"]
