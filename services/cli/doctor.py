"""`homeroom doctor`: what this machine lacks for the local stack, what is wrong with the running one, what to do."""

import os
import resource
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import msgspec

from services.cli.client import AsJson, Failed, out, show
from services.cli.stack import local_files

if TYPE_CHECKING:
    from deploy.local.backing import Choice
    from deploy.local.state import Files, Stack

MEMORY_MB, DISK_MB, OPEN_FILES = 1200, 1500, 4096
PATIENCE = aiohttp.ClientTimeout(total=3)


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; `advice` is what to do when it is not `ok`."""

    check: str
    ok: bool
    found: str
    advice: str = ""


async def doctor(*, json: AsJson = False) -> None:
    """Look for what keeps the local stack from starting or running, and say what to do. Exit status 1: something."""
    from deploy.local.backing import Choice

    files, choice = local_files(), Choice.of(os.environ)
    stack = files.read()
    findings = [*machine(files, stack), *programs(choice, files), *ports(stack)]
    findings += [finding async for finding in parts(choice, stack)]
    if json:
        show(findings, True)
    else:
        for finding in findings:
            out.print(f"{'[green]✓' if finding.ok else '[red]✗'}[/] {finding.check:<14} {finding.found}")
            if not finding.ok:
                out.print(f"  [yellow]{finding.advice}[/yellow]")
    if wrong := [finding.check for finding in findings if not finding.ok]:
        raise Failed("something_is_wrong", ", ".join(wrong))


def machine(files: "Files", stack: "Stack") -> Iterator[Finding]:
    """Python, memory, disk, limits, the state folder."""
    import psutil

    from deploy.local.state import PROJECT

    version = ".".join(map(str, sys.version_info[:3]))
    stale = _older(Path(sys.prefix) / "installed", PROJECT / "requirements.lock")
    yield Finding(
        "python", not stale, f"{version} in {sys.prefix}", "requirements.lock has changed: make venv"
    )
    memory = psutil.virtual_memory().available // 2**20
    enough = memory >= MEMORY_MB or stack.supervised()
    yield Finding(
        "memory", enough, f"{memory} MB available", f"the stack needs about {MEMORY_MB} MB: close something"
    )
    there = next(folder for folder in (files.root, *files.root.parents) if folder.exists())
    disk = shutil.disk_usage(there).free // 2**20
    yield Finding(
        "disk", disk >= DISK_MB, f"{disk} MB free at {there}", f"{DISK_MB} MB are needed: make room"
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = limit == resource.RLIM_INFINITY or limit >= OPEN_FILES
    yield Finding(
        "open files", allowed, f"at most {limit}", f"raise the hard limit to {OPEN_FILES}: ulimit -Hn"
    )
    advice = f"make {there} writable, or name another folder in HOMEROOM_STATE_DIR"
    yield Finding("state folder", os.access(there, os.W_OK), str(files.root), advice)


def _older(stamp: Path, source: Path) -> bool:
    return stamp.exists() and source.exists() and stamp.stat().st_mtime < source.stat().st_mtime


def programs(choice: "Choice", files: "Files") -> Iterator[Finding]:
    """PostgreSQL, Java and Kafka: whether what would be started can be."""
    from deploy.local import kafka
    from deploy.local.backing import NotUsable, find_java, find_postgres

    try:
        account = choice.own_account()
    except NotUsable as error:
        yield Finding("account", False, str(error), "name an account that exists")
        return
    if choice.postgres_dsn is None:
        try:
            yield Finding("postgres", True, str(find_postgres(choice, files, account)))
        except NotUsable as error:
            advice = "name a folder with bin/postgres in HOMEROOM_LOCAL_POSTGRES"
            yield Finding("postgres", False, str(error), advice)
    if choice.kafka_bootstrap is None:
        try:
            yield Finding("java", True, str(find_java(choice, files, account)))
        except NotUsable as error:
            yield Finding("java", False, str(error), "name a Java home in HOMEROOM_LOCAL_JAVA")
        jars = Path(choice.kafka) / "libs" if choice.kafka else kafka.jar_folder()
        there = any(jars.glob("kafka-clients-*.jar"))
        text = str(jars) if there else "not fetched yet: `homeroom up` does it, from the Maven registry"
        yield Finding(
            "kafka", there or not choice.kafka, text, "HOMEROOM_LOCAL_KAFKA names no Kafka distribution"
        )


def ports(stack: "Stack") -> Iterator[Finding]:
    """Ports that others have are no harm: the stack takes the next ones. Orphans' ports are the stack's own."""
    from deploy.local.processes import port_is_free
    from deploy.local.supervisor import WANTED_PORTS

    if not stack.supervised() and not stack.leftovers():
        taken = [f"{port} ({name})" for name, port in WANTED_PORTS.items() if not port_is_free(port)]
        yield Finding(
            "ports", True, f"taken by others, passed over: {', '.join(taken)}" if taken else "all free"
        )


async def parts(choice: "Choice", stack: "Stack") -> AsyncIterator[Finding]:
    """What runs, and whether it answers."""
    from deploy.local.state import told

    if choice.postgres_dsn:
        yield await _own_postgres(choice.postgres_dsn)
    if not stack.supervised():
        left = ", ".join(part.name for part in stack.leftovers())
        if left:
            yield Finding(
                "stack",
                False,
                f"its supervisor was killed, left running: {left}",
                "homeroom down, or homeroom up",
            )
        elif stack.error:
            yield Finding(
                "stack", False, f"the last start failed: {stack.error}", "see `homeroom logs supervisor`"
            )
        else:
            yield Finding("stack", True, "not running")
        return
    yield Finding("stack", True, stack.state)
    for part in map(told, stack.parts):
        found = f"{part['state']}, restarts: {part['restarts']}"
        advice = f"see why it dies: homeroom logs {part['name']}"
        yield Finding(part["name"], part["state"] == "running", found, advice)
    async with aiohttp.ClientSession(timeout=PATIENCE) as http:
        for name, url in stack.urls().items():
            yield await _readiness(http, name, url)


async def _readiness(http: aiohttp.ClientSession, name: str, url: str) -> Finding:
    try:
        async with http.get(f"{url}/health/ready") as response:
            found = (await response.text())[:300] if response.status != 200 else "ready"
            return Finding(f"{name} api", response.status == 200, found, f"homeroom logs {name}")
    except (aiohttp.ClientError, TimeoutError) as error:
        return Finding(f"{name} api", False, f"{url}: {error or 'no answer'}", f"homeroom logs {name}")


async def _own_postgres(dsn: str) -> Finding:
    try:
        connection = await asyncpg.connect(dsn, timeout=3)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return Finding(
            "postgres", False, str(error), "HOMEROOM_LOCAL_POSTGRES must be the DSN of a superuser"
        )
    try:
        may = await connection.fetchval(
            "SELECT rolcreatedb AND rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = user"
        )
        text = f"version {'.'.join(map(str, connection.get_server_version()[:2]))}"
        return Finding("postgres", bool(may), text, "its role must be allowed to make databases and roles")
    finally:
        await connection.close()
