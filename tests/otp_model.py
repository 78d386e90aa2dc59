"""One-time passwords without a database: the rules of `kurir.otp.budget` on a virtual clock, for long simulations.

`tests/security/test_otp_guesser.py` plays the same checks against this model and against the real tables, and expects
the same verdicts.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from kurir.otp import budget
from kurir.otp.budget import Lengths, Scope, Wrong

HOUR = budget.HOUR


@dataclass
class Code:
    """One code that was sent."""

    id: int
    text: str
    phone: str
    created: float
    expires: float
    used: bool = False
    wrong: int = 0
    wrong_by_phone: int = 0


@dataclass
class Model:
    """An account's codes and its ledger. Checks answer True, False or None (refused)."""

    rng: random.Random
    lengths: Lengths = field(default_factory=Lengths)
    codes: dict[str, Code] = field(default_factory=dict)
    by_phone: dict[str, list[Code]] = field(default_factory=lambda: defaultdict(list))
    sent: list[float] = field(default_factory=list)
    ledger: dict[tuple[Scope, int, int], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0]))
    cost: float = 0.0
    """What the latest check was worth to a guesser."""
    _seen: set[Scope] = field(default_factory=set)
    _by_length: dict[int, dict[int, Code]] = field(default_factory=lambda: defaultdict(dict))
    _ids: int = 0

    def open(self, now: float) -> list[Code]:
        """Open codes, oldest first."""
        self._sweep(now)
        return list(self.codes.values())

    def _sweep(self, now: float) -> None:
        """Removes what has expired; all codes live equally long, so the oldest are at the front."""
        while self.codes and (first := next(iter(self.codes.values()))).expires <= now:
            self._close(first)

    def _close(self, code: Code) -> None:
        del self.codes[code.text]
        del self._by_length[len(code.text)][code.id]

    def _use(self, code: Code, scope: Scope, now: float) -> bool:
        code.used = True
        self._close(code)
        self.cost = 0.0
        self.add(scope, len(code.text), now, 0.0, 0)
        return True

    def wrong(self, scope: Scope, now: float) -> Wrong:
        """The ledger's last hour for a scope."""
        minute = int(now // 60)
        spent: dict[int, float] = defaultdict(float)
        hour = recent = 0
        for (kind, digits, at), (count, chance) in self.ledger.items():
            if kind == scope and at >= minute - 60:
                spent[digits] += chance
                hour += int(count)
                recent += int(count) if at >= minute - 1 else 0
        return Wrong(dict(spent), hour, recent)

    def forget(self, now: float) -> None:
        """Drops old minutes, for speed."""
        for key in [key for key in self.ledger if key[2] < now // 60 - 61]:
            del self.ledger[key]
        self.sent = [at for at in self.sent if at > now - 2 * HOUR]

    def send(self, phone: str, now: float, lifetime: float, text: str = "") -> Code:
        """A new code, or the one that somebody else drew."""
        self.forget(now)
        self._sweep(now)
        lately = [code for code in self.by_phone[phone] if code.created > now - HOUR]
        digits = budget.digits_for(
            self.lengths,
            {scope: self.wrong(scope, now) for scope in ("account", "phone", "request")},
            open_codes=len(self.codes),
            recent_codes=len(self.sent),
            wrong_at_phone=max((code.wrong_by_phone for code in lately), default=0),
            unscoped="account" in self._seen or not self._seen,
        )
        while (drawn := text or f"{self.rng.randrange(10**digits):0{digits}d}") in self.codes:
            pass
        assert len(drawn) == digits
        self._ids += 1
        code = Code(self._ids, drawn, phone, now, now + lifetime)
        self.codes[drawn] = self._by_length[len(drawn)][code.id] = code
        self.by_phone[phone] = [*lately, code]
        self.sent.append(now)
        return code

    def add(self, scope: Scope, digits: int, now: float, chance: float, wrong: int = 1) -> None:
        """Counts a check."""
        self._seen.add(scope)
        row = self.ledger[scope, digits, int(now // 60)]
        row[0] += wrong
        row[1] += chance

    def check(self, text: str, now: float) -> bool | None:
        """A check of the code alone."""
        length = len(text)
        wrong = self.wrong("account", now)
        self._sweep(now)
        found = self._by_length[length]
        most = min(budget.compared(budget.room(wrong.spent, length, self.lengths), length, wrong.recent), len(found))
        code = self.codes.get(text)
        if code is not None and most:
            oldest = next(itertools.islice(reversed(found.values()), most - 1, None))
            if code.id >= oldest.id:
                return self._use(code, "account", now)
        self.cost = most / 10**length
        self.add("account", length, now, self.cost)
        return None if len(found) > most else False

    def check_phone(self, text: str, phone: str, now: float) -> bool | None:
        """A check with `phone_no`."""
        self._sweep(now)
        alive = [code for code in self.by_phone[phone] if not code.used and code.expires > now]
        takes = [
            c
            for c in alive
            if c.text in self.codes and c.wrong_by_phone < budget.phone_tries(len(c.text)) and len(c.text) == len(text)
        ]
        self.cost = len(takes) / 10 ** len(text)
        refused = bool(takes) and self.cost > budget.PHONE - sum(self.wrong("phone", now).spent.values())
        if not refused:
            for code in takes:
                if code.text == text:
                    return self._use(code, "phone", now)
            if takes:
                self.add("phone", len(text), now, self.cost)
        else:
            self.cost = 0.0
        for code in alive:
            code.wrong_by_phone += 1
        return None if refused else False

    def check_request(self, text: str, code: Code, now: float) -> bool:
        """A check with `req_id`."""
        self._sweep(now)
        self.cost = 0.0
        if code.used or code.expires <= now or code.wrong >= budget.WRONG_TRIES:
            return False
        cost = 1 / 10 ** len(text)
        affordable = cost <= budget.REQUEST - sum(self.wrong("request", now).spent.values())
        takes = affordable or code.wrong == 0
        if takes and code.text == text:
            return self._use(code, "request", now)
        if takes and len(code.text) == len(text):
            self.cost = cost
            self.add("request", len(text), now, cost)
        code.wrong += 1
        if code.wrong == budget.WRONG_TRIES:
            self._close(code)
        return False


@dataclass
class Hours:
    """Sums over rolling hours."""

    seen: list[tuple[float, float]] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        """One more value."""
        if value:
            self.seen.append((at, value))

    def most(self) -> float:
        """The greatest sum in any hour."""
        best = running = 0.0
        first = 0
        for at, value in self.seen:
            running += value
            while self.seen[first][0] <= at - HOUR:
                running -= self.seen[first][1]
                first += 1
            best = max(best, running)
        return best


def mistyped(text: str, rng: random.Random) -> str:
    """The code with one digit changed."""
    at = rng.randrange(len(text))
    return text[:at] + str((int(text[at]) + rng.randrange(1, 10)) % 10) + text[at + 1 :]


def guess_code(model: Model, now: float) -> None:
    """A guess at the code alone, of the length that promises most."""
    lengths = Counter(len(text) for text in model.codes)
    length = max(lengths, key=lambda n: lengths[n] / 10**n, default=6)
    model.check(f"{model.rng.randrange(10**length):0{length}d}", now)


def guess_at_somebody(model: Model, now: float) -> None:
    """A guess that knows whose code it is after, and picks any way of checking."""
    model.cost = 0.0
    open_now = model.open(now)
    if not open_now:
        return
    victim = model.rng.choice(open_now)
    text = f"{model.rng.randrange(10 ** len(victim.text)):0{len(victim.text)}d}"
    match model.rng.randrange(3):
        case 0:
            guess_code(model, now)
        case 1:
            model.check_phone(text, victim.phone, now)
        case _:
            model.check_request(text, victim, now)


@dataclass(kw_only=True)
class Shop:
    """What a simulated shop does: codes sent, right codes given back, typing errors; and whether somebody guesses.

    `right_per_hour` people hand back a right code, 3 to 33 s after it was sent on the average; `abandoned` of all codes
    are never used. `guesses_per_hour` begin at `attack_from` seconds, `guess` makes one.
    """

    right_per_hour: float = 3400
    typing_errors: float = 0.03
    abandoned: float = 0.12
    lifetime: float = 3600
    lengths: Lengths = field(default_factory=Lengths)
    scope: Scope = "account"
    guesses_per_hour: float = 0
    attack_from: float = HOUR
    attack_burst: float = 0
    guess: Callable[[Model, float], None] = field(default=guess_code)
    seed: int = 1


@dataclass
class Played:
    """What came of a simulation."""

    right: int = 0
    accepted: int = 0
    most_open: int = 0
    guesses: int = 0
    chance: Hours = field(default_factory=Hours)
    lengths: Counter[int] = field(default_factory=Counter)
    refused: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the right codes, how many were accepted."""
        return self.accepted / self.right


def play(shop: Shop, hours: float) -> Played:
    """Runs the shop's day on a virtual clock; counts from `attack_from` on (the hour before fills the tables)."""
    rng = random.Random(shop.seed)
    model = Model(rng, shop.lengths)
    played = Played()
    events: list[tuple[float, int, str, Code | None]] = []
    numbers = itertools.count()
    sends = shop.right_per_hour / HOUR / (1 - shop.abandoned)

    def later(at: float, kind: str, code: Code | None = None) -> None:
        heapq.heappush(events, (at, next(numbers), kind, code))

    def check(text: str, code: Code, now: float) -> bool | None:
        if shop.scope == "request":
            return model.check_request(text, code, now)
        return model.check(text, now) if shop.scope == "account" else model.check_phone(text, code.phone, now)

    later(0.0, "send")
    if shop.guesses_per_hour:
        later(shop.attack_from, "guess")
    while events[0][0] < hours * HOUR:
        now, number, kind, code = heapq.heappop(events)
        if kind == "send":
            code = model.send(f"62812{number:08d}", now, shop.lifetime)
            later(now + rng.expovariate(sends), "send")
            if rng.random() > shop.abandoned:
                later(now + 3 + rng.expovariate(1 / 30), "type", code)
            if now >= shop.attack_from:
                played.lengths[len(code.text)] += 1
                played.most_open = max(played.most_open, len(model.codes))
        elif kind == "guess":
            shop.guess(model, now)
            played.guesses += 1
            played.chance.add(now, model.cost)
            paused = shop.attack_burst if shop.attack_burst and played.guesses % 5000 == 0 else 0
            later(now + paused + HOUR / shop.guesses_per_hour, "guess")
        elif code is not None and rng.random() < shop.typing_errors:
            check(mistyped(code.text, rng), code, now)
            later(now + 8, "type", code)
        elif code is not None:
            accepted = check(code.text, code, now)
            if now >= shop.attack_from:
                played.right += 1
                played.accepted += accepted is True
                if not accepted:
                    played.refused.append((now - shop.attack_from, now - code.created, len(code.text)))
    return played
