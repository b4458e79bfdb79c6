"""The command line as a person at a terminal meets it: words in, an exit status and two streams out."""

from collections.abc import Callable, Iterator

import pytest

from services.cli import main
from tests.cli.fake import FakeServices

Run = Callable[..., int]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServices]:
    with FakeServices() as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def run() -> Run:
    """Run one command; its exit status."""

    def run(*words: str) -> int:
        try:
            main(words)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
