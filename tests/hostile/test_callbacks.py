"""Odd things that are truly signed: each change of a callback is read alone, stored or quarantined.

KURIR_HOSTILE_CALLBACKS: how many mutated changes are sent to each kind of database.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.harness.gateway import Harness, open_harness
from tests.hostile.callbacks import callback, change, entries, message, post, status, stored
from tests.sentences import english

from kurir.channels.cloud_api import callbacks as reading
from kurir.channels.cloud_api.errors import code_of, outcome_of, reason_of
from kurir.inbox.tables import callbacks, incoming

MUTATIONS = int(os.environ.get("KURIR_HOSTILE_CALLBACKS", "1000"))
_TOGETHER = 8
"""Mutated changes in one callback."""
UNREAD = (
    "account_update", "user_preferences", "phone_number_quality_update", "template_category_update", "security",
    "message_template_quality_update", "account_alerts", "history", "calls", "user_id_update", "flows",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 10**18, 2**63, 2**64 - 1, -(2**63), "", " ", "9" * 5_000, "-" * 300, "nan",
    "inf", "1e999", "\0", "a\0b", "\u202e\u200b\ufeff", "😀" * 40_000, "x" * 300_000, [], {}, [[]], [None], [[[{}]]],
    {"": ""}, {"code": "1" * 5_000}, {"id": {"id": []}}, "١٢٣", "wamid." + "x" * 9_000,
)  # fmt: skip


@pytest.fixture
async def harness(tmp_path: Path, database_url: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


def mutated(rng: random.Random, value: Any) -> Any:
    """The same JSON with something odd in one to three places."""
    found = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        where, key = _somewhere(rng, found)
        if where is None:
            return copy.deepcopy(rng.choice(ODD))
        match rng.randrange(4):
            case 0 if isinstance(where, dict):
                del where[key]
            case 1 if isinstance(where, dict):
                where[rng.choice(["id", "type", "errors", "statuses", "x" * 1_000])] = where.pop(key)
            case 2:
                where[key] = [where[key]] if rng.random() < 0.5 else {"x": where[key]}
            case _:
                where[key] = copy.deepcopy(rng.choice(ODD))
    return found


def _somewhere(rng: random.Random, value: Any) -> tuple[Any, Any]:
    where, key = None, None
    while isinstance(value, (dict, list)) and value and (where is None or rng.random() < 0.85):
        where = value
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = value[key]
    return where, key


def samples(harness: Harness) -> list[dict[str, Any]]:
    errors = [{"code": 131026, "title": "no", "error_data": {"details": "why"}}]
    review = {
        "event": "REJECTED",
        "message_template_id": 594425479261596,
        "reason": "X",
        "rejection_info": {"reason": "Y"},
    }
    return [
        change(harness, statuses=[status("wamid.s", errors=errors, biz_opaque_callback_data="123")]),
        *(
            change(
                harness,
                contacts=[{"profile": {"name": "Sari"}, "wa_id": "628555"}],
                messages=[message("wamid.m", kind)],
            )
            for kind in ("text", "image", "location", "interactive", "reaction", "order", "unsupported")
        ),
        change(harness, "smb_message_echoes", message_echoes=[message("wamid.e", to="628555")]),
        {"field": "message_template_status_update", "value": review},
        change(harness, errors=errors),
        *(change(harness, field, event="X") for field in UNREAD[:3]),
    ]


async def test_no_mutation_of_a_signed_callback_costs_its_neighbours(harness: Harness) -> None:
    rng = random.Random(20261126)
    before = samples(harness)
    wanted: set[str] = set()
    for number in range(MUTATIONS // _TOGETHER):
        changes = [mutated(rng, rng.choice(before)) for _ in range(_TOGETHER)]
        changes.insert(rng.randrange(_TOGETHER + 1), change(harness, messages=[message(f"wamid.honest.{number}")]))
        raw = json.dumps(callback(harness, *changes)).encode()
        if rng.random() < 0.1:
            raw = raw.replace(b'"Halo"', b'"Ha\\u0000lo\\u0001"')
        wanted.add(f"wamid.honest.{number}")
        assert await post(harness, raw) == 200, raw[:2_000]
    assert wanted <= await stored(harness)
    assert harness.surprises() == 0


async def test_no_envelope_is_a_mistake_of_ours(harness: Harness) -> None:
    rng = random.Random(7)
    for _ in range(MUTATIONS // 20):
        raw = json.dumps(mutated(rng, callback(harness, *samples(harness)))).encode()
        assert await post(harness, raw) == 200
    for raw in (
        b'{"entry":[{"changes":[{"value":{"a":"\\ud800"}}]}]}',
        b'{"entry":NaN}',
        b'{"entry":' + b"9" * 9_000 + b"}",
    ):
        assert await post(harness, raw) == 200
    assert harness.surprises() == 0


SPOILT = {
    "half a surrogate pair": b'"\\ud800"',
    "halves in the wrong order": b'"\\udc00\\ud83d"',
    "half a pair as UTF-8": b'"\xed\xa0\x80"',
    "byte that is no UTF-8": b'"a\xffb"',
    "cut character": b'"\xf0\x9f\x98"',
    "number beyond any": b"1e999",
    "number below any": b"-1e999",
    "digits without end": b"9" * 5_000,
    "not a number": b"NaN",
    "infinity": b"-Infinity",
    "raw control characters": b'"a\x00\x01\nb"',
}
"""JSON values that a strict reader refuses together with everything beside them."""


@pytest.mark.parametrize("place", ["text", "extra", "name", "key", "status"])
async def test_one_bad_value_costs_no_message_beside_it(harness: Harness, place: str) -> None:
    wanted: set[str] = set()
    for nth, (kind, spoilt) in enumerate(SPOILT.items()):
        raw = with_spoilt(harness, place, spoilt, f"wamid.{nth}")
        wanted |= {f"wamid.{nth}.1", f"wamid.{nth}.bad", f"wamid.{nth}.2"}
        for _ in range(2):  # Meta may repeat it
            assert await post(harness, raw) == 200, kind
            assert await stored(harness) == wanted, kind
    assert await entries(harness) == []
    assert harness.surprises() == 0


def with_spoilt(harness: Harness, place: str, spoilt: bytes, name: str) -> bytes:
    """A callback of three messages and a receipt with a spoilt value in one place."""
    mark = "SPOILT"
    if place == "key" and not spoilt.startswith(b'"'):
        place = "extra"
    value: dict[str, Any] = {
        "messages": [
            message(f"{name}.1"),
            message(f"{name}.bad", text={"body": mark if place == "text" else "Halo"}),
            message(f"{name}.2"),
        ],
        "contacts": [{"profile": {"name": mark if place == "name" else "Sari"}, "wa_id": "628555"}],
        "statuses": [status(f"{name}.s", errors=[{"code": mark if place == "status" else 1, "title": "no"}])],
        mark if place == "key" else "extra": mark if place == "extra" else 1,
    }
    return json.dumps(callback(harness, change(harness, **value))).encode().replace(b'"SPOILT"', spoilt)


async def test_a_spoilt_change_about_a_number_that_is_not_set_up_is_quarantined_and_can_be_read_again(
    small: Harness,
) -> None:
    for count, spoilt in enumerate([*SPOILT.values(), b"9" * 25, b"-" + b"9" * 300], 1):
        value = {"metadata": {"phone_number_id": "999"}, "messages": [message(f"wamid.{count}")], "extra": "SPOILT"}
        raw = json.dumps(callback(small, {"field": "messages", "value": value})).encode()
        assert await post(small, raw.replace(b'"SPOILT"', spoilt)) == 200
        found = await entries(small)
        assert len(found) == count
        assert reading.change_of(found[0].payload).value["messages"][0]["id"] == f"wamid.{count}"


NO_OBJECT = (
    b"", b"[]", b"not json", b"\xff\xfe\x00", b'{"entry":[', b"[" * 300_000, b'{"a":' * 100_000, b"9" * 9_000, b'""',
)  # fmt: skip


async def test_what_is_signed_and_no_json_object_is_quarantined_whole(small: Harness) -> None:
    for raw in NO_OBJECT:
        assert await post(small, raw) == 200
        assert await post(small, raw) == 200
        assert await post(small, raw, "nobody's secret") == 403
    found = await entries(small)
    assert {entry.queue for entry in found} == {"callback"}
    for tenant in (small.ours, small.theirs):  # both have the same app secret
        payloads = [entry.payload for entry in found if entry.account_id == tenant.account.id]
        assert sorted(payloads) == sorted(NO_OBJECT)
    too_much = sum(len(raw) >= 300_000 for raw in NO_OBJECT)  # these are not parsed at all
    metrics = small.gateway.metrics.render().decode()
    assert f'kurir_callbacks_total{{result="malformed"}} {2 * (len(NO_OBJECT) - too_much)}.0' in metrics
    assert f'kurir_callbacks_total{{result="set_aside"}} {2 * too_much}.0' in metrics
    assert small.surprises() == 0


async def test_what_is_stored_fits(harness: Harness) -> None:
    parts = {"text": {"body": "a\0b" + "😀" * 100_000}}
    long = [message("w" * 8_000, **parts), message("m\0m", **{"from": "+" * 3_000, "timestamp": "1" * 400})]
    named = [{"profile": {"name": "n" * 9_000}, "wa_id": "628555"}]
    failed = status("s" * 8_000, errors=[{"code": "1" * 5_000, "title": "t" * 70_000}], timestamp=-1)
    assert (
        await post(
            harness,
            json.dumps(callback(harness, change(harness, messages=long, contacts=named, statuses=[failed]))).encode(),
        )
        == 200
    )
    rows = await harness.gateway.database.read(lambda c: c.execute(sa.select(incoming).order_by(incoming.c.id)).all())
    assert len(rows) == 2
    for row in rows:
        assert len(row.remote_id) <= 255
        assert len(row.chat) <= 255
        assert len(row.sender_name) <= 512
        assert len(row.text) <= 65_536
        assert "\0" not in row.text
        assert 0 < row.at < 4_102_444_801


async def test_a_change_that_the_database_refuses_is_quarantined_alone(small: Harness) -> None:
    def refuse(connection: sa.Connection) -> None:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON incoming WHEN NEW.text = 'poison' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )

    await small.gateway.database.write(refuse)
    poison = message("wamid.bad", text={"body": "poison"})
    raw = json.dumps(
        callback(
            small, change(small, messages=[message("wamid.1"), poison]), change(small, messages=[message("wamid.2")])
        )
    ).encode()
    with capture_logs():
        assert await post(small, raw) == 200
    assert await stored(small) == {"wamid.1", "wamid.2"}
    [entry] = await entries(small)
    assert (entry.queue, entry.account_id) == ("callback", small.ours.account.id)
    assert b"wamid.bad" in entry.payload
    with capture_logs():
        assert await post(small, raw) == 200  # and Meta may repeat it
    assert len(await entries(small)) == 1


async def test_a_change_that_cannot_be_read_is_quarantined_whole(
    small: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading._received

    def broken(found: dict[str, Any], *more: Any, **named: Any) -> Any:
        if found.get("id") == "wamid.bad":
            raise KeyError("nobody foresaw this")
        return real(found, *more, **named)

    monkeypatch.setattr(reading, "_received", broken)
    bad, good = change(small, messages=[message("wamid.bad")]), change(small, messages=[message("wamid.good")])
    assert await post(small, json.dumps(callback(small, bad, good)).encode()) == 200
    assert await stored(small) == {"wamid.good"}
    [entry] = await entries(small)
    monkeypatch.undo()
    kept = msgspec.json.decode(entry.payload, type=reading.Change)
    found = reading.read([kept], lambda _: [small.ours.official], 1.0)
    assert [event.fingerprint for event in found.events] == ["message:wamid.bad"]


async def test_a_signed_change_about_a_number_that_is_not_set_up_is_quarantined(small: Harness) -> None:
    stranger = {
        "field": "messages",
        "value": {"metadata": {"phone_number_id": "999"}, "messages": [message("wamid.x")]},
    }
    for waba_id in (small.ours.official.waba_id, "424242"):  # of a business that is known, and of one that is not
        body = {"entry": [{"id": waba_id, "changes": [stranger, change(small, messages=[message(f"w{waba_id}")])]}]}
        assert await post(small, json.dumps(body).encode()) == 200
    assert len(await stored(small)) == 2
    # and one that names nothing known at all: only the secret shows whose it is
    alone = {"entry": [{"id": "424242", "changes": [stranger]}]}
    assert await post(small, json.dumps(alone).encode()) == 200
    assert await post(small, json.dumps(alone).encode(), "nobody's secret") == 403
    found = await entries(small)
    assert {entry.queue for entry in found} == {"callback"}
    assert len(found) == 2  # the same change is there once
    assert b"wamid.x" in found[0].payload


async def test_what_is_not_understood_is_kept_and_logged_once(small: Harness) -> None:
    with capture_logs() as logs:
        for turn in range(3):
            for field in (*UNREAD, "x" * 500, "Ärger", "a b"):
                raw = json.dumps(callback(small, change(small, field, event=turn))).encode()
                assert await post(small, raw) == 200
                assert await post(small, raw) == 200  # the same again is kept once
    kinds = [line["kind"] for line in logs if line["event"] == "callback_unsupported"]
    assert sorted(kinds) == sorted([*UNREAD, "other"])
    kept = await small.gateway.database.read(lambda c: list(c.scalars(sa.select(callbacks.c.body))))
    assert len(kept) == 3 * (len(UNREAD) + 3)
    assert any("account_update" in body for body in kept)
    assert 'kurir_callbacks_total{result="not_read"} 84.0' in small.gateway.metrics.render().decode()
    # beside something that is understood it is kept as well
    raw = json.dumps(callback(small, change(small, "calls"), change(small, messages=[message("wamid.z")]))).encode()
    assert await post(small, raw) == 200
    assert "wamid.z" in await stored(small)


@pytest.mark.parametrize(
    "code",
    ["1" * 5_000, 10**5_000, -1, True, None, [], {"a": 1}, "x", 1.5, "１３"],
    ids=lambda value: type(value).__name__,
)
def test_no_code_of_an_error_raises(code: Any) -> None:
    for odd in ODD:
        error = {"code": code, "message": odd, "title": odd, "error_data": odd if odd else {"details": odd}}
        assert len(english(reason_of(error))) <= 2_000
        assert isinstance(code_of(error), int)
        assert outcome_of(400, error).reason
