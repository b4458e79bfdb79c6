"""The direction of imports: `__main__ → app → api | consumer → handlers → projections → decider → events`.

Anything may import `shared`; `shared` imports no service; no service imports another; rules do no I/O. The portal asks
the services over HTTP and imports none: a district can throw it away, and whoever writes another finds nothing missing.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SERVICES = ("roster", "claims", "auth")
# From the innermost room to the outermost: each may import what stands before it. Rooms that are not named here
# (passwords, batches, …) may be imported by all from handlers on, and import none from the routes on. The routes of one
# feature (recovery_api) stand before the table of all.
ORDER = {
    "events": 0,
    "decider": 1,
    "projections": 2,
    "handlers": 3,
    "api": 5,
    "consumer": 5,
    "app": 6,
    "__main__": 7,
}
FEATURE, UNNAMED = 4, -1
# What a rule may know: facts, refusals, policy, and the pure parts of the standard library.
PURE = {"shared.messages", "shared.errors", "shared.policy", "shared.text", "shared"}
# What the portal takes of the kit: nothing that knows of stores, events or policies.
PORTAL = {
    "clock",
    "colors",
    "errors",
    "key_file",
    "log",
    "metrics",
    "problems",
    "reading",
    "server",
    "settings",
    "text",
}
STORES = {"asyncpg", "aiokafka"}
PURE_LIBRARY = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "re",
    "typing",
    "unicodedata",
    "uuid",
}


def modules(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; for `from a import b`, both `a` and `a.b`.

    What only a type checker reads is no import.
    """
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where they point"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(room: str, otherwise: int) -> int:
    return ORDER.get(room, FEATURE if room.endswith("_api") else otherwise)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def relative(file: Path) -> str:
    return str(file.relative_to(PROJECT))


@pytest.mark.parametrize("file", modules("shared"), ids=relative)
def test_the_kit_imports_no_service(file: Path) -> None:
    assert not [name for name in imports(file) if within(name, "services") or within(name, "deploy")]


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_imports_another(service: str) -> None:
    strange = [
        (relative(file), name)
        for file in modules(f"services/{service}")
        for name in imports(file)
        if within(name, "services") and not within(name, f"services.{service}") and name != "services"
    ]
    assert not strange


@pytest.mark.parametrize("file", modules("services/portal"), ids=relative)
def test_the_portal_knows_the_services_by_their_addresses_alone(file: Path) -> None:
    for name in imports(file):
        root, _, rest = name.partition(".")
        assert root not in STORES, name
        assert root not in ("services", "deploy") or name == "services" or within(name, "services.portal"), (
            name
        )
        assert root != "shared" or not rest or rest.split(".")[0] in PORTAL, name


@pytest.mark.parametrize(
    "file", [f for s in (*SERVICES, "portal") for f in modules(f"services/{s}")], ids=relative
)
def test_nothing_imports_a_room_further_out(file: Path) -> None:
    bound = place(file.stem, FEATURE)
    package = ".".join(file.parent.relative_to(PROJECT).parts)
    for name in imports(file):
        room = name.removeprefix(f"{package}.").split(".")[0] if within(name, package) else ""
        assert place(room, UNNAMED) < bound, f"{relative(file)} imports {name}"


@pytest.mark.parametrize(
    ("service", "room"),
    [
        *((service, room) for service in SERVICES for room in ("decider", "events")),
        ("auth", "oidc_rules"),
        ("auth", "saml_rules"),
    ],
)
def test_rules_and_facts_do_no_input_or_output(service: str, room: str) -> None:
    file = PROJECT / "services" / service / f"{room}.py"
    for name in imports(file):
        root = name.split(".")[0]
        if root in ("services", "shared"):
            module = (
                name
                if (PROJECT / f"{name.replace('.', '/')}.py").exists()
                else name.rpartition(".")[0] or name
            )
            assert module in PURE | {f"services.{service}", f"services.{service}.events"}, (
                f"{relative(file)}: {module}"
            )
        else:
            assert root in PURE_LIBRARY, f"{relative(file)} imports {name}"


def test_rules_never_look_at_a_clock() -> None:
    for service in SERVICES:
        for room in ("decider", "events", "projections"):
            file = PROJECT / "services" / service / f"{room}.py"
            text = file.read_text()
            assert "shared import clock" not in text, relative(file)
            assert "shared.clock" not in text, relative(file)


@pytest.mark.parametrize("file", [*modules("shared"), *modules("services/roster")], ids=relative)
def test_only_the_clock_reads_the_clock(file: Path) -> None:
    if file.name != "clock.py":
        assert "datetime.now(" not in file.read_text()
