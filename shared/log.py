"""Structured logs: one JSON object a line on stdout, with the service, the district and the correlation id in each.

Secrets and personal data do not belong in a log call. `redact` is the last defence for the day that one slips
in.
"""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from shared import metrics

REDACTED = "[redacted]"
_SECRET_KEYS = re.compile(
    r"password|passwd|secret|token|ticket$|^ticket|authorization|cookie|answer|pepper|verifier|signature|private"
    r"|credential$|session$|^dsn$|^code$|first_name|last_name|^name$|^names$|^number$|^username$|^body$|identity",
    re.IGNORECASE,
)
_ALLOWED_KEYS = frozenset({"desk_ticket", "token_kind", "answers_count"})
_SECRET_VALUES = re.compile(
    r"eyJ[\w-]{6,}\.[\w-]+\.[\w-]*"  # a JWT
    r"|\$argon2[a-z]*\$\S+"
    r"|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)"  # user:password@ of an address
    r"|(?m:DETAIL:.*$)"  # PostgreSQL's errors quote the offending row here
    r"|(?i:bearer|basic)\s+[\w+/=.~-]{8,}"
)
_MAX_TEXT, _MAX_DEPTH = 4000, 6

_encode = msgspec.json.Encoder().encode
_lines_go_to: TextIO | None = None  # where lines of requests go past structlog


class _Output:
    """Where lines go. That they cannot be written (a full disk, a reader that is gone) stops nobody's work."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError:
            metrics.lost_log_writes.inc()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            metrics.lost_log_writes.inc()


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blanks what looks like a secret or personal data, by its key or by its shape, however deep it lies."""
    return {key: _safe(key, value, 0) for key, value in event.items()}


def _safe(key: str, value: Any, depth: int) -> Any:
    if _SECRET_KEYS.search(key) and key not in _ALLOWED_KEYS and value is not None:
        return REDACTED
    if isinstance(value, str):
        return _SECRET_VALUES.sub(REDACTED, value[:_MAX_TEXT])
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if depth >= _MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {str(k): _safe(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe("", v, depth + 1) for v in value]
    if isinstance(value, (msgspec.Struct, bytes, bytearray, memoryview)):
        return f"<{type(value).__name__}>"  # its content is not meant for a log
    return _SECRET_VALUES.sub(REDACTED, str(value)[:_MAX_TEXT])


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _encode(event).decode()


def configure_logging(service: str, *, level: str = "INFO", form: str = "json") -> None:
    """Sets up structlog and the standard library's logging (aiohttp, aiokafka, asyncio) to write the same lines."""
    output = cast(TextIO, _Output(sys.stdout))
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        lambda _, __, event: {"service": service, **event},
    ]
    last: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if form == "console" else _render_json
    structlog.configure(
        processors=[*shared, redact, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, last],
        )
    )
    global _lines_go_to
    _lines_go_to = output if form == "json" and level in ("DEBUG", "INFO") else None
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # aiokafka reports every try to reach a broker that is away; the kit says it once, as a missing
    # dependency.
    logging.getLogger("aiokafka").setLevel(max(logging.CRITICAL, root.level))
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, root.level))


class AccessLine(msgspec.Struct):
    """One line for each request: its route's template, never its path, query or body."""

    service: str
    time: datetime
    district: str
    correlation_id: str
    method: str
    route: str
    status: int
    ms: float
    reason: str | None
    event: str = "request"
    level: str = "info"


def access_line(line: AccessLine) -> None:
    """Writes the line of a request, past structlog, whose way costs more than an empty request.

    It leaves with the next line of another kind, or with `flush`, which a service calls each second.
    """
    if _lines_go_to is not None:
        _lines_go_to.write(_encode(line).decode() + "\n")
    else:
        structlog.get_logger().info(**msgspec.structs.asdict(line))


def flush() -> None:
    """Sends lines of requests on their way."""
    if _lines_go_to is not None:
        _lines_go_to.flush()
