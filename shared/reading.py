"""Reading what a request brings: its query, its body, bounded and strict. What does not fit is Rejected."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web

from shared.errors import Rejected

if TYPE_CHECKING:
    from shared.web import Route

BODY_TIMEOUT_S = 10.0
STREAM_TIMEOUT_S = 1800.0
STREAM_STALL_S = 30.0
MAX_FORM_FIELDS = 50

FORM_TYPE = "application/x-www-form-urlencoded"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def read_query(request: web.Request, route: "Route") -> Any:
    if route.query is None:
        if request.query_string:
            raise Rejected("invalid_query", field="?", problem="this route takes no parameters")
        return None
    given = request.query
    raw: dict[str, str] = {}
    for name, value in given.items():
        if name in raw or "\0" in value:
            raise Rejected(
                "invalid_query", field=_shown(name), problem="given twice, or with a NUL character"
            )
        kind = str(route.flags.get(name))
        if "bool" in kind and value == "":
            value = "true"
        elif "datetime" in kind:
            value = value.replace(" ", "+")  # an offset's plus sign that nobody percent-encoded
        raw[name] = value
    try:
        return msgspec.convert(raw, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid("invalid_query", error) from None


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body, bounded in size and in the time that it may take to arrive."""
    _check_length(request, limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise Rejected("body_too_large", limit_bytes=limit)
                chunks.append(chunk)
    except TimeoutError:
        raise Rejected("request_timeout") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Rejected("malformed_request") from None
    return b"".join(chunks)


def _check_length(request: web.Request, limit: int) -> None:
    if (request.content_length or 0) > limit:
        raise Rejected("body_too_large", limit_bytes=limit)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Rejected("unsupported_media_type", accepted=["identity"])


async def body_pieces(request: web.Request, route: "Route", size: int) -> AsyncIterator[bytes]:
    """The body of a streamed route in pieces of `size` bytes, the last one shorter: bounded as a whole in size and
    time, and in the time without a byte."""
    _expect_type(request, route.content_types)
    _check_length(request, route.body_limit)
    held, total = bytearray(), 0
    try:
        async with asyncio.timeout(STREAM_TIMEOUT_S):
            while True:
                async with asyncio.timeout(STREAM_STALL_S):
                    chunk = await request.content.readany()
                if not chunk:
                    break
                total += len(chunk)
                if total > route.body_limit:
                    raise Rejected("body_too_large", limit_bytes=route.body_limit)
                held += chunk
                while len(held) >= size:
                    yield bytes(held[:size])
                    del held[:size]
    except TimeoutError:
        raise Rejected("request_timeout") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Rejected("malformed_request") from None
    if held:
        yield bytes(held)


def decode_json(raw: bytes, request: web.Request, route: "Route") -> Any:
    """Strict JSON. NUL characters are refused, which PostgreSQL cannot store; msgspec refuses lone surrogates."""
    _expect_type(request, route.content_types)
    try:
        if route.body is not msgspec.Raw and b"\\u0000" in raw and _NUL.search(raw):
            raise Rejected("invalid_body", field="$", problem="a NUL character")
        return route.decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid("invalid_body", error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejected("malformed_json") from None


def read_pairs(raw: bytes, request: web.Request, route: "Route") -> list[tuple[str, str]]:
    """The parameters of a query, or of a form, in their order."""
    if route.body is None:
        raw = request.rel_url.raw_query_string.encode(errors="surrogateescape")
    else:
        _expect_type(request, (FORM_TYPE,))
    pairs = _parse(raw)
    if any("\0" in name + value for name, value in pairs):
        raise Rejected("malformed_request")
    return pairs


def decode_form(raw: bytes, request: web.Request, route: "Route") -> Any:
    _expect_type(request, (FORM_TYPE,))
    pairs = _parse(raw)
    form = dict(pairs)
    if len(form) != len(pairs) or "\0" in "".join(form.values()):
        raise Rejected("malformed_request")  # RFC 6749: no parameter more than once
    try:
        return msgspec.convert(form, route.body, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid("invalid_body", error) from None


def _parse(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError:
        raise Rejected("malformed_request") from None


def _expect_type(request: web.Request, accepted: tuple[str, ...]) -> None:
    charset = (request.charset or "utf-8").lower()
    if (
        request.headers.get(hdrs.CONTENT_TYPE) is None
        or request.content_type not in accepted
        or charset != "utf-8"
    ):
        raise Rejected("unsupported_media_type", accepted=list(accepted))


def _invalid(reason: str, error: msgspec.ValidationError) -> Rejected:
    """msgspec's message is safe to show to who sent the body: "Expected `str`, got `int` - at `$.number`"."""
    problem, _, where = str(error).partition(" - at `")
    return Rejected(reason, field=where.rstrip("`") or "$", problem=problem[:200])


def _shown(text: str) -> str:
    return text[:50].encode("ascii", "replace").decode()
