"""The events' schemas: they agree with the code, consumers can read them, and what is committed is never broken."""

import importlib
import pkgutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

import services
from services.auth.audit_topic import RequestAnswered
from services.roster import ingress
from shared.messages import Event, EventCodec
from tests.contracts.shapes import (
    Shape,
    broken_for_readers,
    broken_for_writers,
    shape,
    shape_of,
    unheard,
    unread,
)

PROJECT = Path(__file__).parents[2]
EVENTS = PROJECT / "contracts" / "events"
INGRESS = PROJECT / "contracts" / "ingress"
AUDIT = PROJECT / "contracts" / "audit"
FILES = [*sorted(EVENTS.glob("*/*.json")), *sorted(INGRESS.glob("*.json")), *sorted(AUDIT.glob("*.json"))]


def read(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return schema


def codecs() -> Iterator[tuple[str, EventCodec]]:
    """Every codec of every service, with the name of the service whose code holds it."""
    seen = set()
    for found in pkgutil.walk_packages(services.__path__, "services."):
        if found.name.endswith("__main__"):
            continue
        for codec in vars(importlib.import_module(found.name)).values():
            if isinstance(codec, EventCodec) and (found.name.split(".")[1], id(codec)) not in seen:
                seen.add((found.name.split(".")[1], id(codec)))
                yield found.name.split(".")[1], codec


OWN = [(c.service, t) for holder, c in codecs() if holder == c.service for t in c.types.values()]
FOREIGN = [(holder, c.service, t) for holder, c in codecs() if holder != c.service for t in c.types.values()]


def git(*arguments: str) -> str:
    """What git answers; nothing outside a repository."""
    return subprocess.run(
        ["git", *arguments], cwd=PROJECT, capture_output=True, check=False, text=True
    ).stdout


def committed(path: Path) -> list[Shape]:
    """The schema as it was committed first, and last: what others may have built on."""
    name = path.relative_to(PROJECT).as_posix()
    commits = git("log", "--format=%H", "--diff-filter=AM", "--", name).split()
    return [
        shape(msgspec.json.decode(git("show", f"{c}:{name}")))
        for c in dict.fromkeys(commits[:1] + commits[-1:])
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_contract_is_a_schema_that_says_what_it_is(path: Path) -> None:
    """Valid JSON Schema, named as CloudEvents' `dataschema` names it, every property described."""
    schema = read(path)
    Draft202012Validator.check_schema(schema)
    name, version = path.stem.split(".v")
    assert schema["$id"] == f"/schemas/{path.parent.name}/{name}/{version}"
    assert schema["description"]
    assert [n for n, p in schema["properties"].items() if not p.get("description")] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_committed_contract_is_broken(path: Path) -> None:
    """A change that others would notice is a new version beside the old one."""
    broken = broken_for_writers if path.is_relative_to(INGRESS) else broken_for_readers
    assert [broken(old, shape(read(path))) for old in committed(path) if broken(old, shape(read(path)))] == []


def test_no_committed_contract_disappears() -> None:
    folders = (f"contracts/{name}" for name in ("events", "ingress", "audit"))
    names = git("ls-tree", "-r", "--name-only", "HEAD", *folders).split()
    assert [name for name in names if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize(("service", "event"), OWN, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_an_event_is_as_its_contract_says(service: str, event: type[Event]) -> None:
    path = EVENTS / service / f"{event.__name__}.v{event.SCHEMA}.json"
    assert shape_of(event) == shape(read(path))


def test_every_contract_is_an_event_of_the_code() -> None:
    """Older versions stay, for what was recorded in them; the newest is the code's."""
    told = {f"{service}/{event.__name__}" for service, event in OWN}
    assert {f"{p.parent.name}/{p.stem.split('.v')[0]}" for p in EVENTS.glob("*/*.json")} == told


@pytest.mark.parametrize("path", sorted(INGRESS.glob("*.json")), ids=lambda path: path.stem)
def test_roster_reads_what_the_ingress_contract_promises(path: Path) -> None:
    name = path.stem.split(".v")[0]
    assert shape_of(ingress.TYPES[name]) == shape(read(path))


def test_every_ingress_type_has_a_contract() -> None:
    assert {path.stem.split(".v")[0] for path in INGRESS.glob("*.json")} == set(ingress.TYPES)


def test_a_line_of_the_audit_is_as_its_contract_says() -> None:
    [path] = AUDIT.glob("*.json")
    assert path.stem == f"{RequestAnswered.__name__}.v{RequestAnswered.SCHEMA}"
    assert shape_of(RequestAnswered) == shape(read(path))


@pytest.mark.parametrize(
    ("reader", "service", "event"), FOREIGN, ids=lambda x: x if isinstance(x, str) else x.__name__
)
def test_a_consumer_can_read_what_another_service_tells(
    reader: str, service: str, event: type[Event]
) -> None:
    """Its own struct, of the fields that it needs, against the producer's contract."""
    written = shape(read(EVENTS / service / f"{event.__name__}.v{event.SCHEMA}.json"))
    assert [*unread(shape_of(event), written), *unheard(shape_of(event), written)] == []


# --- The comparison itself: what it must notice, in every schema there is


def changes(old: Shape) -> Iterator[tuple[str, Shape]]:
    """A shape with one thing about one property broken."""
    for name, part in old.properties.items():
        others = {key: value for key, value in old.properties.items() if key != name}
        rest = {"properties": others, "required": old.required - {name}}
        yield f"{name} removed", msgspec.structs.replace(old, **rest)
        renamed = {"properties": {**others, f"{name}_new": part}, "required": old.required - {name}}
        yield f"{name} renamed", msgspec.structs.replace(old, **renamed)
        other = "integer" if "array" in part.types else "array"
        retyped = msgspec.structs.replace(part, types=frozenset({other}), enum=None, format=None)
        yield f"{name} of another type", msgspec.structs.replace(old, properties={**others, name: retyped})
        for what, inner in changes(part):
            yield f"{name}: {what}", msgspec.structs.replace(old, properties={**others, name: inner})


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_breaking_change_is_noticed(path: Path) -> None:
    old = shape(read(path))
    for what, new in changes(old):
        assert broken_for_readers(old, new), what
        assert broken_for_writers(old, new), what


TEXT, MAYBE = Shape(frozenset({"string"})), Shape(frozenset({"string", "null"}))
FEW, MORE = (Shape(frozenset({"string"}), enum=frozenset(words.split())) for words in ("a b", "a b c"))


def record(required: str = "", **properties: Shape) -> Shape:
    return Shape(frozenset({"object"}), properties=properties, required=frozenset(required.split()))


@pytest.mark.parametrize(
    ("old", "new", "breaks_readers", "breaks_writers"),
    [
        pytest.param(record("a", a=TEXT), record("a", a=TEXT, b=TEXT), False, False, id="optional, added"),
        pytest.param(record("a", a=TEXT), record("a b", a=TEXT, b=TEXT), False, True, id="required, added"),
        pytest.param(record("a", a=TEXT), record("", a=TEXT), True, False, id="no longer required"),
        pytest.param(record("a", a=TEXT), record("a", a=MAYBE), True, False, id="may be null now"),
        pytest.param(record("a", a=MAYBE), record("a", a=TEXT), False, True, id="never null any more"),
        pytest.param(record("a", a=FEW), record("a", a=MORE), True, False, id="one more choice"),
        pytest.param(record("a", a=MORE), record("a", a=FEW), False, True, id="one choice less"),
    ],
)
def test_readers_and_writers_are_broken_by_different_changes(
    old: Shape, new: Shape, breaks_readers: bool, breaks_writers: bool
) -> None:
    assert bool(broken_for_readers(old, new)) is breaks_readers
    assert bool(broken_for_writers(old, new)) is breaks_writers


def test_the_comparison_reads_what_msgspec_writes() -> None:
    class Inner(msgspec.Struct):
        word: str

    class Outer(msgspec.Struct):
        inner: Inner
        maybe: str | None = None
        many: list[Inner] = []

    inner = record("word", word=TEXT)
    assert shape_of(Outer) == record(
        "inner", inner=inner, maybe=MAYBE, many=Shape(frozenset({"array"}), items=inner)
    )


def test_the_codes_are_found() -> None:
    assert {service for service, _ in OWN} == {"roster", "claims", "auth"}
