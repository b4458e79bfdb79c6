"""The broker's launcher, without a broker."""

from pathlib import Path

import pytest

from deploy.local.account import Account
from deploy.local.kafka import Kafka, bundled_java, fetch_jars, jar_folder


def test_a_cluster_keeps_the_id_that_was_drawn_first(tmp_path: Path) -> None:
    """A format that was cut off, or overtaken by a second start, must find its own id again."""

    def broker() -> Kafka:
        return Kafka(Path("java"), tmp_path, tmp_path / "data", 1, 2, Account.choose())

    first = broker()._cluster_id()
    assert len(first) == 22
    assert broker()._cluster_id() == first
    assert [file.name for file in tmp_path.iterdir()] == ["cluster-id"]


@pytest.mark.usefixtures("backing")
def test_a_project_may_lie_in_a_folder_with_an_accent_and_blanks(tmp_path: Path) -> None:
    """Whatever the locale: a service manager's is none at all."""
    folder, comma = tmp_path / "José's \\ folder 🎒", tmp_path / "with, comma"
    java, jars = bundled_java() / "bin/java", fetch_jars(jar_folder())
    Kafka(java, jars, folder / "data", 1, 2, Account()).prepare()
    assert (folder / "data/meta.properties").exists()
    with pytest.raises(OSError, match="comma"):
        Kafka(java, jars, comma / "data", 1, 2, Account()).prepare()
