"""OpenAPI 3.1 from a table of routes: what is served at /openapi.json is what the code does."""

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from shared.problems import KIT_REFUSALS, oauth_status
from shared.reasons import Reason
from shared.web import Route

_KIND_OF_SUBJECT = {
    "client": "A machine's or staff member's access token (`POST …/token`, client credentials).",
    "ticket": "The ticket of a claim.",
    "recovery": "The ticket of a recovery.",
    "session": "The session of a signed-in person.",
    "application": "An application's access token, for the person who signed in to it.",
}
# What can meet any route of a kind, beside what its own table lists.
_ALWAYS = ("internal_error", "unavailable", "contended", "history_diverged", "malformed_request")
_WITH_DISTRICT = ("district_unknown",)
_WITH_CALLER = ("token_missing", "token_invalid", "token_expired", "district_forbidden")
_WITH_BODY = (
    "malformed_json",
    "invalid_body",
    "body_too_large",
    "unsupported_media_type",
    "request_timeout",
)


def document(
    service: str, summary: str, routes: Sequence[Route], reasons: Mapping[str, Reason], version: str = "1"
) -> dict[str, Any]:
    """The description of a service, as it is in JSON: a default may be a tuple, which is none of its types."""
    types = [t for r in routes for t in (r.body, r.query, *r.success.values()) if _has_schema(t)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for component in components.values():  # before 3.13 a docstring keeps the indentation of its source
        if "description" in component:
            component["description"] = cleandoc(component["description"])
    schema_of = {id(t): s for t, s in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schema_of, components, reasons
        )
    described = {
        "openapi": "3.1.0",
        "info": {"title": f"Homeroom {service}", "version": version, "description": summary},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components | {"Problem": _PROBLEM},
            "securitySchemes": {
                kind: {"type": "http", "scheme": "bearer", "description": text}
                for kind, text in _KIND_OF_SUBJECT.items()
            },
        },
    }
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described))
    return whole


def refusals_of(route: Route) -> dict[str, int]:
    """Every reason that a route may answer with, and its status."""
    kit = list(_ALWAYS)
    kit += _WITH_DISTRICT if route.has_district else ()
    kit += ("not_found",) if "{" in route.path else ()
    kit += ("invalid_query",)
    if route.caller.kind != "public":
        kit += _WITH_CALLER
    if route.caller.scopes:
        kit += ("scope_missing",)
    if route.body is not None:
        kit += _WITH_BODY
    if route.method == "POST" and route.caller.kind != "public":
        kit += ("idempotency_key_invalid", "idempotency_key_reused", "request_in_progress", "reply_withheld")
    return {reason: KIT_REFUSALS[reason] for reason in kit} | dict(route.refusals)


def _operation(
    route: Route, schema_of: Mapping[int, Any], components: Mapping[str, Any], reasons: Mapping[str, Reason]
) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, body in sorted(route.success.items()):
        responses[str(status)] = {"description": _DESCRIPTIONS.get(status, "Done.")}
        if body is not None:
            schema = schema_of[id(body)] if _has_schema(body) else {}
            responses[str(status)]["content"] = {kind: {"schema": schema} for kind in route.produces}
    for status, told in _by_status(refusals_of(route), oauth=bool(route.oauth_error) or route.page).items():
        lines = [
            f"- `{reason}`: {reasons[reason].meaning if reason in reasons else reason}" for reason in told
        ]
        responses[str(status)] = _problem_response(status, told, lines, route)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route, schema_of, components)],
        "responses": responses,
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route, schema_of)
    if route.caller.kind != "public":
        operation["security"] = [{route.caller.kind: []}]
        if route.caller.scopes:
            operation["description"] = "Scope: " + " or ".join(f"`{s}`" for s in sorted(route.caller.scopes))
        if route.method == "POST":
            operation["parameters"].append(_IDEMPOTENCY_KEY)
    return operation


def operation_id(route: Route) -> str:
    """`get_refusals_by_reference`"""
    parts = route.path.removeprefix("/v1").removeprefix("/districts/{district}").strip("/").split("/")
    words = [f"by_{p.strip('{}')}" if p.startswith("{") else p for p in parts]
    return re.sub(r"[^a-z0-9]+", "_", "_".join([route.method.lower(), *words]).lower())


def _request_body(route: Route, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    kinds = ("application/x-www-form-urlencoded",) if route.form else route.content_types
    schema = schema_of[id(route.body)] if _has_schema(route.body) else {}
    return {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    for name in re.findall(r"{(\w+)}", route.path):
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        # The id of an event from outside is whatever its source chose; all other ids are ours.
        if name.endswith("_id") and name != "event_id":
            schema["format"] = "uuid"
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    return found


def _query_parameters(
    route: Route, schema_of: Mapping[int, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = components[schema_of[id(route.query)]["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]


def _by_status(refusals: Mapping[str, int], *, oauth: bool) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for reason, status in sorted(refusals.items(), key=lambda item: (item[1], item[0])):
        found.setdefault(oauth_status(status) if oauth else status, []).append(reason)
    return found


def _problem_response(status: int, told: Iterable[str], lines: Sequence[str], route: Route) -> dict[str, Any]:
    own: dict[str, Any] = {"properties": {"reason": {"enum": list(told)}}}
    if route.oauth_error:
        own["properties"]["error"] = {"type": "string", "description": "As RFC 6749 has it."}
        own["required"] = ["error"]
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, own]}
    kind = "application/json" if route.oauth_error else "application/problem+json"
    content = {"text/html": {"schema": {"type": "string"}}} if route.page else {kind: {"schema": schema}}
    response: dict[str, Any] = {
        "description": "\n".join(lines),
        "content": content,
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return response


def _has_schema(body: Any) -> bool:
    return body is not None and body is not bytes and body is not msgspec.Raw


_DESCRIPTIONS = {202: "Taken; it goes on.", 304: "As it was."}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A repeat under the same key takes effect once and is given the first reply.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. Further members depend on the reason.",
    "required": ["type", "title", "status", "reason"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "reason": {"type": "string", "description": "Stable; see docs/reasons.md."},
        "reference": {
            "type": "string",
            "description": "The code under which the help desk finds the true reason.",
        },
    },
}
