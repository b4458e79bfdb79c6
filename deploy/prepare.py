"""What is drawn once before a first start, not configured: `python -m deploy.prepare FOLDER`.

keys/                            the public keys, for everybody
signing/<service>/               the private keys of the services that sign
secrets/pepper                   auth's
secrets/bootstrap-client.json    the operator's client, which auth makes at its start
portal/key                       what the portal seals its cookies with
portal/clients/                  for the portal's own clients, one of each district
"""

import base64
import secrets
import sys
from pathlib import Path

import msgspec

from shared import clock
from shared.keys import Algorithm, ensure_key
from shared.private import write_private

SIGNERS = ("claims", "auth")
# Under which name, with what, and whose private key it is. Auth signs its own tokens, ID tokens with what every
# application can verify, and for SAML with keys that are turned by themselves.
KEYS: tuple[tuple[str, Algorithm, str], ...] = (
    ("claims", "Ed25519", "claims"),
    ("auth", "Ed25519", "auth"),
    ("auth", "RS256", "auth"),
    ("saml", "RS256", "auth"),
)
OPERATOR = "operator"


def prepare(folder: Path) -> None:
    """What is there already stays."""
    for name, algorithm, service in KEYS:
        ensure_key(name, folder / "keys", folder / "signing" / service, clock.now(), algorithm)
    pepper, client = folder / "secrets/pepper", folder / "secrets/bootstrap-client.json"
    pepper.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not pepper.exists():
        drawn = (f"{id}:{base64.b64encode(secrets.token_bytes(32)).decode()}\n" for id in ("1", "lasting"))
        write_private(pepper, "".join(drawn).encode())
    if not client.exists():
        write_private(client, msgspec.json.encode({"id": OPERATOR, "secret": secrets.token_urlsafe(32)}))
    key = folder / "portal/key"
    for made in (key.parent, key.with_name("clients")):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not key.exists():
        write_private(key, base64.b64encode(secrets.token_bytes(32)) + b"\n")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
