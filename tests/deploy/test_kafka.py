"""The broker's launcher, without a broker."""

from pathlib import Path

from deploy.local.account import Account
from deploy.local.kafka import Kafka


def test_a_cluster_keeps_the_id_that_was_drawn_first(tmp_path: Path) -> None:
    """A format that was cut off, or overtaken by a second start, must find its own id again."""

    def broker() -> Kafka:
        return Kafka(Path("java"), tmp_path, tmp_path / "data", 1, 2, Account.choose())

    first = broker()._cluster_id()
    assert len(first) == 22
    assert broker()._cluster_id() == first
    assert [file.name for file in tmp_path.iterdir()] == ["cluster-id"]
