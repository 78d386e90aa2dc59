"""The table of Graph codes: every documented code, every code pywa knows, and codes nobody knows yet."""

from __future__ import annotations

import pytest
from pywa.errors import AuthorizationError, IntegrityError, SendMessageError, ThrottlingError, WhatsAppError
from tests.sentences import english

from kurir.channels.cloud_api.errors import BLOCKED, LATER, REFUSED, TOKEN, outcome_of, reason_of
from kurir.messages.channel_reports import Halted, Refused, TryLater
from kurir.reasons import as_written

# from Meta's page "Error codes": code, HTTP status, whether the same message may go later
DOCUMENTED = [
    *[(code, 400, False) for code in (33, 100, 131008, 131009, 131021, 131026, 131030)],
    *[(code, 400, True) for code in (4, 80007, 130429, 131056, 133016, 134101, 132069)],
    *[(code, 500, True) for code in (1, 131000, 131016, 131057)],
    (2, 503, True),
    *[(code, 403, False) for code in (130497, 131005, 131037, 131042, 131045)],
    *[(code, 400, False) for code in (131047, 131049, 131050, 130472, 131051, 131052, 131053, 131062, 131063)],
    *[(code, 400, False) for code in (132000, 132005, 132007, 132008, 132012, 132015, 132016, 132018, 132068)],
    (132001, 404, False),
    (137000, 400, False),
    (135000, 400, False),
]


# codes after which nothing of the number may be tried until a person has acted
HALTING = [
    *[(code, 401 if code in (0, 190) else 403) for code in (0, 3, 10, 190, 200, 255, 299)],
    *[(code, 400) for code in (131048, 131064)],
    *[(code, 403) for code in (368, 131031)],
]


def error(code: int, **more: object) -> dict[str, object]:
    return {"message": f"(#{code}) Something", "type": "OAuthException", "code": code, **more}


@pytest.mark.parametrize(("code", "status", "later"), DOCUMENTED)
def test_every_documented_code_has_its_outcome(code: int, status: int, later: bool) -> None:
    outcome = outcome_of(status, error(code))
    assert isinstance(outcome, TryLater if later else Refused)
    assert outcome.code == str(code)
    assert outcome.reason


@pytest.mark.parametrize(("code", "status"), HALTING)
def test_what_a_person_must_settle_halts_the_number_and_says_what_to_do(code: int, status: int) -> None:
    outcome = outcome_of(status, error(code), 7.0)
    assert isinstance(outcome, Halted)
    assert outcome.code == str(code)
    assert f"(code {code})" in english(outcome.reason)
    assert ("kurir number token" if code in TOKEN else "kurir number resume") in english(outcome.reason)


def test_no_code_stands_in_two_columns() -> None:
    columns = [set(LATER), set(REFUSED), set(TOKEN), set(BLOCKED)]
    assert sum(map(len, columns)) == len(set.union(*columns))


# groups, calls, flows, usernames and template creation are families of their own: no send gets those codes
SENDING = (AuthorizationError, ThrottlingError, IntegrityError, SendMessageError)


@pytest.mark.parametrize("family", SENDING, ids=lambda family: family.__name__)
def test_every_code_of_a_send_that_pywa_knows_is_in_the_table(family: type[WhatsAppError]) -> None:
    known = {code for member in family.__subclasses__() for code in member.__error_codes__ or ()}
    assert known
    assert known - (set(LATER) | REFUSED | TOKEN | set(BLOCKED)) == set()


def test_retry_after_wins_over_the_table() -> None:
    assert outcome_of(400, error(133016), 7.0) == TryLater("133016", as_written("Something"), 7.0)
    assert outcome_of(400, error(133016)) == TryLater("133016", as_written("Something"), 72 * 3600.0)
    assert outcome_of(400, error(130429)) == TryLater("130429", as_written("Something"), None)


@pytest.mark.parametrize(
    ("status", "more", "later"),
    [(400, {}, False), (500, {}, True), (503, {}, True), (429, {}, True), (400, {"is_transient": True}, True)],
)
def test_a_code_nobody_knows_is_judged_by_its_status(status: int, more: dict[str, object], later: bool) -> None:
    assert isinstance(outcome_of(status, error(999_999, **more)), TryLater if later else Refused)


def test_reasons_join_title_and_details() -> None:
    details = {"messaging_product": "whatsapp", "details": "to is not a number"}
    assert english(reason_of(error(131009, error_data=details))) == "Something: to is not a number"
    assert english(reason_of({"title": "Media upload error"})) == "Media upload error"
    assert english(reason_of({})) == "the Graph API gave no reason"
    assert english(reason_of({"message": "plain", "error_data": "text"})) == "plain"


@pytest.mark.parametrize("code", [None, "x", 1.5, [], True, "131000"])
def test_odd_codes_do_not_raise(code: object) -> None:
    assert outcome_of(400, {"code": code}).code
