"""What goes wrong, as RFC 9457 problems: a stable `reason`, a status, safe details, and nothing of our insides."""

import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from shared.errors import (
    Diverged,
    EventTooLarge,
    Rejected,
    Unavailable,
    VersionConflict,
    WrongDistrict,
)
from shared.policy import UnknownDistrict

log = structlog.get_logger(__name__)

# What any route may answer, whatever its own table says.
KIT_REFUSALS: dict[str, int] = {
    "malformed_request": 400,
    "malformed_json": 400,
    "idempotency_key_invalid": 400,
    "token_missing": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "client_token_invalid": 401,
    "scope_missing": 403,
    "district_forbidden": 403,
    "not_found": 404,
    "district_unknown": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "request_in_progress": 409,
    "reply_withheld": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "header_too_large": 431,
    "invalid_body": 422,
    "invalid_query": 422,
    "event_too_large": 422,
    "idempotency_key_reused": 422,
    "internal_error": 500,
    "unavailable": 503,
    "contended": 503,
    "history_diverged": 503,
}

_CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: none is taken for another


def new_reference(service: str) -> str:
    """A code that is easily read out, `C-7K3M-9QX`. Its letter names the service; 35 random bits."""
    letters = [secrets.choice(_CODE_LETTERS) for _ in range(7)]
    return f"{service[0].upper()}-{''.join(letters[:4])}-{''.join(letters[4:])}"


@dataclass(frozen=True)
class Problem:
    """A refusal on its way to the caller. `details` become members of the body beside the standard ones."""

    status: int
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        own = {
            "type": f"/problems/{self.reason}",
            "title": self.reason.replace("_", " ").capitalize(),
            "status": self.status,
            "reason": self.reason,
        }
        if self.reference:
            own["reference"] = self.reference
        return {**self.details, **own}

    def oauth_body(self, malformed: str) -> dict[str, Any]:
        """The same with what RFC 6749 asks for. `malformed`: the error of a request that cannot be."""
        return {
            "error": _OAUTH_ERRORS.get(self.reason) or _OAUTH_STATUS.get(self.status, malformed),
            **self.body,
        }

    @property
    def page(self) -> str:
        """The same for whoever came with a browser. The words for pupils are the portal's; this is shown where the way
        there is not known."""
        code = html.escape(self.reference or self.reason)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{code}</title>'
            '<meta name="viewport" content="width=device-width">'
            "<h1>This did not work</h1><p>Go back to where you came from and begin again. If it happens again, show the"
            ' help desk this page.</p><h1 lang="es">Esto no funcionó</h1><p lang="es">Regresa a la página de la que'
            " viniste y empieza otra vez. Si vuelve a pasar, muestra esta página a la mesa de ayuda.</p>"
            f"<p><code>{code}</code></p></html>"
        )


_OAUTH_ERRORS = {
    reason: reason
    for reason in (
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "unsupported_token_type",
        "request_not_supported",
        "request_uri_not_supported",
        "registration_not_supported",
        "invalid_redirect_uri",
        "invalid_client_metadata",
    )
} | {
    "scope_missing": "insufficient_scope",
    "token_invalid": "invalid_token",
    "token_expired": "invalid_token",
}
_OAUTH_STATUS = {401: "invalid_client", 500: "server_error", 503: "temporarily_unavailable"}


def oauth_status(status: int) -> int:
    """RFC 6749, 5.2: a request that is understood and wrong is a 400."""
    return 400 if status == 422 else status


def problem_of(error: Exception, service: str, refusals: Mapping[str, int]) -> Problem:
    """The problem that an exception is told as. What nobody foresaw is logged once, under a reference."""
    match error:
        case Rejected():
            return _rejection(error, refusals)
        case Unavailable():
            details = {"dependency": error.dependency, "retry_after_s": error.retry_after_s}
            return _problem("unavailable", details)
        case VersionConflict():
            return _problem("contended", {"retry_after_s": 1})
        case Diverged():
            log.error("history_diverged", error=str(error))
            return _problem("history_diverged", {"retry_after_s": 60})
        case UnknownDistrict():
            return _problem("district_unknown")
        case WrongDistrict():
            return _problem("not_found")
        case EventTooLarge():
            return _problem("event_too_large")
        case web.HTTPException():
            return _http_problem(error)
    reference = new_reference(service)
    log.error("internal_error", reference=reference, exc_info=error)
    return Problem(500, "internal_error", reference=reference)


def _rejection(error: Rejected, refusals: Mapping[str, int]) -> Problem:
    status = refusals.get(error.reason) or KIT_REFUSALS.get(error.reason)
    if status is None:
        log.error("refusal_undeclared", reason=error.reason)
    reference = error.details.get("reference")
    return _problem(
        error.reason, error.details, status or 422, reference if isinstance(reference, str) else None
    )


def _problem(
    reason: str, details: Mapping[str, Any] | None = None, status: int = 0, reference: str | None = None
) -> Problem:
    details = details or {}
    status = status or KIT_REFUSALS[reason]
    headers = {}
    if "retry_after_s" in details:
        headers["Retry-After"] = str(details["retry_after_s"])
    if status == 401:
        headers["WWW-Authenticate"] = _challenge(reason)
    if reason == "scope_missing":
        scopes = " ".join(details.get("scopes", ()))
        headers["WWW-Authenticate"] = f'Bearer realm="homeroom", error="insufficient_scope", scope="{scopes}"'
    return Problem(status, reason, details, reference, headers)


def _challenge(reason: str) -> str:
    """RFC 6750: who brought no token is only told the scheme. RFC 6749: clients show their secret by Basic."""
    if reason == "invalid_client":
        return 'Basic realm="homeroom"'
    bad_token = reason in ("token_invalid", "token_expired")
    return 'Bearer realm="homeroom"' + (', error="invalid_token"' if bad_token else "")


def _http_problem(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals: no such route, no such method, a body that it would not read."""
    reasons = {
        404: "not_found",
        405: "method_not_allowed",
        413: "body_too_large",
        415: "unsupported_media_type",
    }
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    reason = reasons.get(error.status, "malformed_request")
    status = error.status if error.status in reasons else 400
    return Problem(status, reason, headers=headers)
