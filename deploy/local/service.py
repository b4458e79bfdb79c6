"""The services of Homeroom and its portal as parts of the stack: their processes, and the environment of each."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import msgspec

from deploy.local.account import Account
from deploy.local.state import DISTRICT, PORTAL, PROJECT, Files
from deploy.prepare import SIGNERS
from services.cli.client import SERVICES
from services.portal.settings import PortalSettings
from shared.settings import Settings, unknown_variables

_PATIENCE = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True)
class Process:
    """What services and portal have in common. `ports` are the stack's, by part."""

    name: str
    files: Files
    ports: Mapping[str, int]

    stop_signal: ClassVar = signal.SIGTERM
    account: ClassVar = Account()

    @property
    def port(self) -> int:
        return self.ports[self.name]

    def command(self) -> list[str | Path]:
        return [sys.executable, "-m", f"services.{self.name}"]

    async def answers(self) -> bool:
        """Whether it is ready: its database is migrated, its topics are there, its roles run; whom it asks answer."""
        url = f"{self._url(self.name)}/health/ready"
        try:
            async with aiohttp.ClientSession() as http, http.get(url, timeout=_PATIENCE) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def _public(self) -> dict[str, str]:
        """Where browsers find the portal: at home, or where the caller says."""
        return {"HOMEROOM_PORTAL_URL": os.environ.get("HOMEROOM_PORTAL_URL") or self._url(PORTAL)}

    def _given(self, kind: type[msgspec.Struct]) -> dict[str, str]:
        """The caller's HOMEROOM_* settings hold (a policy folder, Kafka's security), but for what is wired here."""
        foreign = unknown_variables(
            os.environ, kind
        )  # the stack's own settings, and those of the command line
        given = {name: value for name, value in os.environ.items() if name not in foreign}
        return given | {"PYTHONPATH": str(PROJECT), "HOMEROOM_HTTP_PORT": str(self.port)}


@dataclass(frozen=True)
class Service(Process):
    """`dsn` is the service's own database."""

    dsn: str
    kafka: str

    def environment(self) -> dict[str, str]:
        wired = {
            "HOMEROOM_POSTGRES": self.dsn,
            "HOMEROOM_KAFKA": self.kafka,
            "HOMEROOM_ISSUER": self._url("auth"),
            "HOMEROOM_KEY_DIR": str(self.files.keys),
        }
        if self.name in SIGNERS:
            wired["HOMEROOM_SIGNING_KEY_DIR"] = str(self.files.signing / self.name)
        if self.name == "auth":
            wired["HOMEROOM_PEPPER_FILE"] = str(self.files.pepper)
            wired["HOMEROOM_BOOTSTRAP_CLIENT_FILE"] = str(self.files.bootstrap_client)
            wired |= self._public()
        return self._given(Settings) | wired


@dataclass(frozen=True)
class Portal(Process):
    """The portal, which asks the services over HTTP alone. Its `/` leads to the sample district."""

    def environment(self) -> dict[str, str]:
        asked = {f"HOMEROOM_{name.upper()}_URL": self._url(name) for name in SERVICES}
        wired = {
            "HOMEROOM_PORTAL_KEY_FILE": str(self.files.portal_key),
            "HOMEROOM_PORTAL_CLIENT_DIR": str(self.files.portal_clients),
            "HOMEROOM_DISTRICT": DISTRICT,
        }
        return self._given(PortalSettings) | self._public() | asked | wired
