"""Root hands PostgreSQL and Kafka to an unprivileged account, which must be able to read them."""

import os
from pathlib import Path

import pytest

from deploy.local import postgres
from deploy.local.account import Account
from deploy.local.backing import Choice, NotUsable, make_kafka, make_postgres
from deploy.local.state import Files

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_text("tool")
    (folder / "bin/tool").chmod(0o700)
    return folder


def test_whoever_is_not_root_runs_everything_as_oneself(
    monkeypatch: pytest.MonkeyPatch, package: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    account = Account.choose("no-such-account")
    assert account.spawn_options() == {}
    assert account.reachable(package, "bin/tool", package.parent / "copies") == package


@as_root
def test_a_package_that_the_account_cannot_read_is_copied(package: Path) -> None:
    copies = package.with_name("copies")
    copy = Account.choose().reachable(package, "bin/tool", copies)
    assert copy == copies / package.parent.name / "package"
    assert (copy / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_a_folder_that_the_user_names_is_used_or_refused_but_never_copied(tmp_path: Path) -> None:
    files, ports = Files(tmp_path), {"kafka": 1, "controller": 2}
    with pytest.raises(NotUsable, match="HOMEROOM_LOCAL_POSTGRES"):
        make_postgres(Choice(postgres="/nowhere"), files, 1, "password")
    with pytest.raises(NotUsable, match="HOMEROOM_LOCAL_KAFKA"):
        make_kafka(Choice(kafka="/nowhere"), files, ports, lambda done, total: None)
    with pytest.raises(NotUsable, match="/bin/false"):
        make_kafka(Choice(java="/bin/false"), files, ports, lambda done, total: None)
    copied = {copy.name for copy in files.copies.glob("*/*")} | {copy.name for copy in files.copies.glob("*")}
    assert not copied & {"nowhere", "false"}, (
        "packages alone may be copied, where the account cannot reach them"
    )


def test_an_incomplete_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="complete"):
        Account().reachable(tmp_path, "bin/postgres", tmp_path / "copies")


def test_the_packaged_postgres_is_new_enough() -> None:
    assert postgres.version(postgres.bundled_binaries()) >= postgres.MINIMUM_VERSION
