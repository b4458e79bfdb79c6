"""Browsers of other origins (CORS): let in where a district's policy lists the origin, and nowhere by default."""

from aiohttp import hdrs, web

from shared.policies import Policies

_ALLOWED = "Authorization, Content-Type, If-Match, Idempotency-Key, Homeroom-Client, traceparent"
_EXPOSED = "ETag, Location, Retry-After, Homeroom-Correlation-Id, Idempotency-Replayed"


def preflight(request: web.Request, policies: Policies, error: Exception) -> web.Response | None:
    """The answer to a browser that asks before it calls, if the district lists its origin."""
    wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
    if (
        request.method != hdrs.METH_OPTIONS
        or not isinstance(error, web.HTTPMethodNotAllowed)
        or wanted is None
    ):
        return None
    if not _origin_listed(request, policies) or wanted not in error.allowed_methods:
        return None
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(error.allowed_methods)),
            "Access-Control-Allow-Headers": _ALLOWED,
            "Access-Control-Max-Age": "600",
        },
    )


def allow_origin(request: web.Request, response: web.StreamResponse, policies: Policies) -> None:
    response.headers.add("Vary", "Origin")
    if _origin_listed(request, policies):
        response.headers["Access-Control-Allow-Origin"] = request.headers[hdrs.ORIGIN]
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _origin_listed(request: web.Request, policies: Policies) -> bool:
    # On a request that matched no method there are no path variables: the district is the path's third part.
    parts = request.path.split("/")
    district = parts[3] if parts[1:3] == ["v1", "districts"] and len(parts) > 3 else ""
    policy = policies.find(district)
    return policy is not None and request.headers.get(hdrs.ORIGIN) in policy.origins
