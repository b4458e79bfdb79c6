"""The words of the command line: what is loaded for one, and what a person is told of all."""

import subprocess
import sys

import pytest

from services.cli import COMMANDS, app
from tests.cli.conftest import Run


def test_what_there_is_is_told_with_what_each_does(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for word in COMMANDS:
        described = app[word].help.split()
        assert described
        assert f"{word} {' '.join(described[:4])}" in told


@pytest.mark.parametrize("word", COMMANDS)
def test_every_word_is_found_and_explains_itself(
    word: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(word, "--help") == 0
    assert f"Usage: homeroom {word}" in capsys.readouterr().out


def test_a_word_loads_no_other_words_module() -> None:
    code = (
        "import sys; from services.cli import main\n"
        "try: main(['lag', '--help'])\n"
        "finally: print(*(name for name in sys.modules if name.startswith('services.cli.')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.splitlines()[-1].split()) == {"services.cli.operations", "services.cli.client"}


def test_a_word_that_is_none_is_refused_with_the_nearest(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("statu") == 2
    assert 'Did you mean "status"?' in "".join(capsys.readouterr())
