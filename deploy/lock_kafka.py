"""Resolve Apache Kafka anew and write the list of jars that `make up` fetches (`python -m deploy.lock_kafka`)."""

import hashlib
import sys
import tempfile
import tomllib
from pathlib import Path

import jgo
from jgo.maven import MavenContext

from deploy.local.kafka import JAR_LIST

VERSION = "4.1.1"
# The log's backend. Not part of what is resolved: its managed versions would drag Kafka's own back.
LOG_BACKEND = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"


def lock(version: str = VERSION) -> list[str]:
    """Lines of `sha256  group:artifact:version`, by coordinate."""
    with tempfile.TemporaryDirectory() as cache:
        environment = jgo.build(f"org.apache.kafka:kafka_2.13:{version}", cache_dir=Path(cache))
        resolved = tomllib.loads((environment.path / "jgo.lock.toml").read_text())["dependencies"]
        group, artifact, its_version = LOG_BACKEND.split(":")
        context = MavenContext(repo_cache=Path(cache) / "repository")
        backend = context.project(group, artifact).at_version(its_version).artifact().resolve()
        digest = hashlib.sha256(backend.read_bytes()).hexdigest()
    lines = [f"{jar['sha256']}  {jar['groupId']}:{jar['artifactId']}:{jar['version']}" for jar in resolved]
    return sorted([*lines, f"{digest}  {LOG_BACKEND}"], key=lambda line: line.split()[1])


if __name__ == "__main__":
    JAR_LIST.write_text("\n".join(lock(*sys.argv[1:2])) + "\n")
