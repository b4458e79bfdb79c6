"""docs/security.md: its table has every requirement of ASVS 5.0 at levels 1 and 2 once, and names tests that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs/security.md").read_text()
# How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has; they are numbered from 1 without gaps.
SECTIONS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4,
    "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4,
    "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4,
    "17.3": 2,
}  # fmt: skip
ANSWERS = re.compile(r"(yes|in part|\*\*not\*\*|elsewhere|none)\b|\*\*")


def rows() -> list[list[str]]:
    [table] = [part for part in PAGE.split("\n## ") if part.startswith("OWASP ASVS")]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def requirements(text: str) -> Iterator[str]:
    """Those that a cell names: `6.2.1`, `10.5.1–10.5.5`."""
    for first, last in re.findall(r"(\d+\.\d+\.\d+)(?:–(\d+\.\d+\.\d+))?", text):
        section, _, start = first.rpartition(".")
        end = last.rpartition(".")[2] if last else start
        assert not last or last.rpartition(".")[0] == section
        yield from (f"{section}.{n}" for n in range(int(start), int(end) + 1))


def test_every_requirement_is_answered_once() -> None:
    named = [one for row in rows() for one in requirements(row[0] if row[0][0].isdigit() else row[1])]
    assert sorted(named) == sorted(
        f"{name}.{n + 1}" for name, count in SECTIONS.items() for n in range(count)
    )
    assert [row for row in rows() if len(row) != 3 or not ANSWERS.match(row[1])] == []


def test_every_test_that_it_names_exists() -> None:
    missing = []
    for cell in (row[2] for row in rows()):
        for part in re.split(r"(?<!\S)(?=[\w/]+\.py)", cell):
            if file := re.match(r"[\w/]+\.py", part):
                defined = definitions(PROJECT / "tests" / file[0])
                missing += [
                    f"{file[0]} {name}" for name in re.findall(r"`(\w+)`", part) if name not in defined
                ]
    assert missing == []


def definitions(file: Path) -> set[str]:
    """The names of a file's tests, and of its classes of tests; none where there is no such file."""
    kinds = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}
