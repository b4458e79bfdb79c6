"""What the stack writes down: found again, private, and forgotten as a whole."""

import os
import socket
import stat
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from deploy.local import provision, state
from deploy.local.backing import Choice, NotUsable
from deploy.local.processes import ProcessRecord, free_port
from deploy.local.service import Portal, Service
from deploy.local.state import PORTAL, Credentials, Files, PartState, Stack
from deploy.local.supervisor import WANTED_PORTS, choose_ports
from services.portal.seals import Seals
from services.portal.settings import PortalSettings
from shared.settings import from_environment, read_environment, unknown_variables

GONE = ProcessRecord(os.getpid(), "of another boot")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path / "stack")
    made.make()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_state_of_a_user_is_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state.state_dir() == state.PROJECT / ".homeroom"


def test_the_state_of_root_is_where_an_unprivileged_account_can_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state.state_dir().parent == Path("/var/lib/homeroom")


def test_secrets_are_made_once_and_nobody_else_reads_them(files: Files) -> None:
    first = provision.make_secrets(files)
    assert provision.make_secrets(files) == first
    assert first.postgres != first.roles["roster"] != first.roles["auth"]
    assert mode(files.secrets) == 0o700
    assert {mode(file) for file in files.secrets.iterdir()} == {0o600}
    assert {file.name for file in files.secrets.iterdir()} == {
        "credentials.json",
        "pepper",
        "bootstrap-client.json",
    }


def test_the_portal_has_a_key_that_opens_what_it_sealed_before(files: Files) -> None:
    provision.make_secrets(files)
    drawn = files.portal_key.read_bytes()
    provision.make_secrets(files)
    assert files.portal_key.read_bytes() == drawn
    assert Seals.read(files.portal_key)
    assert (mode(files.portal), mode(files.portal_key), mode(files.portal_clients)) == (0o700, 0o600, 0o700)


def test_the_portal_gets_its_client_of_the_district(files: Files) -> None:
    credentials = provision.make_secrets(files)
    credentials.clients["portal"] = {"id": "i", "secret": "s"}
    for _ in range(2):
        provision.admit_portal(files, credentials)
    file = files.portal_clients / "ccps.json"
    assert msgspec.json.decode(file.read_bytes()) == {"id": "i", "secret": "s"}
    assert mode(file) == 0o600


def test_only_those_who_sign_get_keys_and_each_only_its_own(files: Files) -> None:
    provision.make_secrets(files)
    provision.make_secrets(files)
    public = [file.name.split("-")[0] for file in files.keys.glob("*.public.json")]
    assert sorted(public) == ["auth", "auth", "claims", "saml"], "auth also has a key of ID tokens"
    for service, names, keys in (("auth", ("auth", "saml"), 3), ("claims", ("claims",), 1)):
        private = list((files.signing / service).iterdir())
        assert len(private) == keys
        assert all(file.name.startswith(names) and mode(file) == 0o600 for file in private)


def test_a_stack_is_read_as_it_was_written(files: Files) -> None:
    written = Stack(state="running", ports={"roster": 1}, parts=[PartState("roster", "log", process=GONE)])
    files.write(written)
    assert files.read() == written
    assert mode(files.stack_file) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"state": 3}'])
def test_a_stack_that_cannot_be_read_is_an_empty_one(files: Files, content: bytes) -> None:
    files.stack_file.write_bytes(content)
    assert files.read() == Stack()


@pytest.mark.parametrize(
    ("supervisor", "part", "told"),
    [
        (ProcessRecord.of(os.getpid()), "running", "running"),
        (ProcessRecord.of(os.getpid()), "backing-off", "degraded"),
        (GONE, "running", "orphaned"),
    ],
)
def test_status_tells_what_is_so_not_what_was_written(
    files: Files, supervisor: ProcessRecord, part: str, told: str
) -> None:
    here = ProcessRecord.of(os.getpid())
    files.write(Stack(state="running", supervisor=supervisor, parts=[PartState("auth", "log", part, here)]))
    assert state.status(files)["state"] == told


def test_status_of_a_stack_whose_processes_are_gone_is_stopped(files: Files) -> None:
    files.write(
        Stack(
            state="running",
            supervisor=GONE,
            ports={"auth": 1},
            parts=[PartState("auth", "log", "running", GONE)],
        )
    )
    found = state.status(files)
    assert (found["state"], found["services"], found["parts"][0]["pid"]) == ("stopped", {}, None)


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
        assert choose_ports({"roster": port})["roster"] != port


