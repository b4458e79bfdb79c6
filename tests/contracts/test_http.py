"""Each service's OpenAPI document against the running service: whatever is sent, the answer is one that it describes.

Requests are made up from the documents, both such that fit them and such that do not.
"""

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.describe import described
from shared import clock
from shared.database import migrate
from shared.health import describe
from shared.keys import Signer, make_key
from shared.life import SERVICES
from shared.server import listening
from shared.service import build_app, build_kit
from shared.settings import from_environment

ISSUER = "https://auth.example.org"
DISTRICT = "ccps"
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/zip")
def any_bytes(_: object, value: object) -> bytes:
    """What is made up for an export is hardly ever one: it is to be refused well."""
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass
class Running:
    """A service that answers, and a good token for each kind of caller."""

    url: str
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def running(
    backing: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Running]]:
    folder = tmp_path_factory.mktemp("keys")
    for signer in ("auth", "claims"):
        make_key(signer, folder / "public", folder / signer, clock.now())
    (folder / "pepper").write_text(f"test:{base64.b64encode(bytes(32)).decode()}\n")
    answering: dict[str, Running] = {}
    stop = threading.Event()
    threads = []
    for service in SERVICES:
        ready = threading.Event()
        thread = threading.Thread(
            target=lambda service=service, ready=ready: asyncio.run(
                _serve(service, backing, folder, answering, ready, stop)
            )
        )
        thread.start()
        threads.append(thread)
        assert ready.wait(60), service
    yield answering
    stop.set()
    for thread in threads:
        thread.join(30)


async def _serve(
    service: str,
    backing: dict[str, str],
    folder: Path,
    answering: dict[str, Running],
    ready: threading.Event,
    stop: threading.Event,
) -> None:
    admin = await asyncpg.connect(backing["postgres"])
    name = f"test_{uuid4().hex[:12]}"
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = urlunsplit(urlsplit(backing["postgres"])._replace(path=f"/{name}"))
    spec = described(service).spec
    try:
        await migrate(dsn, Path(str(files(spec.package))) / "sql")
        kit = build_kit(
            spec,
            from_environment(
                {},
                service=service,
                postgres=dsn,
                kafka=backing["kafka"],
                topic_prefix=name,
                issuer=ISSUER,
                key_dir=str(folder / "public"),
                signing_key_dir=str(folder / service) if (folder / service).exists() else None,
                pepper_file=str(folder / "pepper"),
            ),
        )
        kit.policies.refresh()
        kit.keys.refresh()
        kit.signer.refresh()
        for what in kit.readiness.missing:
            kit.readiness.has(what)
        async with listening(build_app(kit), "127.0.0.1", 0, drain_s=1) as port:
            answering[service] = Running(f"http://127.0.0.1:{port}", _tokens(folder))
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.05)
        await kit.db.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def _tokens(folder: Path) -> dict[str, str]:
    now = clock.now()
    times = {"iat": int(now.timestamp()), "exp": int((now + timedelta(hours=1)).timestamp())}
    person = {
        "sub": str(uuid4()),
        "jti": str(uuid4()),
        "district": DISTRICT,
        "generation": 0,
        "username": "S0123456",
    }
    auth, claims = Signer(folder / "auth", "auth"), Signer(folder / "claims", "claims")
    auth.refresh()
    claims.refresh()
    client = {
        "iss": f"{ISSUER}/v1/districts/{DISTRICT}",
        "aud": "homeroom",
        "sub": "client-1",
        "jti": str(uuid4()),
    }
    scopes = {"scope": "roster:write desk teacher operator introspect", "districts": ["*"]}
    return {
        "client": auth.sign("at+jwt", client | scopes | times | {"district": DISTRICT, "name": "fuzz"}),
        "ticket": claims.sign(
            "claim-ticket+jwt", {"iss": "homeroom-claims", "aud": ["claims", "auth"]} | person | times
        ),
        "recovery": auth.sign(
            "recovery-ticket+jwt",
            {"iss": f"{ISSUER}/v1/districts/{DISTRICT}", "aud": ["auth"]} | person | times,
        ),
        "session": "no-session-has-this-token",
        "application": "no-application-has-this-token",
    }


def _schema(service: str) -> BaseSchema:
    found = described(service)
    schema = schemathesis.openapi.from_dict(describe(service, found.spec.package, found.routes))
    # Not "coverage": it asks with methods and without tokens of its own accord, and has an opinion about the answers.
    schema.config.phases.update(phases=["examples", "fuzzing"])
    return schema


roster, claims, auth = (_schema(service) for service in ("roster", "claims", "auth"))


def send(case: Case, service: Running) -> None:
    """Sends a request, mostly in the district that there is, with a token of the kind that the route asks for."""
    kinds = [kind for needed in case.operation.definition.raw.get("security", []) for kind in needed]
    if kinds:
        case.headers["Authorization"] = f"Bearer {service.tokens[kinds[0]]}"
    if "district" in case.path_parameters:
        case.path_parameters["district"] = DISTRICT
    response = case.call(base_url=service.url)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=CHECKS)


@roster.parametrize()
@FEW
def test_roster_answers_as_it_is_described(case: Case, running: dict[str, Running]) -> None:
    send(case, running["roster"])


@claims.parametrize()
@FEW
def test_claims_answers_as_it_is_described(case: Case, running: dict[str, Running]) -> None:
    send(case, running["claims"])


@auth.parametrize()
@FEW
def test_auth_answers_as_it_is_described(case: Case, running: dict[str, Running]) -> None:
    send(case, running["auth"])
