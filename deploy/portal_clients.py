"""The portal's own client of each district, made in auth: `python -m deploy.portal_clients FOLDER`.

FOLDER is the one of deploy/prepare.py: the operator's client is in it, and the portal's are put there. A district that
has one keeps it. HOMEROOM_AUTH_URL says where auth is, HOMEROOM_POLICY_DIR which districts there are.
"""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import msgspec

from deploy.prepare import OPERATOR
from services.cli.client import Client, Failed, Homeroom, Site
from shared.policies import read_folder
from shared.private import write_private
from shared.settings import from_environment

ROUTE = "/v1/operations/clients"
SCOPES = ("introspect", "exchange")
PATIENCE = aiohttp.ClientTimeout(total=30)


async def make_clients(folder: Path, policies: Path, auth_url: str) -> list[str]:
    """The districts that were given a client now."""
    operator = msgspec.json.decode((folder / "secrets/bootstrap-client.json").read_bytes(), type=Client)
    made = []
    async with aiohttp.ClientSession(timeout=PATIENCE) as http:
        for district in sorted(read_folder(policies)[0]):
            file = folder / f"portal/clients/{district}.json"
            if file.exists():
                continue
            homeroom = Homeroom(Site(district, {"auth": auth_url}, {OPERATOR: operator}), http)
            wanted = {"name": f"portal {district}", "scopes": SCOPES, "districts": [district]}
            client = msgspec.convert((await homeroom.post("auth", ROUTE, wanted, role=OPERATOR)).body, Client)
            write_private(file, msgspec.json.encode(client))
            made.append(district)
    return made


def main() -> None:
    settings = from_environment(service="portal-clients", postgres="", kafka="")
    auth_url = os.environ.get("HOMEROOM_AUTH_URL", settings.issuer)
    try:
        made = asyncio.run(make_clients(Path(sys.argv[1]), settings.policy_dir, auth_url))
    except Failed as failed:
        sys.exit(str(failed))
    print(", ".join(made) or "nothing to do")


if __name__ == "__main__":
    main()
