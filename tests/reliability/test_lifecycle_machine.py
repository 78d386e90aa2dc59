"""The life of messages against a small model: any order of accepts, claims, outcomes, receipts, crashes and time.

The model is a dictionary of messages and the rules in words (`messages/lifecycle`, `outbox/retries`, `outbox/doubt`);
after every step each message stands in the database where the model says, on SQLite and on PostgreSQL.
`KURIR_MACHINE_RUNS` raises the dose.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.harness.outbox import Time, open_outbox

from kurir.accounts import accounts
from kurir.accounts.tables import accounts as account_table
from kurir.data_folder import renew_schema
from kurir.messages.channel_reports import (
    Halted,
    InDoubt,
    NeverLeft,
    NotConnected,
    Outcome,
    Refused,
    Sent,
    StatusChanged,
    TryLater,
    Unknown,
)
from kurir.messages.content import Text
from kurir.numbers import numbers
from kurir.numbers.numbers import Number
from kurir.outbox.doubt import CUT_OFF, explained
from kurir.outbox.message_rows import Claimed, Draft
from kurir.outbox.outbox import Outbox
from kurir.outbox.tables import messages
from kurir.reasons import as_written
from kurir.store.database import Database

T = TypeVar("T")
RUNS = {"sqlite": int(os.environ.get("KURIR_MACHINE_RUNS", "300")), "postgresql": 80}
STEPS = 40
MAX_ATTEMPTS = 3
LIFETIME = 3600.0
TIMEOUT = 60.0
RANK = {"queued": 0, "sending": 1, "unconfirmed": 1, "sent": 2, "delivered": 3, "read": 4}
ENDS = ("failed", "expired", "canceled")
DRAFTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0, 5, 8]), st.sampled_from([60.0, 3_000.0, 100_000.0])),
    min_size=1,
    max_size=5,
)
OUTCOMES = st.sampled_from(
    [
        "sent",
        "refused",
        "in doubt",
        "in doubt under an id",
        "not connected",
        "again at once",
        "again soon",
        "again too late",
    ]
)


@dataclass
class Believed:
    """A message as the model sees it. `doubt_until` while it may go out once more after a doubt."""

    id: int
    recipient: str
    priority: int
    expires_at: float
    due_at: float
    state: str = "queued"
    attempts: int = 0
    remote_id: str | None = None
    doubt_until: float | None = None

    @property
    def place(self) -> tuple[int, int]:
        return self.priority, self.id


@dataclass
class Rig:
    """What all runs share: one database, one event loop."""

    runner: asyncio.Runner
    database: Database
    count: Any = field(default_factory=itertools.count)


class Lifecycle(RuleBasedStateMachine):
    """One sender number with three recipients."""

    rig: ClassVar[Rig]

    def run_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.rig.runner.run(work)

    @initialize(resends=st.booleans(), first=DRAFTS)
    def open(self, resends: bool, first: list[tuple[str, int, float]]) -> None:
        self.time = Time()
        self.resends = resends
        email = f"{next(self.rig.count)}@example.com"

        def work(connection: sa.Connection) -> Number:
            connection.execute(messages.delete())  # what earlier runs left
            account = accounts.create(connection, name="a", email=email)
            setting = account_table.update().where(account_table.c.id == account.id)
            connection.execute(setting.values(doubt="resend" if resends else "hold"))
            return numbers.add_linked_device(connection, account.id)

        self.number = self.run_(self.rig.database.write(work))
        self.known: dict[int, Believed] = {}
        self.sending: dict[int, Claimed] = {}
        self.early: dict[int, list[str]] = {}
        self.outbox = self.new_outbox()
        self.accept(first)

    def new_outbox(self) -> Outbox:
        options = {"lifetime": LIFETIME, "max_attempts": MAX_ATTEMPTS}
        return open_outbox(self.rig.database, self.time, [], **options)

    # -- what may happen -------------------------------------------------------------------------------------------

    @rule(wanted=DRAFTS)
    def accept(self, wanted: list[tuple[str, int, float]]) -> None:
        drafts = [
            Draft(
                account_id=self.number.account_id,
                number_id=self.number.id,
                recipient=recipient,
                content=Text("halo"),
                priority=priority,
                lifetime=lifetime,
            )
            for recipient, priority, lifetime in wanted
        ]
        ids, now = self.run_(self.outbox.accept(drafts)).ids, self.time.now
        for message_id, (recipient, priority, lifetime) in zip(ids, wanted, strict=True):
            self.known[message_id] = Believed(message_id, recipient, priority, now + lifetime, now)

    @rule(fates=st.lists(st.none() | OUTCOMES, min_size=1, max_size=4))
    def claim(self, fates: list[str | None]) -> None:
        """A lane takes messages; some are carried at once, some stay in flight."""
        self.take(fates)

    @rule(fates=st.lists(OUTCOMES, min_size=3, max_size=3))
    def claim_and_send(self, fates: list[str | None]) -> None:
        """A lane at its usual work."""
        self.take(fates)

    def take(self, fates: list[str | None]) -> None:
        limit = len(fates)
        now = self.time.now
        heads = [m for m in self.known.values() if m.state == "queued" and m.due_at <= now and not self.held_back(m)]
        expected = sorted(heads, key=lambda m: m.place)[:limit]
        for message in expected:
            message.state = "expired" if message.expires_at <= now else "sending"
            message.attempts += message.state == "sending"
        claimed = self.run_(self.outbox.claim(self.number.account_id, self.number.id, limit)).messages
        taken = [m for m in expected if m.state == "sending"]
        assert [(c.id, c.attempt) for c in claimed] == [(m.id, m.attempts) for m in taken]
        self.sending |= {c.id: c for c in claimed}
        for one, fate in zip(claimed, fates, strict=False):
            if fate is not None:
                self.record(self.sending.pop(one.id), self.outcome_of(one.id, fate))

    def held_back(self, message: Believed) -> bool:
        others = [m for m in self.known.values() if m.recipient == message.recipient and m is not message]
        return any(
            m.state == "sending" or (m.place < message.place and (m.state == "queued" or m.doubt_until is not None))
            for m in others
        )

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), fate=OUTCOMES)
    def land(self, data: st.DataObject, fate: str) -> None:
        message_id = data.draw(st.sampled_from(sorted(self.sending)))
        self.record(self.sending.pop(message_id), self.outcome_of(message_id, fate))

    def outcome_of(self, message_id: int, fate: str) -> Outcome:
        outcomes: dict[str, Outcome] = {
            "sent": Sent(self.remote(message_id)),
            "refused": Refused("131026", as_written("no")),
            "in doubt": InDoubt(as_written("no answer")),
            "in doubt under an id": InDoubt(as_written("no answer"), self.remote(message_id)),
            "not connected": NotConnected(as_written("gone")),
            "halted": Halted("190", as_written("the token has expired")),
            "again at once": TryLater("130429", as_written("slow down"), 0.0),
            "again soon": TryLater("130429", as_written("slow down"), 5.0),
            "again too late": TryLater("130429", as_written("slow down"), 700.0),
        }
        return outcomes[fate]

    def record(self, claimed: Claimed, outcome: Outcome) -> None:
        message, now = self.known[claimed.id], self.time.now
        if message.state == "sending":
            self.settle(message, outcome, now)
        elif isinstance(outcome, Sent | InDoubt) and message.state in ("delivered", "read"):
            message.remote_id = message.remote_id or outcome.remote_id
        if isinstance(outcome, Sent | InDoubt) and outcome.remote_id:
            for status in self.early.pop(message.id, []):
                self.believe_receipt(message, status)
        self.run_(self.outbox.record(claimed, outcome, TIMEOUT))
        if message.due_at < 0:
            message.due_at = self.due_at(message.id)
            assert now + 1.5 < message.due_at < now + 10

    def settle(self, message: Believed, outcome: Outcome, now: float) -> None:
        match outcome:
            case Sent(remote_id):
                message.state, message.remote_id = "sent", remote_id
            case Refused():
                message.state = "failed"
            case InDoubt(_, remote_id):
                message.state, message.remote_id = "unconfirmed", remote_id or message.remote_id
                message.doubt_until = now + TIMEOUT if self.resends else None
            case NotConnected() | Halted() if now >= message.expires_at:
                message.state = "expired"
            case NotConnected() | Halted():
                message.state, message.due_at, message.attempts = "queued", now, message.attempts - 1
            case TryLater() if message.attempts >= MAX_ATTEMPTS:
                message.state = "failed"
            case TryLater(_, _, None):  # 2 s or 8 s and the jitter: looked up, and checked against its bounds
                latest = now + (2.0, 8.0)[message.attempts - 1] * 1.2
                assert latest < message.expires_at or message.expires_at - now < 10, "the model does not decide this"
                message.state, message.due_at = "queued", -1.0
            case TryLater(_, _, after):
                message.state = "queued" if now + after < message.expires_at else "expired"
                message.due_at = now + after if message.state == "queued" else message.due_at

    @precondition(lambda self: self.known)
    @rule(data=st.data(), status=st.sampled_from(["sent", "delivered", "read", "failed"]), by_our_id=st.booleans())
    def receipt(self, data: st.DataObject, status: Any, by_our_id: bool) -> None:
        message = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        if by_our_id or message.remote_id is not None:
            self.believe_receipt(message, status)
        elif any(other.state == "sending" for other in self.known.values()):
            # else the number has nothing in flight that it could be about
            self.early.setdefault(message.id, []).append(status)
        own = (self.number.account_id, self.number.id, self.remote(message.id))
        event = StatusChanged(*own, status, self.time.now, message_id=message.id if by_our_id else None)
        self.run_(
            self.rig.database.write(
                lambda c: self.outbox.receipt(c, event, self.time.now), after_commit=self.outbox.receipt_committed
            )
        )

    def believe_receipt(self, message: Believed, status: str) -> None:
        before = message.state
        if before not in ENDS:
            if status == "failed":
                message.state = "failed" if before in ("sending", "unconfirmed", "sent") else before
            elif RANK[status] > RANK[before]:
                message.state = status
        if message.state != before or status != "failed":
            message.remote_id = message.remote_id or self.remote(message.id)
            message.doubt_until = None

    @rule(seconds=st.sampled_from([1.0, 10.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.time.now += seconds

    @rule()
    def sweep(self) -> None:
        late = [m for m in self.known.values() if m.state == "queued" and m.expires_at <= self.time.now]
        for message in late:
            message.state = "expired"
        self.run_(self.outbox.expire())

    @rule()
    def settle_doubts(self) -> None:
        now = self.time.now
        for message in self.known.values():
            if message.doubt_until is not None and message.doubt_until <= now:
                message.doubt_until = None
                if message.attempts < MAX_ATTEMPTS and now < message.expires_at:
                    message.state, message.due_at = "queued", now
        own = (self.number.account_id, self.number.id)
        self.run_(self.outbox.settle_doubts(*own, since=0.0, timeout=TIMEOUT))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), replay=st.booleans())
    def operator_acts(self, data: st.DataObject, replay: bool) -> None:
        possible = ("failed", "expired", "unconfirmed") if replay else ("queued", "unconfirmed")
        found = [m for m in self.known.values() if m.state in possible and m.id not in self.sending]
        if not found:
            return
        message = data.draw(st.sampled_from(found))
        message.doubt_until = None
        if replay:
            self.run_(self.outbox.replay(self.number.account_id, message.id))
            message.state, message.attempts, message.due_at = "queued", 0, self.time.now
            message.expires_at = self.time.now + LIFETIME
        else:
            self.run_(self.outbox.cancel(self.number.account_id, message.id))
            message.state = "canceled"

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The process is gone with what it carried; the next one asks for evidence of each message left in flight."""
        self.outbox = self.new_outbox()
        self.sending = {}  # early receipts are in the database
        self.run_(self.outbox.count_waiting())
        left = self.run_(self.outbox.left_in_flight(self.number.account_id, self.number.id))
        in_flight = sorted((m for m in self.known.values() if m.state == "sending"), key=lambda m: m.place)
        assert [(c.id, c.attempt) for c in left] == [(m.id, m.attempts) for m in in_flight]
        for claimed in left:
            short_lived = self.known[claimed.id].expires_at - self.time.now < 10
            found = [Unknown(), Unknown(self.remote(claimed.id))]
            evidence = data.draw(st.sampled_from(found if short_lived else [*found, NeverLeft()]))
            self.record(claimed, explained(CUT_OFF, evidence))

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def the_database_agrees(self) -> None:
        columns = (messages.c[name] for name in ("id", "state", "attempts", "remote_id", "doubt_until"))
        mine = sa.select(*columns).where(messages.c.number_id == self.number.id)
        stored = self.run_(self.rig.database.read(lambda c: sorted(tuple(row) for row in c.execute(mine))))
        believed = [(m.id, m.state, m.attempts, m.remote_id, m.doubt_until) for m in self.known.values()]
        assert stored == sorted(believed)

    @invariant()
    def what_waits_is_counted(self) -> None:
        assert self.outbox.waiting() == len(self.sending) + sum(m.state == "queued" for m in self.known.values())

    def remote(self, message_id: int) -> str:
        return f"wamid.{message_id}"

    def due_at(self, message_id: int) -> float:
        found = sa.select(messages.c.due_at).where(messages.c.id == message_id)
        return self.run_(self.rig.database.read(lambda c: c.execute(found).scalar_one()))


@pytest.mark.timeout(600)
def test_every_message_stands_where_the_model_says(where: Path | str):
    database = Database(where)
    renew_schema(database)
    with asyncio.Runner() as runner:
        runner.run(database.start())
        machine = type("Machine", (Lifecycle,), {"rig": Rig(runner, database)})
        dose = settings(
            max_examples=RUNS[database.engine.dialect.name],
            stateful_step_count=STEPS,
            deadline=None,
        )
        run_state_machine_as_test(machine, settings=dose)
        runner.run(database.close())
