"""The examples for application developers, with other people's libraries in other languages, against a real listener:
discovery, signing in, a new key in the middle, refreshing, signing out.

Part of the deep tests: they fetch those libraries, and need node, go and mvn where those are looked at.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.keys import SIGNS_AFTER
from shared.server import listening
from shared.service import build_app
from tests.auth.conftest import PORTAL, World
from tests.auth.relying import BACK, GOODBYE, Browser, RelyingParty, accepted

EXAMPLES = Path(__file__).parents[2] / "examples" / "sign-in"
PREPARE = {
    "sign_in.py": f"{sys.executable} -m venv v && v/bin/pip install -q authlib==1.9.10 requests==2.34.2 joserfc==1.8.0",
    "sign_in.mjs": "npm init -y && npm install openid-client@6.9.0",
    "sign_in.go": "go mod init example.org/sign-in && go get github.com/coreos/go-oidc/v3@v3.21.0 && go mod tidy"
    " && go build -o sign_in sign_in.go",
    "sign_in.java": "mvn -q dependency:copy-dependencies -DoutputDirectory=jars",
}
RUN = {
    "sign_in.py": "v/bin/python sign_in.py",
    "sign_in.mjs": "node sign_in.mjs",
    "sign_in.go": "./sign_in",
    "sign_in.java": "java -cp 'jars/*' sign_in.java",
}
TOOL = {"sign_in.py": sys.executable, "sign_in.mjs": "node", "sign_in.go": "go", "sign_in.java": "mvn"}
PATIENCE_S = 30

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]


@pytest.fixture
async def issuer(world: World) -> AsyncIterator[str]:
    """Auth at an address that programs outside of this process can reach."""
    async with listening(build_app(world.kit), "127.0.0.1", 0, drain_s=1) as port:
        world.kit.settings = msgspec.structs.replace(world.kit.settings, issuer=f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/v1/districts/ccps"


@pytest.mark.parametrize("example", RUN)
async def test_somebody_signs_in(world: World, issuer: str, example: str, tmp_path: Path) -> None:
    if shutil.which(TOOL[example]) is None:
        pytest.skip(f"{TOOL[example]} is not here")
    world.late = -SIGNS_AFTER  # so that nothing is of the future to a program that has another clock
    library, pupil = await RelyingParty.register(world, access_token_minutes=60), await world.claimed()
    signed_before = world.kit.signer.sign("JWT", {}, "RS256")
    world.rotate_key(tmp_path, "RS256")  # known from now on, and signs in ten minutes
    assert world.kit.signer.sign("JWT", {}, "RS256") == signed_before
    folder = tmp_path / "example"
    folder.mkdir()
    for file in (example, "pom.xml"):
        shutil.copy(EXAMPLES / file, folder)
    assert await (await start(PREPARE[example], folder)).wait() == 0
    program = await start(
        RUN[example], folder, ISSUER=issuer, CLIENT_ID=library.client_id, CLIENT_SECRET=library.secret or "",
        REDIRECT_URI=BACK, AFTER=GOODBYE,
    )  # fmt: skip
    assert program.stdin is not None

    async def told(word: str) -> str:
        assert program.stdout is not None
        line = (await asyncio.wait_for(program.stdout.readline(), PATIENCE_S)).decode()
        assert line.startswith(f"{word} "), line
        return line.removeprefix(f"{word} ").strip()

    origin = issuer.partition("/v1/")[0]
    browser, session = Browser(world), await world.session(pupil)
    asked = await browser.go((await told("GO")).removeprefix(origin))
    assert asked.location.startswith(PORTAL), asked
    returned = await browser.go((await accepted(world, asked, session)).removeprefix(origin))
    program.stdin.write(f"{returned.location}\n".encode())
    user = json.loads(await told("USER"))
    assert (user["sub"], user["preferred_username"]) == (str(pupil.person_id), "S0123456")

    world.late += SIGNS_AFTER
    assert world.kit.signer.sign("JWT", {}, "RS256") != signed_before
    program.stdin.write(b"\n")
    assert await told("AGAIN") == str(pupil.person_id)
    out = await browser.go((await told("OUT")).removeprefix(origin))
    assert out.location == GOODBYE, out
    assert not await world.alive(session)
    assert await asyncio.wait_for(program.wait(), PATIENCE_S) == 0


async def start(command: str, folder: Path, **env: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE if env else None
    return await asyncio.create_subprocess_shell(
        command, stdin=pipe, stdout=pipe, cwd=folder, env=dict(os.environ) | env
    )
