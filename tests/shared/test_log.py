"""What a log line holds, and what it never does."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import asyncpg
import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from shared.log import REDACTED, AccessLine, access_line, configure_logging, flush, redact

JWT = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
LINE = AccessLine(
    service="claims",
    time=datetime(2026, 1, 1, tzinfo=UTC),
    district="ccps",
    correlation_id="j-1",
    method="GET",
    route="/v1/districts/{district}/persons/{person_id}",
    status=404,
    ms=12.3,
    reason="not_found",
)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Logging as a service has it; calling the fixture's value reads what was written."""
    with io.StringIO() as written, logging_to(written, monkeypatch):
        yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]


@contextmanager
def logging_to(file: TextIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        patched.setattr("shared.log._lines_go_to", None)  # set again to what it was before
        configure_logging("claims", level="INFO")
        yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_service_district_and_journey(lines: Any) -> None:
    structlog.contextvars.bind_contextvars(district="ccps", correlation_id="j-1")
    structlog.get_logger("here").info("claimed", version=3)
    (line,) = lines()
    assert line["service"] == "claims"
    assert line["event"] == "claimed"
    assert (line["district"], line["correlation_id"], line["version"]) == ("ccps", "j-1", 3)
    assert line["level"] == "info"
    assert line["time"].endswith("Z")


def test_a_full_disk_stops_nobody_who_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every request would end in a 500 once it has taken effect, and no worker would be started again."""
    before = lost_writes()
    full = open("/dev/full", "w")  # noqa: SIM115
    with logging_to(full, monkeypatch):
        structlog.get_logger("here").error("relay_failed")
        logging.getLogger("aiohttp.server").warning("odd")
        for _ in range(100):
            access_line(LINE)
        flush()
    assert lost_writes() > before
    with pytest.raises(OSError, match="No space"):
        full.close()  # what it holds back has nowhere to go


def lost_writes() -> float:
    return REGISTRY.get_sample_value("homeroom_lost_log_writes_total") or 0


def test_libraries_write_the_same_lines(lines: Any) -> None:
    logging.getLogger("aiohttp.server").warning("odd %s", "thing")
    logging.getLogger("aiokafka.client").error("broker away, again")
    (line,) = lines()
    assert (line["event"], line["service"], line["logger"]) == ("odd thing", "claims", "aiohttp.server")


def test_below_the_level_nothing_is_written(lines: Any) -> None:
    structlog.get_logger("here").debug("chatter")
    assert lines() == []


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "new_password",
        "passwordHash",
        "secret",
        "client_secret",
        "token",
        "access_token",
        "ticket",
        "Authorization",
        "cookie",
        "answer",
        "answers",
        "pepper",
        "verifier",
        "first_name",
        "last_name",
        "number",
        "username",
        "identity",
        "body",
        "dsn",
    ],
)
def test_secrets_and_personal_data_are_blanked_by_their_key(key: str, lines: Any) -> None:
    structlog.get_logger("here").info(
        "x", **{key: "hunter2"}, inner={key: ["hunter2"]}, listed=[{key: "hunter2"}]
    )
    text = json.dumps(lines())
    assert "hunter2" not in text
    assert REDACTED in text


@pytest.mark.parametrize(
    "value",
    [
        JWT,
        f"Bearer {JWT}",
        f"verify failed for {ARGON2}",
        "postgresql://homeroom:hunter2@db/claims",
        "Authorization: Basic aHVudGVyMg==aaaa",
        "duplicate key\nDETAIL:  Key (number)=(hunter2) already exists.",
    ],
)
def test_secrets_are_blanked_by_their_shape(value: str, lines: Any) -> None:
    structlog.get_logger("here").info("x", detail=value, deep={"a": [value]})
    text = json.dumps(lines())
    for secret in ("hunter2", JWT, "aHVudGVyMg", "aGFzaGhhc2g"):
        assert secret not in text


def test_an_exceptions_row_is_not_quoted(lines: Any) -> None:
    error = asyncpg.UniqueViolationError('duplicate key value violates unique constraint "x"')
    error.detail = "Key (number)=(0123456) already exists."
    try:
        raise error
    except asyncpg.PostgresError:
        structlog.get_logger("here").exception("failed")
    (line,) = lines()
    assert "UniqueViolationError" in line["exception"]
    assert "0123456" not in line["exception"]


def test_structs_and_bytes_are_named_and_not_shown(lines: Any) -> None:
    class Typed(msgspec.Struct):
        anything: str

    structlog.get_logger("here").info("x", typed=Typed("hunter2"), raw=b"hunter2", listed=[Typed("hunter2")])
    assert "hunter2" not in json.dumps(lines())


def test_a_desks_ticket_number_is_no_secret(lines: Any) -> None:
    structlog.get_logger("here").info("reset", desk_ticket="INC-4711")
    assert lines()[0]["desk_ticket"] == "INC-4711"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=20,
    )
)
def test_whatever_is_logged_can_be_written(value: Any) -> None:
    msgspec.json.encode(redact(None, "info", {"event": "x", "value": value}))


def test_a_request_is_one_line(lines: Any) -> None:
    access_line(LINE)
    (line,) = lines()
    assert (line["event"], line["level"], line["correlation_id"]) == ("request", "info", "j-1")
    assert (line["method"], line["status"], line["reason"], line["ms"]) == ("GET", 404, "not_found", 12.3)
