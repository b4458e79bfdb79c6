"""What every answer says to the browser, and which requests are the browser's own doing rather than another site's."""

from urllib.parse import urlsplit

from aiohttp import web

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "same-origin",
    "Server": "homeroom",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Only over TLS does a browser heed it; two years, as the preload list asks.
TRANSPORT_SECURITY = "max-age=63072000; includeSubDomains"
NO_STORE = "no-store"  # also keeps a page out of the back/forward cache
EVERYTHING_BUT_COOKIES = '"cache", "storage"'  # Clear-Site-Data; the device's cookie stays


def harden(response: web.StreamResponse, portal_url: str) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", NO_STORE)
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
    parts = urlsplit(portal_url)
    return origin == f"{parts.scheme}://{parts.netloc}"


def from_own_link(request: web.Request, portal_url: str) -> bool:
    """Whether a page was asked for by a page of this portal, and no other site was on the way."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Referer", "").startswith(f"{portal_url}/")


def browser_address(request: web.Request, proxies: int) -> str:
    """The browser's address: of the connection, or as the outermost of our own proxies saw it."""
    seen = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if proxies and len(seen) >= proxies:
        return seen[-proxies]
    return request.remote or ""


def local_path(said: str, district: str) -> str | None:
    """A path of this district's pages, as somebody's browser gave it back; None for anything else."""
    if not said.startswith(f"/{district}/") or "\\" in said or "//" in said or len(said) > 1000:
        return None
    return said if said.isprintable() and urlsplit(said).netloc == "" else None
