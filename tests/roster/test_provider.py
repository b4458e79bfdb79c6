"""Asking an SIS over REST: patiently where patience helps, never where it does not, and within bounds."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.roster import provider as providers
from services.roster.oneroster.rest import User
from services.roster.provider import Page, Provider, connecting
from shared.errors import Rejected
from tests.roster.exports import pupils
from tests.support.sis import LONG_AGO, Sis, cut, refusing, saying, serving, silence, user

TRIES = 6
PUPILS = pupils(5)
NOW = datetime(2026, 8, 3, 12, 0, 30, 123456, tzinfo=UTC)


@pytest.fixture
async def sis() -> AsyncIterator[Sis]:
    async with serving(Sis(PUPILS)) as sis:
        yield sis


@pytest.fixture
async def provider(sis: Sis) -> AsyncIterator[Provider]:
    async with connecting() as http:
        yield Provider(http, sis.rule(), sis.secret, tries=TRIES, pause_s=0.001)


async def users(provider: Provider, **asked: Any) -> Page:
    return await provider.page("users", **({"offset": 0, "limit": 3, "since": None} | asked))


async def refusal(provider: Provider, **asked: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Rejected) as refused:
        await users(provider, **asked)
    return refused.value.reason, refused.value.details


async def test_a_page_is_asked_for_in_order_with_what_is_needed_and_nothing_else(
    sis: Sis, provider: Provider
) -> None:
    page = await users(provider, offset=1, limit=2)
    ids = sorted(p.source_id for p in PUPILS)
    assert [item.sourced_id for item in page.items] == ids[1:3]
    assert page.total == 5
    assert page.at is not None
    assert abs(page.at - datetime.now(UTC)) < timedelta(seconds=5)
    [(collection, asked)] = sis.asked
    assert (collection, asked["sort"], asked["orderBy"]) == ("users", "sourcedId", "asc")
    assert (asked["limit"], asked["offset"]) == ("2", "1")
    assert "filter" not in asked
    assert "email" not in asked["fields"]
    first = next(p for p in PUPILS if p.source_id == ids[1])
    assert isinstance(page.items[0], User)
    assert (page.items[0].identifier, page.items[0].family_name) == (first.number, first.last_name)


async def test_what_was_modified_since_is_asked_for_in_the_specifications_form(
    sis: Sis, provider: Provider
) -> None:
    sis.items["users"][2] = user(PUPILS[2], modified=NOW + timedelta(seconds=1))
    page = await users(provider, since=NOW)
    assert [item.sourced_id for item in page.items] == [PUPILS[2].source_id]
    assert sis.asked[0][1]["filter"] == "dateLastModified>'2026-08-03T12:00:30.123Z'"
    await users(provider, since=LONG_AGO)
    assert sis.asked[1][1]["filter"] == "dateLastModified>'2026-01-01T00:00:00Z'"


async def test_a_token_is_used_until_it_ends(sis: Sis, provider: Provider) -> None:
    await users(provider)
    await users(provider)
    assert len(sis.tokens) == 1
    sis.tokens["token-0"] = LONG_AGO  # sooner than it said
    assert (await users(provider)).total == 5
    assert len(sis.tokens) == 2


async def test_a_token_that_is_about_to_end_is_replaced_before(sis: Sis, provider: Provider) -> None:
    sis.token_life = providers.TOKEN_MARGIN
    await users(provider)
    await users(provider)
    assert len(sis.tokens) == 2
    assert len(sis.asked) == 2  # none was asked in vain


@pytest.mark.parametrize(
    "fault",
    [
        refusing(503), refusing(429), refusing(500), refusing(502), cut, saying(b'{"users": [{"sour'), saying(b""),
        saying(b"<html>down</html>"),
    ],
)  # fmt: skip
async def test_what_passes_is_tried_again(sis: Sis, provider: Provider, fault: Any) -> None:
    sis.faults = [fault, fault, None]
    assert (await users(provider)).total == 5
    assert len(sis.asked) == 3


async def test_who_does_not_answer_in_time_is_asked_again(
    sis: Sis, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "PATIENCE", aiohttp.ClientTimeout(total=0.2))
    sis.faults = [silence, None]
    assert (await users(provider)).total == 5


@pytest.mark.parametrize("until", [False, True])
async def test_who_says_when_to_ask_again_is_heard(
    sis: Sis, provider: Provider, monkeypatch: pytest.MonkeyPatch, until: bool
) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr(providers.asyncio, "sleep", sleep)
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True) if until else "40"
    sis.faults = [
        refusing(429, **{"Retry-After": said}),
        refusing(503, **{"Retry-After": "999999999999"}),
        None,
    ]
    await users(provider)
    pauses = [s for s in slept if s > 1]
    assert len(pauses) == 2
    assert 37 < pauses[0] <= 40
    assert pauses[1] == providers.LONGEST_RETRY_AFTER_S


async def test_in_the_end_it_is_given_up(sis: Sis, provider: Provider) -> None:
    sis.faults = [refusing(503)] * TRIES
    reason, details = await refusal(provider)
    assert reason == "provider_unreachable"
    assert details == {"collection": "users", "problem": "status 503", "tries": TRIES}
    assert len(sis.asked) == TRIES


async def test_nobody_there(sis: Sis) -> None:
    async with connecting() as http:
        rule = msgspec.structs.replace(sis.rule(), token_url="http://127.0.0.1:1/token")
        reason, details = await refusal(Provider(http, rule, sis.secret, tries=TRIES, pause_s=0.001))
    assert (reason, details["tries"]) == ("provider_unreachable", TRIES)


async def test_a_refusal_is_told_in_the_systems_own_words_and_not_repeated(
    sis: Sis, provider: Provider
) -> None:
    sis.faults = [refusing(403)]
    reason, details = await refusal(provider)
    assert reason == "provider_refused"
    assert details == {"asked": "users", "status": 403, "code_minor": "forbidden", "description": "no"}
    assert len(sis.asked) == 1


async def test_a_wrong_secret(sis: Sis) -> None:
    async with connecting() as http:
        reason, details = await refusal(Provider(http, sis.rule(), "wrong", tries=TRIES, pause_s=0.001))
    assert (reason, details) == (
        "provider_refused",
        {"asked": "token", "status": 401, "description": "invalid_client"},
    )
    assert sis.asked == []


async def test_a_token_that_is_never_taken(sis: Sis, provider: Provider) -> None:
    sis.token_life = timedelta(seconds=-1)
    reason, details = await refusal(provider)
    assert (reason, details["status"]) == ("provider_refused", 401)
    assert len(sis.asked) == 2


async def test_it_is_never_sent_elsewhere(sis: Sis, provider: Provider) -> None:
    sis.faults = [saying(b"", 302, Location=f"{sis.url}/elsewhere")]
    assert await refusal(provider) == ("provider_unexpected", {"problem": "redirect", "status": 302})
    assert len(sis.asked) == 1


@pytest.mark.parametrize("total", ["", "-1", "many", "1" * 20, "٣"])
async def test_a_total_that_is_none_is_not_believed(sis: Sis, provider: Provider, total: str) -> None:
    async def fault(request: web.Request) -> web.StreamResponse:
        return web.json_response({"users": []}, headers={"X-Total-Count": total})

    sis.faults = [fault]
    reason, details = await refusal(provider)
    assert (reason, details["problem"]) == ("provider_unexpected", "total")


async def test_a_page_has_a_bound(sis: Sis, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "PAGE_BYTES", 10_000)
    sis.faults = [saying(b" " * 20_000)]
    reason, details = await refusal(provider)
    assert (reason, details) == ("provider_unexpected", {"problem": "too_large", "limit": 10_000})


async def test_nothing_is_unpacked(sis: Sis, provider: Provider) -> None:
    packed = saying(gzip.compress(b" " * 1_000_000), **{"Content-Encoding": "gzip"})
    sis.faults = [packed]
    assert await refusal(provider) == ("provider_unexpected", {"problem": "content_encoding"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"access_token": 5}',
        b'{"access_token": "a\\nb"}',
        b'{"access_token": "a", "expires_in": "x"}',
        b'{"access_token": "a", "expires_in": 1' + b"0" * 400 + b"}",
    ],
)
async def test_a_token_that_is_none(sis: Sis, body: bytes) -> None:
    async def odd(request: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_post("/odd", odd)
    async with TestServer(app) as server, connecting() as http:
        rule = msgspec.structs.replace(sis.rule(), token_url=str(server.make_url("/odd")))
        assert await refusal(Provider(http, rule, "s", tries=TRIES, pause_s=0.001)) == (
            "provider_unexpected",
            {"problem": "token"},
        )


@pytest.mark.parametrize("expires_in", ["-1e308", '"-inf"', '"nan"', "-5", "0", "1e300"])
async def test_a_token_lives_a_day_at_most_and_never_less_than_nothing(sis: Sis, expires_in: str) -> None:
    async def odd(request: web.Request) -> web.Response:
        return web.Response(text=f'{{"access_token": "a", "expires_in": {expires_in}}}')

    app = web.Application()
    app.router.add_post("/odd", odd)
    async with TestServer(app) as server, connecting() as http:
        rule = msgspec.structs.replace(sis.rule(), token_url=str(server.make_url("/odd")))
        with pytest.raises(Rejected) as caught:  # since the SIS knows no such token
            await users(Provider(http, rule, sis.secret, tries=1))
    assert (caught.value.reason, caught.value.details["status"]) == ("provider_refused", 401)
