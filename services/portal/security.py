"""What every answer says to the browser, and which requests are the browser's own doing rather than another site's."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web


def policy(*elsewhere: str) -> str:
    """A content security policy; `elsewhere`: origins that a form of the page may go to, beside our own."""
    return "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            " ".join(("form-action 'self'", *elsewhere)),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


CONTENT_SECURITY_POLICY = policy()
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Only over TLS does a browser heed it; two years, as the preload list asks.
TRANSPORT_SECURITY = "max-age=63072000; includeSubDomains"
MAX_PATH_BYTES = 1000  # of one that is kept in a cookie
NO_STORE = "no-store"  # also keeps a page out of the back/forward cache
EVERYTHING_BUT_COOKIES = '"cache", "storage"'  # Clear-Site-Data; the device's cookie stays


def harden(response: web.StreamResponse, portal_url: str) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", NO_STORE)
    response.headers["Server"] = "homeroom"  # whatever the server says of itself
    if portal_url.startswith("https:"):
        response.headers.setdefault("Strict-Transport-Security", TRANSPORT_SECURITY)


def from_own_page(request: web.Request, portal_url: str) -> bool:
    """Whether a form was sent from a page of this portal (Fetch Metadata; Origin, RFC 6454, of older browsers).

    Cookies are Lax, so that another site's form comes without them; this also stops signing a browser in to
    somebody else's account. A request that says nothing of where it comes from is of no browser's form.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return site == "same-origin"
    return origin == origin_of(portal_url)


def from_own_link(request: web.Request, portal_url: str) -> bool:
    """Whether a page was asked for by a page of this portal, and no other site was on the way."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Referer", "").startswith(f"{portal_url}/")


def origin_of(url: str) -> str:
    """The origin of an address as browsers write it (RFC 6454, 6.2): in small letters, without a scheme's own port."""
    parts = urlsplit(url)
    host = (parts.hostname or "") if ":" not in (parts.hostname or "") else f"[{parts.hostname}]"
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def browser_address(request: web.Request, proxies: int) -> str:
    """The browser's address: of the connection, or as the outermost of our own proxies saw it. What a proxy adds may be
    a line of its own (RFC 9110, 5.3)."""
    lines = request.headers.getall("X-Forwarded-For", [])
    seen = [part.strip() for part in ",".join(lines).split(",") if part.strip()]
    if proxies and len(seen) >= proxies and (address := _address(seen[-proxies])):
        return address
    return request.remote or ""


def _address(said: str) -> str | None:
    """An address without the port and the brackets that some proxies write; None for what is none."""
    if said.startswith("["):
        said = said[1:].partition("]")[0]
    elif said.count(":") == 1:
        said = said.partition(":")[0]
    try:
        return str(ip_address(said))
    except ValueError:
        return None


def local_path(said: str, district: str) -> str | None:
    """A path of this district's pages, as somebody's browser gave it back; None for anything else."""
    if not said.startswith(f"/{district}/") or "\\" in said or "//" in said or not said.isprintable():
        return None
    short = len(said.encode()) <= MAX_PATH_BYTES
    return said if short and urlsplit(said).netloc == "" else None


def path_of(url: str) -> str:
    """The path of an address that a browser names; "" of what is no address."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