def test_ports_never_collide_and_are_kept() -> None:
    first = choose_ports({})
    assert len(set(first.values())) == len(WANTED_PORTS)
    assert choose_ports(first) == first


def test_only_a_stacks_folder_is_forgotten(files: Files, tmp_path: Path) -> None:
    precious = Files(tmp_path)
    precious.forget()
    assert files.root.exists()
    files.write(Stack())
    files.forget()
    assert not files.root.exists()


def test_a_service_has_a_database_of_its_own() -> None:
    dsn = provision.database_dsn(
        "postgresql://boss:pw@db.example:5433/postgres?sslmode=require", "auth", "p/w"
    )
    assert dsn == "postgresql://homeroom_auth:p%2Fw@db.example:5433/homeroom_auth?sslmode=require"


def test_what_the_user_has_is_told_from_a_folder() -> None:
    own = Choice.of(
        {"HOMEROOM_LOCAL_POSTGRES": "postgresql://u@h/postgres", "HOMEROOM_LOCAL_KAFKA": "broker:9092"}
    )
    assert (own.postgres_dsn, own.kafka_bootstrap) == ("postgresql://u@h/postgres", "broker:9092")
    folders = Choice.of(
        {"HOMEROOM_LOCAL_POSTGRES": "/usr/lib/postgresql/15", "HOMEROOM_LOCAL_KAFKA": "/opt/kafka"}
    )
    assert (folders.postgres_dsn, folders.kafka_bootstrap) == (None, None)


def test_an_account_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotUsable, match="no-such-account"):
        Choice(account="no-such-account").own_account()


async def test_a_role_enters_its_own_database_and_no_other(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = f"a{uuid4().hex[:8]}", f"b{uuid4().hex[:8]}"
    monkeypatch.setattr(provision, "SERVICES", (mine, other))
    credentials = Credentials(postgres="", roles={mine: "it's mine", other: "other"})
    admin = await asyncpg.connect(postgres_dsn)
    try:
        for _ in range(2):
            await provision.make_databases(postgres_dsn, credentials, ours=False)
        dsn = provision.database_dsn(postgres_dsn, mine, credentials.roles[mine])
        own = await asyncpg.connect(dsn)
        await own.execute("CREATE TABLE mine (id int)")
        await own.close()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(dsn, database=f"homeroom_{other}")
    finally:
        for name in (mine, other):
            await admin.execute(f'DROP DATABASE IF EXISTS "homeroom_{name}" WITH (FORCE)')
            await admin.execute(f'DROP ROLE IF EXISTS "homeroom_{name}"')
        await admin.close()


def test_a_service_gets_the_callers_settings_but_not_the_stacks(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("HOMEROOM_KAFKA", "elsewhere:9092")
    monkeypatch.setenv("HOMEROOM_STATE_DIR", "/somewhere")
    monkeypatch.setenv("HOMEROOM_LOCAL_JAVA", "/somewhere/java")
    given = Service(
        "auth", files, WANTED_PORTS, "postgresql://auth@127.0.0.1/auth", "127.0.0.1:29092"
    ).environment()
    assert unknown_variables(given) == []
    settings = from_environment(given, service="auth")
    assert settings.portal_url == "http://127.0.0.1:8104"
    assert (settings.log_level, settings.kafka, settings.http_port) == ("DEBUG", "127.0.0.1:29092", 8103)
    assert settings.pepper_file == files.pepper
    assert "HOMEROOM_PEPPER_FILE" not in Service("roster", files, WANTED_PORTS, "", "").environment()


def test_the_portal_is_told_of_the_stacks_services_and_nothing_of_their_stores(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_LOG_FORMAT", "console")
    monkeypatch.setenv("HOMEROOM_AUTH_URL", "https://auth.example.org")
    monkeypatch.setenv("HOMEROOM_POSTGRES", "postgresql:///elsewhere")
    given = Portal(PORTAL, files, WANTED_PORTS).environment()
    assert unknown_variables(given, PortalSettings) == []
    settings = read_environment(PortalSettings, given)
    assert (settings.auth_url, settings.http_port) == ("http://127.0.0.1:8103", 8104)
    assert (settings.portal_url, settings.district) == ("http://127.0.0.1:8104", "ccps")
    assert settings.log_format == "console"


def test_a_portal_behind_a_proxy_is_where_the_caller_says(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_PORTAL_URL", "https://portal.example.org")
    for part in (Portal(PORTAL, files, WANTED_PORTS), Service("auth", files, WANTED_PORTS, "", "")):
        assert part.environment()["HOMEROOM_PORTAL_URL"] == "https://portal.example.org"
