"""The one-command stack on this machine: up, down, status, logs, clean.

The work is done by `deploy.local.supervisor`, a process of its own: these commands start it, end it, and show what it
wrote down. An image carries no local stack; there these commands say so.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from signal import SIGTERM
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.status import Status

from services.cli.client import AsJson, Failed, Yes, confirm, err, out, show

if TYPE_CHECKING:
    from deploy.local.state import Files, Stack

START_PATIENCE_S, STOP_PATIENCE_S = 300.0, 90.0
POLL_S = 0.1
LOG_POLL_S, READ_AT_ONCE = 0.3, 2**20
SHOWN_OF_A_FAILED_LOG = 15
ORPHANED = "its supervisor was killed; `make up` starts it anew, `make down` ends what is left"
NEXT = (
    ("{portal}", "the portal: where pupils claim and sign in, and the help desk works"),
    ("{homeroom} demo", "the whole story of a pupil's account and a teacher's, step by step"),
    ("{homeroom} sample", "new people in every state that the portal meets, and what to type"),
    ("{homeroom} status", "what runs, where, under which ports"),
    ("{homeroom} logs claims", "follow a part's log"),
    ("make down", "stop it; make clean also forgets its data"),
)


def read_status() -> dict[str, Any]:
    """What `homeroom status --json` answers for this project's stack on this machine; {} when it never ran."""
    try:
        from deploy.local.state import status
    except ModuleNotFoundError:
        return {}
    return status(local_files())


def local_files() -> "Files":
    """The state folder of this project's stack. `no_local_stack`: there cannot be one here."""
    try:
        from deploy.local.state import Files, state_dir
    except ModuleNotFoundError:
        raise Failed(
            "no_local_stack", "the local stack is in the project's folder, not in an image"
        ) from None
    return Files(state_dir())


# ------------------------------------------------------------------ up and down


def up() -> None:
    """Start PostgreSQL, Kafka, the services and the portal with a sample district; says so when they run already."""
    files, began = local_files(), time.monotonic()
    stack = files.read()
    if stack.supervised() and stack.state == "running":
        out.print("Homeroom runs already.")
    else:
        files.make()
        if stack.supervised() and stack.state == "stopping":
            _wait_for_end(stack)
        if not files.read().supervised():
            start_supervisor(files)
        stack = _follow_start(files)
        out.print(f"Homeroom runs ({time.monotonic() - began:.1f} s).")
    for name, url in stack.urls().items():
        out.print(f"  {name:<9} {url}")
    out.print(f"  {'kafka':<9} {stack.kafka}")
    out.print("\nWhat to try next:")
    for command, why in NEXT:
        told = command.format(homeroom=own_name(), portal=stack.urls().get("portal", ""))
        out.print(f"  {told:<30} {why}")


def own_name() -> str:
    """How this command is called from here."""
    here = os.path.relpath(Path(sys.prefix) / "bin/homeroom")
    return "homeroom" if which("homeroom") == os.path.abspath(here) else here


def start_supervisor(files: "Files") -> None:
    from deploy.local.state import PROJECT
    from deploy.local.supervisor import FOLDER_TAKEN

    with (files.logs / "supervisor.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.supervisor"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives this command, and a Ctrl-C here is not meant for it
        )
    deadline = time.monotonic() + STOP_PATIENCE_S
    while not files.read().supervised():
        ended = started.poll() not in (None, FOLDER_TAKEN)  # whoever has it is about to write that down
        if ended or time.monotonic() > deadline:
            raise _start_failed(files)
        time.sleep(POLL_S)


def _follow_start(files: "Files") -> "Stack":
    """Show each step as it ends, until the stack runs. An interruption ends the watching, not the start."""
    deadline, told = time.monotonic() + START_PATIENCE_S, 0
    with Status("starting", console=out) as spinner:
        while True:
            stack = files.read()
            done = [step for step in stack.steps if step.seconds is not None]
            for step in done[told:]:
                out.print(f"  [green]✓[/green] {step.name} [dim]{step.detail} {step.seconds:.1f} s[/dim]")
            told = len(done)
            doing = [f"{step.name} {step.detail}".strip() for step in stack.steps if step.seconds is None]
            spinner.update(", ".join(doing) or "starting")
            if stack.state == "running":
                return stack
            if not stack.supervised() or time.monotonic() > deadline:
                raise _start_failed(files)
            time.sleep(POLL_S)


def _start_failed(files: "Files") -> Failed:
    why = files.read().error
    if not why:  # it ended before it could write anything down
        err.print("\n".join(last_lines(files.logs / "supervisor.log", SHOWN_OF_A_FAILED_LOG)), markup=False)
        why = "the supervisor ended"
    return Failed("start_failed", f"{why}. `{own_name()} doctor` looks for the cause; logs: {files.logs}")


def down() -> None:
    """Stop everything, keep the data. Also ends what a killed supervisor left running."""
    out.print("Homeroom is stopped." if _stop(local_files()) else "Homeroom was not running.")


def _stop(files: "Files") -> bool:
    """Whether there was anything to stop."""
    from deploy.local.supervisor import stop_leftovers

    stack = files.read()
    supervised = stack.supervised()
    if supervised and stack.supervisor:
        with Status("stopping", console=out):
            stack.supervisor.send(SIGTERM)
            _wait_for_end(stack)
        stack = files.read()
    leftovers = stack.leftovers()
    if leftovers:
        with Status("ending what an earlier supervisor left running", console=out):
            stop_leftovers(leftovers)
    return supervised or bool(leftovers)


