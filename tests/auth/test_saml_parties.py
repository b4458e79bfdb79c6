"""The examples for developers of applications that speak SAML, with other people's libraries, against a real listener:
registered by their own metadata, a signed request, and a response that those libraries prove.

Part of the deep tests: they fetch those libraries.
"""

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.server import listening
from shared.service import build_app
from tests.auth.conftest import World
from tests.auth.relying import Browser, accepted
from tests.auth.saml_party import ACS, ENTITY, SAML_APPLICATIONS, Pair, form_of, pair
from tests.auth.test_relying_parties import start

EXAMPLES = Path(__file__).parents[2] / "examples" / "sign-in-with-saml"
PREPARE = {
    "sign_in.py": f"{sys.executable} -m venv v && v/bin/pip install -q python3-saml==1.16.0 requests==2.34.2",
    "sign_in.mjs": "npm init -y && npm install @node-saml/node-saml@5.1.0",
}
RUN = {"sign_in.py": "v/bin/python sign_in.py", "sign_in.mjs": "node sign_in.mjs"}
PATIENCE_S = 30

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]


@pytest.fixture
async def provider(world: World) -> AsyncIterator[str]:
    """Auth at an address that programs outside of this process can reach."""
    async with listening(build_app(world.kit), "127.0.0.1", 0, drain_s=1) as port:
        world.kit.settings = msgspec.structs.replace(world.kit.settings, issuer=f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/v1/districts/ccps"


def pem(own: Pair) -> str:
    return own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize("example", RUN)
async def test_somebody_signs_in(world: World, provider: str, example: str, tmp_path: Path) -> None:
    if example.endswith(".mjs") and shutil.which("node") is None:
        pytest.skip("node is not here")
    session, own, folder = await world.session(await world.claimed()), pair(), tmp_path / "example"
    folder.mkdir()
    shutil.copy(EXAMPLES / example, folder)
    assert await (await start(PREPARE[example], folder)).wait() == 0
    program = await start(
        RUN[example], folder, IDENTITY_PROVIDER=provider, ENTITY_ID=ENTITY, ACS=ACS, KEY=pem(own),
        CERTIFICATE=own.pem,
    )  # fmt: skip

    async def told(word: str) -> str:
        assert program.stdout is not None
        line = (await asyncio.wait_for(program.stdout.readline(), PATIENCE_S)).decode()
        assert line.startswith(f"{word} "), line
        return line.removeprefix(f"{word} ").strip()

    def say(line: str) -> None:
        assert program.stdin is not None
        program.stdin.write(f"{line}\n".encode())

    metadata = base64.b64decode(await told("METADATA")).decode()
    body = {
        "name": "Library",
        "districts": ["ccps"],
        "metadata": metadata,
        "attributes": {"given": "first_name"},
    }
    answer = await world.ask("POST", SAML_APPLICATIONS, body, bearer=world.token("operator"))
    assert answer.status == 201, answer
    say("registered")
    origin, browser = provider.partition("/v1/")[0], Browser(world)
    gone = await browser.go((await told("GO")).removeprefix(origin))
    back = await browser.go((await accepted(world, gone, session)).removeprefix(origin))
    form = await form_of(world, back)
    say(f"{form['saml_response']} {form['relay_state']}")
    user = json.loads(await told("USER"))
    assert user["attributes"]["given"] == "Mary-Ann"
    assert user["relay_state"] == "/shelf"
    assert len(user["name_id"]) == 43
    assert await asyncio.wait_for(program.wait(), PATIENCE_S) == 0
