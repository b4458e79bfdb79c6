"""The rostering service of a district's SIS, asked over REST: one page at a time, patiently, and within bounds.

Only the two addresses of the district's policy are ever contacted: redirects and `Link` headers are not followed, so
no answer can send us elsewhere. Those addresses are the operator's word; that they may be private ones is meant so.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import msgspec

from services.roster.oneroster.rest import FIELDS, Collection, Item, NotJson, read_page, unexpected
from shared import clock
from shared.errors import Rejected
from shared.messages import rfc3339
from shared.policy import RestRule

PAGE_BYTES = 16 * 1024 * 1024
TOKEN_BYTES = 64 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONGEST_RETRY_AFTER_S = 600.0
TOKEN_MARGIN = timedelta(seconds=30)
PATIENCE = aiohttp.ClientTimeout(total=90, sock_connect=10)
BUSY, PASSING = (429, 503), (408, 425, 500, 502, 504)
# Why a certificate is not taken: X509_V_ERR_… of OpenSSL, x509_vfy.h
UNTRUSTED = {
    9: "not_yet_valid", 10: "expired", 62: "wrong_host", 64: "wrong_host",
} | dict.fromkeys((2, 18, 19, 20, 21), "unknown_authority")  # fmt: skip


class Page(msgspec.Struct, frozen=True):
    """`total`: of the whole collection; None: the provider does not count. `at`: when it answered, by its own clock."""

    items: list[Item]
    total: int | None
    at: datetime | None


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Any
    body: bytes


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int | float | str | None = None


class Provider:
    """One district's, for the time of one pull. `tries`: of each page; `pause_s`: the first pause in between. Each
    request takes one of the `turns`; no pause does."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        rule: RestRule,
        secret: str,
        *,
        tries: int,
        pause_s: float = FIRST_PAUSE_S,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._turns = turns or asyncio.Semaphore()
        self._http, self._rule, self._secret = http, rule, secret
        self._tries, self._pause_s = tries, pause_s
        self._token: str | None = None
        self._token_ends = datetime.min.replace(tzinfo=UTC)

    async def page(self, collection: Collection, *, offset: int, limit: int, since: datetime | None) -> Page:
        """A page of a collection in the order of its ids. Raises Rejected: provider_unreachable, provider_untrusted,
        provider_refused, provider_unexpected."""
        asked = {
            "limit": str(limit), "offset": str(offset), "sort": "sourcedId", "orderBy": "asc",
            "fields": ",".join(FIELDS[collection]),
        }  # fmt: skip
        if since is not None:
            asked["filter"] = f"dateLastModified>'{rfc3339(since)[:23].rstrip('Z')}Z'"
        pause_s, problem = self._pause_s, ""
        for left in reversed(range(self._tries)):
            try:
                answer = await self._get(collection, asked)
                if answer.status == 200:
                    return _page(collection, offset, answer)
                problem, wait_s = f"status {answer.status}", _retry_after(answer)
                if answer.status not in (*BUSY, *PASSING):
                    _refused(answer, collection)
            except aiohttp.ClientConnectorCertificateError as error:
                _untrusted(error)  # time mends no certificate
            except aiohttp.ClientConnectorSSLError as error:
                problem, wait_s = f"TLS: {getattr(error.os_error, 'reason', None) or 'broken'}", 0.0
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem, wait_s = type(error).__name__, 0.0
            except NotJson:
                problem, wait_s = "no whole JSON", 0.0
            if left:
                await asyncio.sleep(max(wait_s, pause_s * random.uniform(0.8, 1.2)))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise Rejected("provider_unreachable", collection=collection, problem=problem, tries=self._tries)

    async def _get(self, collection: Collection, asked: dict[str, str]) -> _Answer:
        """One answer. A token that is not taken any more is replaced once."""
        url = f"{self._rule.url.rstrip('/')}/{collection}"
        for _ in range(2):
            headers = {"Authorization": f"Bearer {await self._bearer()}", "Accept": "application/json"}
            answer = await self._ask("GET", url, PAGE_BYTES, params=asked, headers=headers)
            if answer.status != 401:
                break
            self._token = None
        return answer

    async def _bearer(self) -> str:
        if self._token is None or clock.now() >= self._token_ends:
            form = {"grant_type": "client_credentials", "scope": self._rule.scope}
            answer = await self._ask(
                "POST", self._rule.token_url, TOKEN_BYTES, data=form,
                headers={"Authorization": aiohttp.encode_basic_auth(self._rule.client_id, self._secret)},
            )  # fmt: skip
            if answer.status in (*BUSY, *PASSING):
                raise aiohttp.ClientConnectionError(f"status {answer.status}")
            if answer.status != 200:
                _refused(answer, "token")
            try:
                token = msgspec.json.decode(answer.body, type=_Token)
                lives = timedelta(seconds=max(0.0, min(float(token.expires_in or 0), 86400.0)))
            except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
                unexpected("token")
            if not token.access_token.isascii() or not token.access_token.isprintable():
                unexpected("token")
            self._token, self._token_ends = token.access_token, clock.now() + lives - TOKEN_MARGIN
        return self._token

    async def _ask(self, method: str, url: str, bound: int, **given: Any) -> _Answer:
        headers = given.pop("headers") | {"Accept-Encoding": "identity"}  # what is packed has no bound
        async with (
            self._turns,
            self._http.request(
                method, url, headers=headers, allow_redirects=False, timeout=PATIENCE, **given
            ) as answer,
        ):
            if 300 <= answer.status < 400:
                unexpected("redirect", status=answer.status)
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                unexpected("content_encoding")
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > bound:
                    unexpected("too_large", limit=bound)
            return _Answer(answer.status, answer.headers, bytes(body))


