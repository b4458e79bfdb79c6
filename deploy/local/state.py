"""What the local stack writes down: where it lies, what runs, which ports and credentials it was given."""

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import msgspec

from deploy.local.processes import ProcessRecord
from services.cli.client import SERVICES
from shared.private import write_private

PROJECT = Path(__file__).resolve().parents[2]
DISTRICT = "ccps"
PORTAL = "portal"


def state_dir() -> Path:
    """`.homeroom` in the project. Root's lies outside: the database's account must reach it, a home is closed to it."""
    if named := os.environ.get("HOMEROOM_STATE_DIR"):
        return Path(named).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/homeroom") / hashlib.sha256(str(PROJECT).encode()).hexdigest()[:12]
    return PROJECT / ".homeroom"


class PartState(msgspec.Struct):
    """One process of the stack. `state`: waiting, starting, running, backing-off, stopped."""

    name: str
    log: str
    state: str = "waiting"
    process: ProcessRecord | None = None
    restarts: int = 0
    last_exit: int | None = None


class Step(msgspec.Struct):
    """One step of starting: `seconds` once it is done, `detail` for people."""

    name: str
    detail: str = ""
    seconds: float | None = None


class Stack(msgspec.Struct, kw_only=True):
    """`stack.json`. `state`: starting, running, stopping, stopped, failed."""

    state: str = "stopped"
    supervisor: ProcessRecord | None = None
    ports: dict[str, int] = {}
    kafka: str = ""
    postgres: dict[str, Any] = {}
    parts: list[PartState] = []
    steps: list[Step] = []
    error: str | None = None
    sample: bool = False  # the sample district was published once, and is never published again

    def urls(self) -> dict[str, str]:
        """Of the services and the portal."""
        return {
            name: f"http://127.0.0.1:{self.ports[name]}" for name in (*SERVICES, PORTAL) if name in self.ports
        }

    def supervised(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    def leftovers(self) -> list[PartState]:
        """Parts that still run: without a supervisor they are orphans of one that was killed."""
        return [part for part in self.parts if part.process and part.process.alive()]


class Credentials(msgspec.Struct, kw_only=True):
    """`secrets/credentials.json`, mode 0600: made at the first start, kept until the state is forgotten."""

    postgres: str
    roles: dict[str, str]
    clients: dict[str, dict[str, str]] = {}

    @classmethod
    def new(cls) -> "Credentials":
        return cls(
            postgres=secrets.token_urlsafe(24), roles={name: secrets.token_urlsafe(24) for name in SERVICES}
        )


class Files:
    """The folder of one stack, and who may look into which part of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stack_file, self.lock = root / "stack.json", root / "lock"
        self.logs, self.copies = root / "logs", root / "runtime"
        self.postgres, self.kafka = root / "postgres/data", root / "kafka/data"
        self.secrets, self.keys, self.signing = root / "secrets", root / "keys", root / "signing"
        self.credentials_file = self.secrets / "credentials.json"
        self.pepper, self.bootstrap_client = self.secrets / "pepper", self.secrets / "bootstrap-client.json"
        self.portal = root / "portal"
        self.portal_key, self.portal_clients = self.portal / "key", self.portal / "clients"

    def make(self) -> None:
        """The folders. Others may pass through the root (the database's account must), and see no secret."""
        os.umask(0o022)  # whatever the caller's: what is private is made so by name
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        for folder in (self.logs, self.keys):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        for folder in (self.secrets, self.signing, self.portal):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)

    def read(self) -> Stack:
        """What was written last; an empty Stack when there is none, or none of this version."""
        try:
            return msgspec.json.decode(self.stack_file.read_bytes(), type=Stack)
        except (FileNotFoundError, msgspec.DecodeError):
            return Stack()

    def write(self, stack: Stack) -> None:
        write_private(self.stack_file, msgspec.json.encode(stack))

    def credentials(self) -> Credentials | None:
        if not self.credentials_file.exists():
            return None
        return msgspec.json.decode(self.credentials_file.read_bytes(), type=Credentials)

    def keep(self, credentials: Credentials) -> None:
        write_private(self.credentials_file, msgspec.json.format(msgspec.json.encode(credentials), indent=2))

    def forget(self) -> None:
        """Remove the stack's folder; only a folder that is one."""
        if self.stack_file.exists() or self.credentials_file.exists():
            shutil.rmtree(self.root)


def status(files: Files) -> dict[str, Any]:
    """What `homeroom status --json` answers; secrets are in it, so it is for the stack's owner. {}: never started."""
    if not files.stack_file.exists():
        return {}
    stack, credentials = files.read(), files.credentials()
    state, parts = stack.state, [told(part) for part in stack.parts]
    if not stack.supervised():
        state = "orphaned" if stack.leftovers() else "failed" if state == "failed" else "stopped"
    elif state == "running" and any(part["state"] != "running" for part in parts):
        state = "degraded"
    return {
        "state": state,
        "district": DISTRICT,
        "services": stack.urls() if stack.supervised() else {},
        "kafka": stack.kafka,
        "postgres": stack.postgres,
        "clients": credentials.clients if credentials else {},
        "parts": parts,
        "supervisor": stack.supervisor.pid if stack.supervisor and stack.supervised() else None,
        "state_dir": str(files.root),
    } | ({"error": stack.error} if stack.error else {})


def told(part: PartState) -> dict[str, Any]:
    """A part as it is, whatever a supervisor that hangs has written down last."""
    alive = part.process is not None and part.process.alive()
    return {
        "name": part.name,
        "pid": part.process.pid if part.process and alive else None,
        "state": part.state if alive or part.state == "backing-off" else "stopped",
        "restarts": part.restarts,
        "log": part.log,
    }
