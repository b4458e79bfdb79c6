"""A broker as docs/how-to/secure-kafka.md wants it: TLS, a login for everybody, and no right that was not given."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.local.backing import Choice, find_java
from deploy.local.kafka import Kafka, fetch_jars, jar_folder
from deploy.local.parts import Part
from deploy.local.processes import free_port
from deploy.local.state import Files
from tests.support.certificates import signed

START_PATIENCE_S = 60
FIRST_PORT = 28700
BROKER = "broker"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class SecuredKafka(Kafka):
    """`password` is the broker's own, for itself and for whoever makes the first administrator."""

    password: str = ""
    name: ClassVar = "secured-kafka"

    @property
    def key_store(self) -> Path:
        return self.data.with_name("broker.pem")

    @property
    def authority(self) -> Path:
        return self.data.with_name("ca.pem")

    def prepare(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        authority = signed("Test authority")
        broker = signed("broker", by=authority)
        self.authority.write_text(authority.pem)
        self.key_store.write_text(broker.key_pem + broker.pem)
        for file in (self.authority, self.key_store):
            file.chmod(0o644)
        super().prepare()

    def _settings(self) -> dict[str, str | int]:
        login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{BROKER}"'
        login += f' password="{self.password}" user_{BROKER}="{self.password}";'
        return super()._settings() | {
            "listeners": f"SASL_SSL://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "security.inter.broker.protocol": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.key_store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority),
            "ssl.protocol": "TLSv1.3",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            # Nobody is anonymous but the controller's own listener, which is this process talking to itself.
            "super.users": f"User:admin;User:{BROKER};User:ANONYMOUS",
        }

    async def answers(self, patience_s: float = 5.0) -> bool:
        client = AIOKafkaClient(
            bootstrap_servers=self.bootstrap, security_protocol="SASL_SSL", sasl_mechanism="PLAIN",
            sasl_plain_username=BROKER, sasl_plain_password=self.password,
            ssl_context=ssl.create_default_context(cafile=str(self.authority)),
        )  # fmt: skip
        try:
            async with asyncio.timeout(patience_s):
                await client.bootstrap()
                return bool(client.cluster.brokers())
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()


@asynccontextmanager
async def secured_kafka(folder: Path) -> AsyncIterator[SecuredKafka]:
    """Started; gone at the end. `folder` is open to the account that runs it."""
    files, choice = Files(folder), Choice()
    files.make()
    account = choice.own_account()
    jars = account.reachable(fetch_jars(jar_folder()), "complete", files.copies)
    broker = SecuredKafka(
        find_java(choice, files, account), jars, files.kafka, free_port(FIRST_PORT), free_port(FIRST_PORT + 50),
        account, secrets.token_hex(12),
    )  # fmt: skip
    broker.prepare()
    part = Part(broker, files.logs, lambda: None)
    part.start()
    try:
        await part.wait_ready(START_PATIENCE_S)
        yield broker
    finally:
        await part.stop()