@asynccontextmanager
async def connecting(trusted: ssl.SSLContext | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to providers; nothing is unpacked, no cookie is kept, no proxy of the environment is used.

    `trusted`: who may have signed their certificates; whom the system trusts when None.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusted or True),
        auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
    ) as http:  # fmt: skip
        yield http


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Only the authorities of this file, none of the system's. Raises OSError when it cannot be read, or holds none."""
    context = ssl.create_default_context(cafile=ca_file)
    if not context.cert_store_stats()["x509_ca"]:
        raise ssl.SSLError("no authority in it")
    return context


def _untrusted(error: aiohttp.ClientConnectorCertificateError) -> NoReturn:
    """Raises Rejected `provider_untrusted`."""
    found, said = error.certificate_error, ""
    if isinstance(found, ssl.SSLCertVerificationError):
        said = found.verify_message
    problem = UNTRUSTED.get(getattr(found, "verify_code", 0), "certificate")
    raise Rejected("provider_untrusted", problem=problem, host=error.host, said=said[:200]) from None


def _page(collection: Collection, offset: int, answer: _Answer) -> Page:
    items = read_page(collection, answer.body, offset)
    total = answer.headers.get("X-Total-Count")
    if total is not None and not (total.isascii() and total.isdigit() and len(total) < 10):
        unexpected("total", collection=collection, value=total[:80])
    return Page(items, None if total is None else int(total), _moment(answer.headers.get("Date", "")))


def _refused(answer: _Answer, what: str) -> None:
    """Raises Rejected with the provider's own words, as far as they are such as the specification has."""
    minor = description = None
    try:
        said = msgspec.json.decode(answer.body, type=dict[str, Any])
        said = said.get("imsx_StatusInfo", said)
        description = said.get("imsx_description") or said.get("error")
        minor = said["imsx_CodeMinor"]["imsx_codeMinorField"][0]["imsx_codeMinorFieldValue"]
    except (msgspec.DecodeError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        pass
    told = {"code_minor": minor, "description": description}
    words: dict[str, Any] = {name: str(word)[:200] for name, word in told.items() if isinstance(word, str)}
    raise Rejected("provider_refused", asked=what, status=answer.status, **words)


def _retry_after(answer: _Answer) -> float:
    """How long we are asked to wait, in seconds or until a moment; never longer than we are willing to."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        wait_s = float(said[:9])
    else:
        moment = _moment(said)
        wait_s = (moment - clock.now()).total_seconds() if moment else 0.0
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)


def _moment(said: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(said)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
