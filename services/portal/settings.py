"""What the portal is told by its environment."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from shared.settings import described


class PortalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Field `http_port` is the variable HOMEROOM_HTTP_PORT."""

    roster_url: Annotated[
        str, described("Address of roster, without a slash at the end.", pattern="^https?://.*[^/]$")
    ]
    claims_url: Annotated[str, described("Address of claims.", pattern="^https?://.*[^/]$")]
    auth_url: Annotated[str, described("Address of auth.", pattern="^https?://.*[^/]$")]
    portal_url: Annotated[
        str,
        described(
            "Public base address of the portal, scheme and host alone, no slash at the end: forms come from there.",
            pattern=r"^https?://[^/?#@\s]+$",
        ),
    ]
    portal_key_file: Annotated[
        Path,
        described(
            "Keys that seal cookies, lines of base64 of 32 bytes each: the first seals, all open. Every process of the"
            " portal has the same; read again when it changes. Whoever changes them keeps the old ones for a day."
        ),
    ]
    portal_client_dir: Annotated[
        Path,
        described(
            'Folder of the clients with which the portal speaks for itself, `<district>.json` with `{"id", "secret"}`;'
            " scopes `introspect` and `exchange`."
        ),
    ]
    district: Annotated[
        str | None, described("District that `/` leads to; unset: `/` asks for a district's code.")
    ] = None
    proxies: Annotated[
        int,
        described(
            "How many reverse proxies stand in front and add to X-Forwarded-For; none is believed beyond.",
            ge=0,
            le=9,
        ),
    ] = 0
    http_host: Annotated[str, described("Address to listen on.")] = "127.0.0.1"
    http_port: Annotated[int, described("Port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8080
    drain_seconds: Annotated[
        int, described("After SIGTERM, how long running requests may still take.", ge=0, le=300)
    ] = 10
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], described("Least level that is logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "console"], described("`console` is for people at a terminal.")] = (
        "json"
    )
