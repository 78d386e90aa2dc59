"""The table of Graph codes: every documented code, every code pywa knows, and codes nobody knows yet."""

from __future__ import annotations

import pytest
from pywa.errors import AuthorizationError, IntegrityError, SendMessageError, ThrottlingError, WhatsAppError

from kurir.channels.cloud_api.errors import LATER, REFUSED, TOKEN, outcome_of, reason_of
from kurir.messages.reports import Refused, TryLater

# from Meta's page "Error codes": code, HTTP status, whether the same message may go later
DOCUMENTED = [
    *[(code, 401 if code in (0, 190) else 403, False) for code in (0, 3, 10, 190, 200, 255, 299)],
    *[(code, 400, False) for code in (33, 100, 131008, 131009, 131021, 131026, 131030)],
    *[(code, 400, True) for code in (4, 80007, 130429, 131056, 133016, 134101, 132069)],
    *[(code, 400, True) for code in (131048, 131064)],
    *[(code, 403, True) for code in (368, 131031)],
    *[(code, 500, True) for code in (1, 131000, 131016, 131057)],
    (2, 503, True),
    *[(code, 403, False) for code in (130497, 131005, 131037, 131042, 131045)],
    *[(code, 400, False) for code in (131047, 131049, 131050, 130472, 131051, 131052, 131053, 131062, 131063)],
    *[(code, 400, False) for code in (132000, 132005, 132007, 132008, 132012, 132015, 132016, 132018, 132068)],
    (132001, 404, False),
    (137000, 400, False),
    (135000, 400, False),
]


def error(code: int, **more: object) -> dict[str, object]:
    return {"message": f"(#{code}) Something", "type": "OAuthException", "code": code, **more}


@pytest.mark.parametrize(("code", "status", "later"), DOCUMENTED)
def test_every_documented_code_has_its_outcome(code: int, status: int, later: bool) -> None:
    outcome = outcome_of(status, error(code))
    assert isinstance(outcome, TryLater if later else Refused)
    assert outcome.code == str(code)
    assert outcome.reason


def test_no_code_stands_in_two_columns() -> None:
    assert not set(LATER) & REFUSED
    assert not set(LATER) & TOKEN
    assert not REFUSED & TOKEN


# groups, calls, flows, usernames and template creation are families of their own: no send gets those codes
SENDING = (AuthorizationError, ThrottlingError, IntegrityError, SendMessageError)


@pytest.mark.parametrize("family", SENDING, ids=lambda family: family.__name__)
def test_every_code_of_a_send_that_pywa_knows_is_in_the_table(family: type[WhatsAppError]) -> None:
    known = {code for member in family.__subclasses__() for code in member.__error_codes__ or ()}
    assert known
    assert known - (set(LATER) | REFUSED | TOKEN) == set()


@pytest.mark.parametrize("code", [0, 3, 10, 190, 200, 299])
def test_a_token_error_says_that_it_is_the_token(code: int) -> None:
    outcome = outcome_of(401, error(code))
    assert isinstance(outcome, Refused)
    assert outcome.reason.startswith("access token: ")


def test_retry_after_wins_over_the_table() -> None:
    assert outcome_of(400, error(131048), 7.0) == TryLater("131048", "Something", 7.0)
    assert outcome_of(400, error(131048)) == TryLater("131048", "Something", 3600.0)
    assert outcome_of(400, error(130429)) == TryLater("130429", "Something", None)


@pytest.mark.parametrize(
    ("status", "more", "later"),
    [(400, {}, False), (500, {}, True), (503, {}, True), (429, {}, True), (400, {"is_transient": True}, True)],
)
def test_a_code_nobody_knows_is_judged_by_its_status(status: int, more: dict[str, object], later: bool) -> None:
    assert isinstance(outcome_of(status, error(999_999, **more)), TryLater if later else Refused)


def test_reasons_join_title_and_details() -> None:
    details = {"messaging_product": "whatsapp", "details": "to is not a number"}
    assert reason_of(error(131009, error_data=details)) == "Something: to is not a number"
    assert reason_of({"title": "Media upload error"}) == "Media upload error"
    assert reason_of({}) == "the Graph API gave no reason"
    assert reason_of({"message": "plain", "error_data": "text"}) == "plain"


@pytest.mark.parametrize("code", [None, "x", 1.5, [], True, "131000"])
def test_odd_codes_do_not_raise(code: object) -> None:
    assert outcome_of(400, {"code": code}).code
