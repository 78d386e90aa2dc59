"""The pages for people: who sees the numbers, what the reference shows, and that nothing foreign runs in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.harness.gateway import Harness, open_harness

from kurir.accounts import members
from kurir.accounts.tables import accounts
from kurir.numbers.tables import numbers
from kurir.reasons import sentence, stored
from kurir.reasons.numbers import REMOVED_BY_PHONE
from kurir.web import reference_pages
from kurir.web.compat_v1.endpoint_table import ENDPOINTS
from kurir.web.page_words import WORDS

XSS = "<script>alert(1)</script>"


async def with_a_member(harness: Harness) -> None:
    account_id = harness.ours.account.id
    password_hash = members.hashed("a good pass: word")
    await harness.gateway.database.write(lambda c: members.create(c, account_id, "sari@example.com", password_hash))


async def test_the_numbers_are_for_members(harness: Harness) -> None:
    await with_a_member(harness)
    answer = await harness.client.get("/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert harness.ours.device.key not in answer.text
    answer = await harness.client.get("/", auth=("Sari@example.com", "a good pass: word"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert harness.ours.device.key in answer.text
    assert harness.theirs.device.key not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + "eA==" * 1000},
        {"Authorization": "Basic eA=="},
        {"Authorization": "Basic //8="},
        {"Authorization": "Bearer c2FyaTpy"},
    ],
)
async def test_odd_sign_ins_are_no_sign_ins(harness: Harness, headers: dict[str, str]) -> None:
    answer = await harness.client.get("/", headers=headers)
    assert answer.status_code == 401
    assert harness.surprises() == 0


async def test_wrong_passwords_block_even_the_right_one(tmp_path: Path) -> None:
    async with open_harness(tmp_path, failed_key_limit="2/hour") as harness:
        await with_a_member(harness)
        for _ in range(2):
            assert (await harness.client.get("/", auth=("sari@example.com", "wrong"))).status_code == 401
        answer = await harness.client.get("/", auth=("sari@example.com", "a good pass: word"))
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0


async def test_an_open_status_page_shows_every_number_and_escapes_names(tmp_path: Path) -> None:
    async with open_harness(tmp_path, status_page="open") as harness:
        await harness.gateway.database.write(lambda c: c.execute(numbers.update().values(name=XSS, state_reason=XSS)))
        page = (await harness.client.get("/")).text
        for tenant in (harness.ours, harness.theirs):
            assert tenant.device.key in page
        assert XSS not in page
        assert "&lt;script&gt;" in page
        assert harness.ours.api_key not in page


async def test_the_reference_shows_every_endpoint_and_field_with_a_command_to_copy(harness: Harness) -> None:
    page = (await harness.client.get("/reference")).text
    for endpoint in ENDPOINTS:
        assert f'id="{endpoint.path}"' in page
        assert f"curl http://gateway.test/public/v1/{endpoint.path}" in page
        for field in endpoint.fields:
            assert f"<code>{field.name}</code>" in page


@pytest.mark.parametrize("path", ["/", "/reference", "/nothing"])
async def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline(harness: Harness, path: str) -> None:
    answer = await harness.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!/static/)", answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=\"", answer.text)
    for asset in set(re.findall(r"/static/[\w.]+", answer.text)):
        assert (await harness.client.get(asset)).status_code == 200
    assert (await harness.client.get("/static/../server.py")).status_code == 404


async def test_the_openapi_document_lists_every_endpoint_with_every_code(harness: Harness) -> None:
    document: dict[str, Any] = (await harness.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {f"/public/v1/{endpoint.path}" for endpoint in ENDPOINTS}
    for path in document["paths"].values():
        assert set(path["post"]["responses"]) == {"200", "400", "403", "404", "405", "408", "503"}


# -- languages ---------------------------------------------------------------------------------------------------------


def test_the_pages_words_are_in_both_languages_and_all_used() -> None:
    assert WORDS["id"].keys() == WORDS["en"].keys()
    assert [name for name, text in WORDS["id"].items() if text == WORDS["en"][name]] == []
    folder = Path(reference_pages.__file__).parent
    sources = [*(folder / "templates").glob("*.html"), Path(reference_pages.__file__)]
    text = "".join(file.read_text(encoding="utf-8") for file in sources)
    assert [name for name in WORDS["en"] if f"words.{name}" not in text and f'"{name}"' not in text] == []


def own_words(page: str) -> str:
    """A page without the reference, which is in English, without its tags."""
    return re.sub(r"<[^>]+>", " ", re.sub(r'<div lang="en">.*</div>', "", page, flags=re.DOTALL))


ENGLISH = re.compile(
    r"\b(numbers?|state|phone|kind|account|last|linked|official|connected|logged|not|the|with)\b", re.I
)


@pytest.mark.parametrize(("language", "asked"), [("id", "en"), ("en", "id")])
async def test_a_member_reads_one_language_the_accounts(harness: Harness, language: str, asked: str) -> None:
    await with_a_member(harness)
    await harness.gateway.database.write(
        lambda c: (
            c.execute(accounts.update().values(language=language)),
            c.execute(
                numbers.update().values(
                    state="logged_out",
                    name="",
                    phone="",
                    key="k" + numbers.c.key,
                    state_reason=stored(REMOVED_BY_PHONE()),
                )
            ),
        )
    )
    answer = await harness.client.get(
        "/", auth=("sari@example.com", "a good pass: word"), headers={"Accept-Language": asked}
    )
    words = own_words(answer.text)
    assert f'<html lang="{language}">' in answer.text
    if language == "id":
        assert "sudah keluar" in words
        assert "belum ditautkan" in words
        assert sentence(REMOVED_BY_PHONE(), "id") in words
        assert ENGLISH.findall(words) == []
    else:
        assert "logged out" in words
        assert "not paired" in words
        assert sentence(REMOVED_BY_PHONE(), "en") in words


@pytest.mark.parametrize(("asked", "language"), [("", "id"), ("en-GB", "en"), ("fr", "id"), ("id", "id")])
async def test_an_open_page_and_the_other_pages_are_in_the_language_that_is_asked_for(
    tmp_path: Path, asked: str, language: str
) -> None:
    headers = {"Accept-Language": asked}
    async with open_harness(tmp_path / "open", status_page="open") as harness:
        page = (await harness.client.get("/", headers=headers)).text
        assert ("Terakhir tersambung" in page, "Last connected" in page) == (language == "id", language == "en")
        assert f'<html lang="{language}">' in page
    async with open_harness(tmp_path / "members") as harness:
        for path, status, name in (("/", 401, "for_members"), ("/nothing", 404, "nothing_here")):
            answer = await harness.client.get(path, headers=headers)
            assert (answer.status_code, WORDS[language][name] in answer.text) == (status, True)
            if language == "id":
                assert ENGLISH.findall(own_words(answer.text)) == []
        assert '<html lang="en">' in (await harness.client.get("/reference", headers=headers)).text
