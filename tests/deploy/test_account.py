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
def test_a_package_that_the_account_cannot_read_is_copied_once(package: Path) -> None:
    copies, account = package.parents[1] / "copies", Account.choose()
    package.parents[1].chmod(0o755)
    package.parent.chmod(0o700)
    copy = account.reachable(package, "bin/tool", copies)
    assert copy == copies / "package"
    assert (copy / "bin/tool").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "choice", [Choice(postgres="/nowhere"), Choice(java="/bin/false"), Choice(kafka="/nowhere")]
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, choice: Choice) -> None:
    files = Files(tmp_path)
    with pytest.raises(NotUsable, match="nowhere|/bin/false"):
        if choice.postgres:
            make_postgres(choice, files, 1, "password")
        else:
            make_kafka(choice, files, {"kafka": 1, "controller": 2}, lambda done, total: None)
    assert not files.copies.exists()


def test_an_incomplete_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="complete"):
        Account(uid=65534, gid=65534).reachable(tmp_path, "bin/postgres", tmp_path / "copies")


def test_the_packaged_postgres_is_new_enough() -> None:
    assert postgres.version(postgres.bundled_binaries()) >= postgres.MINIMUM_VERSION
