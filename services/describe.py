"""What the services say about themselves, written down where others read it: `python -m services.describe`.

contracts/openapi/<service>.json, contracts/asyncapi.json, docs/reasons.md and docs/configuration.md come from the code
and from nothing else; a test holds them to it.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec

from services import asyncapi
from shared import settings
from shared.health import describe
from shared.life import SERVICES
from shared.openapi import refusals_of
from shared.problems import KIT_REFUSALS
from shared.reasons import Reason, load_reasons
from shared.service import ServiceSpec, all_routes, build_kit
from shared.web import Route

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Described:
    spec: ServiceSpec
    routes: Sequence[Route]


def described(service: str) -> Described:
    """A service's table of routes, the kit's among them. Nothing is connected to."""
    spec: ServiceSpec = import_module(f"services.{service}.app").SPEC
    with NamedTemporaryFile("w", suffix=".pepper") as pepper:  # auth is not made without one
        pepper.write(f"none:{b64encode(bytes(32)).decode()}\n")
        pepper.flush()
        nowhere = settings.from_environment(
            {}, service=service, postgres="postgresql:///", kafka="localhost:9092", pepper_file=pepper.name
        )
        kit = build_kit(spec, nowhere)
        return Described(spec, all_routes(kit))


def documents() -> dict[Path, str]:
    """Every generated file and what belongs in it."""
    found = {PROJECT / "docs" / "configuration.md": settings.document()}
    all_described = [described(service) for service in SERVICES]
    for each in all_described:
        content = describe(each.spec.name, each.spec.package, each.routes)
        found[PROJECT / "contracts" / "openapi" / f"{each.spec.name}.json"] = _pretty(content)
    over_kafka = asyncapi.document(each.spec.codec for each in all_described)
    found[PROJECT / "contracts" / "asyncapi.json"] = _pretty(over_kafka)
    found[PROJECT / "docs" / "reasons.md"] = _reasons(all_described)
    return found


def _pretty(content: Mapping[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _reasons(services: Sequence[Described]) -> str:
    """The catalogue of every refusal."""
    lines = [
        "# Reasons",
        "",
        "Every refusal is a problem (RFC 9457) with a stable `reason`. Build on the reason, never on the title. Texts",
        "for pupils and families belong to the front end; these are for people who build on Homeroom. Generated from",
        "the routes and `reasons.toml` of each service by `python -m services.describe`.",
    ]
    kits = load_reasons()
    everywhere = {
        reason: status for route in services[0].routes for reason, status in refusals_of(route).items()
    }
    everywhere |= KIT_REFUSALS
    lines += _table("Any route of any service", {reason: everywhere[reason] for reason in kits}, kits)
    for each in services:
        own = load_reasons(each.spec.package)
        told = {reason: status for route in each.routes for reason, status in route.refusals.items()}
        # What no route answers is what a Kafka record is set aside for; else an account of a reset.
        statuses = {reason: told.get(reason) for reason in own if reason not in kits}
        aside = "dead letter" if each.spec.has_intakes else "set aside"
        lines += _table(each.spec.name.capitalize(), statuses, own, aside)
    return "\n".join(lines) + "\n"


def _table(
    title: str, statuses: Mapping[str, int | None], reasons: Mapping[str, Reason], aside: str = ""
) -> list[str]:
    rows = [
        f"| `{reason}` | {status or aside} | {reasons[reason].meaning} | {reasons[reason].next} |"
        for reason, status in sorted(statuses.items())
    ]
    return [
        "",
        f"## {title}",
        "",
        "| Reason | Status | What happened | What to do next |",
        "|---|---|---|---|",
        *rows,
    ]


def main() -> None:
    for file, content in documents().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        print(file.relative_to(PROJECT))


if __name__ == "__main__":
    main()