def _wait_for_end(stack: "Stack") -> None:
    if stack.supervisor and not stack.supervisor.wait(STOP_PATIENCE_S):
        raise Failed(
            "still_stopping", f"supervisor {stack.supervisor.pid} still stops: try again, or kill it"
        )


def clean(*, yes: Yes = False) -> None:
    """Stop everything and forget all of its data, keys and credentials."""
    files = local_files()
    if not files.root.exists():
        out.print("There is nothing to forget.")
        return
    confirm(f"Forget the local stack in {files.root}, with everything in it?", yes)
    _stop(files)
    files.forget()
    out.print("Homeroom's local stack is forgotten.")


# ------------------------------------------------------------------ status and logs


def status(
    *,
    json: AsJson = False,
    shell: Annotated[
        bool, Parameter(negative="", help="Print shell variables: ROSTER, KAFKA, SIS_ID, SIS_SECRET, …")
    ] = False,
) -> None:
    """What runs: services, ports, parts. The credentials of the sample clients only with --json or --shell."""
    found = read_status()
    if json:
        show(found or {"state": "stopped", "services": {}, "parts": []}, True)
        return
    if shell:
        out.print("\n".join(_shell_variables(found)), markup=False)
        return
    if not found:
        out.print("Homeroom never ran here: make up")
        return
    told = found.get("error") or (ORPHANED if found["state"] == "orphaned" else "")
    out.print(f"[bold]{found['state']}[/bold]" + (f": {told}" if told else ""))
    for name, url in found["services"].items():
        out.print(f"  {name:<9} {url}")
    if found["services"]:
        out.print(f"  {'kafka':<9} {found['kafka']}")
        if address := found["postgres"]:  # not yet, while it starts
            out.print(f"  {'postgres':<9} {address['host']}:{address['port']}")
    out.print(f"  {'state':<9} {found['state_dir']}\n")
    for part in found["parts"]:
        pid, again = part["pid"] or "-", f"restarts: {part['restarts']}" if part["restarts"] else ""
        out.print(f"  {part['name']:<9} {part['state']:<12} {pid:<8} {part['log']}  {again}".rstrip())


def _shell_variables(found: dict[str, Any]) -> Iterator[str]:
    """Addresses and credentials of a running stack, for `eval` in a POSIX shell."""
    if not found.get("services"):
        raise Failed("not_running", "no local stack of this project is running")
    named = {name: url for name, url in found["services"].items() if url} | {"kafka": found["kafka"]}
    for client, secret in found["clients"].items():
        named |= {f"{client}_id": secret["id"], f"{client}_secret": secret["secret"]}
    for name, value in named.items():
        yield f"export {name.upper()}={shlex.quote(value)}"


def logs(
    part: str | None = None,
    *,
    lines: Annotated[int, Parameter(help="How many of the last lines to begin with.")] = 20,
    follow: Annotated[bool, Parameter(help="Go on as more is written.")] = True,
    json: AsJson = False,
) -> None:
    """Follow the log of a part (postgres, kafka, roster, claims, auth, portal, supervisor), or of all of them."""
    files = local_files()
    if not files.logs.exists():
        raise Failed("not_running", "Homeroom never ran here")
    known = {each.name: Path(each.log) for each in files.read().parts}
    known["supervisor"] = files.logs / "supervisor.log"
    if part and part not in known:
        raise Failed("part_unknown", f"there is no part {part}: {', '.join(known)}")
    chosen = {part: known[part]} if part else known
    write = (lambda name, line: line) if json else pretty
    followed = Followed(chosen)
    for name, file in chosen.items():
        for line in last_lines(file, lines):
            print(write(name, line))
    while follow:
        for name, line in followed.new_lines():
            print(write(name, line), flush=True)
        time.sleep(LOG_POLL_S)


def last_lines(file: Path, count: int) -> list[str]:
    if not file.exists() or count <= 0:
        return []
    with file.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 64 * 1024))
        return log.read().decode(errors="replace").splitlines()[-count:]


class Followed:
    """Files that others append to, from where they end now."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._ends = {
            name: (file, file.stat().st_size if file.exists() else 0) for name, file in files.items()
        }

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """Whole lines since the last call; a file that got shorter was rotated and is read from its beginning."""
        for name, (file, end) in self._ends.items():
            size = file.stat().st_size if file.exists() else 0
            end = end if size >= end else 0
            if size > end:
                with file.open("rb") as log:
                    log.seek(end)
                    whole, newline, _ = log.read(READ_AT_ONCE).rpartition(b"\n")
                end += len(whole) + len(newline)
                yield from ((name, line) for line in whole.decode(errors="replace").splitlines())
            self._ends[name] = file, end


def pretty(part: str, line: str) -> str:
    """A structured line as people read it; any other line as it is."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return f"{part:<10} {line}"
    moment = str(_take(fields, "time", "timestamp"))
    level = str(_take(fields, "level", "error_severity")).lower()
    event = _take(fields, "event", "message")
    rest = " ".join(
        f"{key}={value}"
        for key, value in fields.items()
        if key not in ("service", "logger") and value not in (None, "")
    )
    return f"{moment[:19].replace('T', ' ')} {part:<10} {level:<8} {event}  {rest}".rstrip()


def _take(fields: dict[str, Any], *names: str) -> Any:
    found: Sequence[Any] = [fields.pop(name) for name in names if name in fields]
    return found[0] if found else ""
