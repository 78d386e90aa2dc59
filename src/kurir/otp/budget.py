"""How many guesses at one-time passwords are compared with how many codes, and how long codes are. Pure.

A check that names only the code is compared with every open code of the account, and before that an honest check cannot
be distinguished from a guess. Comparing a share p of all checks therefore compares that share of a guesser's, and the
guesser's expected hits per hour are

    sum over its wrong checks of  (codes it was compared with) / 10^digits

Refusing checks lowers the sum and denies honest people in the same proportion; longer codes lower it and deny nobody.
So this module keeps the sum (the *chance*) at or below 1 % per account and hour, and keeps honest checks out of that
limit by the length of the codes:

| part of the 1 % | limit an hour | at the limit |
| --- | --- | --- |
| `UNSCOPED`: the code alone | 0.6 % | only the youngest codes of that length are compared, at last none |
| `PHONE`: with `phone_no` | 0.1 % | such checks of codes of that length are refused |
| `REQUEST`: with `req_id` | 0.1 % | a code is over after its first wrong try |
| `FIRST_TRIES` | 0.2 % | the first try with `req_id` is always compared, so codes get longer |

Of `UNSCOPED` all lengths but the longest share a half, and one of them may take half of what the others left.

A new code gets the least length at which the hour's limits hold if wrong checks go on at their present rate, and at
which every open code is still compared. Codes live an hour at most, usually a minute: soon after an attack has begun
all open codes are long enough for it. Until then the youngest codes come first, because people type a code within
seconds and what is older is mostly abandoned.

Each code takes few wrong tries with `phone_no` (`phone_tries`): 5 of a million, and in the same proportion more for a
longer code. When somebody uses them up, the next code to that phone is longer and outlives the same attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Scope = Literal["account", "phone", "request"]
"""What a check is compared with: all open codes of the account, those of one phone number, or one request's."""

HOUR = 3600.0
MINUTE = 60.0
UNSCOPED, PHONE, REQUEST, FIRST_TRIES = 0.006, 0.001, 0.001, 0.002
"""Maximum expected hits of a guesser per account and hour, by the scope of the check; together 0.01."""
SHARED = 0.003
"""The part of `UNSCOPED` for all lengths but the longest: an attack on short codes leaves the longest theirs."""
WRONG_TRIES = 5
"""Wrong checks with `req_id` that end a code."""

_TRIES_AHEAD_LEAST, _TRIES_AHEAD_MOST = 150, 1000
_ALARM = 20
"""Wrong checks expected soon for each one of the present minute and the one before: an attack has just begun then."""
_PER_HOUR = 30
"""Two minutes in an hour."""
_SUSPICIOUS = 50


class Wrong(msgspec.Struct, frozen=True):
    """An account's wrong checks of one scope: what they cost by the length of the code, and how many they were.

    `hour`: in the last hour, `recent`: in the present minute and the one before.
    """

    spent: dict[int, float] = {}
    hour: int = 0
    recent: int = 0

    @property
    def rate(self) -> int:
        """Wrong checks per hour, at the present rate."""
        return max(self.hour, _PER_HOUR * self.recent)

    @property
    def suspicious(self) -> bool:
        """Whether that many wrong checks indicate guessing, for any account."""
        return self.recent >= _SUSPICIOUS


class Lengths(msgspec.Struct, frozen=True):
    """The lengths that codes may have, in digits."""

    least: int = 6
    most: int = 10


def room(spent: Mapping[int, float], digits: int, lengths: Lengths) -> float:
    """What is left of the hour's chance for checks without scope against codes of that many digits."""
    mine = spent.get(digits, 0.0)
    if lengths.most <= lengths.least:
        return UNSCOPED - sum(spent.values())
    if digits >= lengths.most:
        return UNSCOPED - SHARED - sum(cost for length, cost in spent.items() if length >= lengths.most)
    others = sum(cost for length, cost in spent.items() if length < lengths.most and length != digits)
    return (SHARED - others) / 2 - mine


def compared(left: float, digits: int, recent: int) -> int:
    """With how many of the youngest open codes of that length a check without scope is compared.

    `left` is the room for that length; it must last for the wrong checks that are to be expected soon.
    """
    ahead = min(max(_ALARM * recent, _TRIES_AHEAD_LEAST), _TRIES_AHEAD_MOST)
    return max(int(left / ahead * 10**digits), 0)


def phone_tries(digits: int) -> int:
    """Wrong checks with `phone_no` that a code of that many digits takes."""
    return max(5 * 10**digits // 10**6, 5)


def digits_for(
    lengths: Lengths,
    wrong: Mapping[Scope, Wrong],
    *,
    open_codes: int,
    recent_codes: int,
    wrong_at_phone: int,
    unscoped: bool,
) -> int:
    """The length of the next code.

    `open_codes`: further open codes of the account; `recent_codes`: its codes of the last two hours; `wrong_at_phone`:
    wrong checks of this phone number's codes in the last hour; `unscoped`: whether the account checks codes without
    scope.
    """
    for digits in range(lengths.least, lengths.most):
        space = 10**digits
        if recent_codes + 1 > FIRST_TRIES * space:
            continue
        if wrong_at_phone >= phone_tries(lengths.least) and phone_tries(digits) < 10 * wrong_at_phone:
            continue
        if _overspent(wrong.get("phone"), PHONE, space) or _overspent(wrong.get("request"), REQUEST, space):
            continue
        if unscoped and not _open_to_all(lengths, wrong.get("account", Wrong()), digits, open_codes + 1):
            continue
        return digits
    return lengths.most


def _overspent(wrong: Wrong | None, limit: float, space: int) -> bool:
    """Whether checks of one code each, going on at their rate, would exceed the limit with codes of that space."""
    return wrong is not None and wrong.hour > 0 and wrong.rate / space > limit - sum(wrong.spent.values())


def _open_to_all(lengths: Lengths, wrong: Wrong, digits: int, codes: int) -> bool:
    """Whether checks without scope can be compared with that many codes of this length for an hour to come."""
    left = room(wrong.spent, digits, lengths)
    return codes <= compared(left, digits, wrong.recent) and wrong.rate * codes / 10**digits <= left
