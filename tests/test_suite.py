"""What the suite relies on in the tools that run it."""

import subprocess
import sys
from pathlib import Path

GROUPED = """
import os, pathlib, pytest

@pytest.mark.xdist_group("one stack")
@pytest.mark.parametrize("number", range(6))
def test_of_a_group(number):
    pathlib.Path(os.environ["PYTEST_XDIST_WORKER"]).touch()
"""


def test_tests_that_share_a_stack_run_on_one_worker(tmp_path: Path) -> None:
    """Otherwise every worker starts a stack of its own, and the suite takes twice as long without a word."""
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    words = ["-q", "-n", "2", "--dist", "loadgroup", "--rootdir", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
    assert len(list(tmp_path.glob("gw*"))) == 1
