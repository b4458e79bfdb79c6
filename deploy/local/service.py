"""A service of Homeroom as a part of the stack: its process, and the environment that configures it."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp

from deploy.local.account import Account
from deploy.local.state import PROJECT, Files
from deploy.prepare import SIGNERS
from shared.settings import unknown_variables


@dataclass(frozen=True)
class Service:
    """`dsn` is the service's own database; `ports` are the stack's, by part."""

    name: str
    files: Files
    ports: Mapping[str, int]
    dsn: str
    kafka: str

    stop_signal: ClassVar = signal.SIGTERM
    account: ClassVar = Account()

    @property
    def port(self) -> int:
        return self.ports[self.name]

    def command(self) -> list[str | Path]:
        return [sys.executable, "-m", f"services.{self.name}"]

    def environment(self) -> dict[str, str]:
        """The caller's HOMEROOM_* settings hold (a policy folder, Kafka's security), but for what is wired here."""
        foreign = unknown_variables(os.environ)  # the stack's own settings, and those of the command line
        given = {name: value for name, value in os.environ.items() if name not in foreign}
        wired = {
            "PYTHONPATH": str(PROJECT),
            "HOMEROOM_POSTGRES": self.dsn,
            "HOMEROOM_KAFKA": self.kafka,
            "HOMEROOM_HTTP_PORT": str(self.port),
            "HOMEROOM_ISSUER": f"http://127.0.0.1:{self.ports['auth']}",
            "HOMEROOM_KEY_DIR": str(self.files.keys),
        }
        if self.name in SIGNERS:
            wired["HOMEROOM_SIGNING_KEY_DIR"] = str(self.files.signing / self.name)
        if self.name == "auth":
            wired["HOMEROOM_PEPPER_FILE"] = str(self.files.pepper)
            wired["HOMEROOM_BOOTSTRAP_CLIENT_FILE"] = str(self.files.bootstrap_client)
        return given | wired

    async def answers(self) -> bool:
        """Whether it is ready: its database is migrated, its topics are there, its roles run."""
        url = f"http://127.0.0.1:{self.port}/health/ready"
        try:
            async with aiohttp.ClientSession() as http, http.get(url, timeout=_PATIENCE) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


_PATIENCE = aiohttp.ClientTimeout(total=2)
