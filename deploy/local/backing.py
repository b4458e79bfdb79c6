"""Which PostgreSQL, Java and Kafka the stack uses: those of the environment's packages, or the user's own.

- `HOMEROOM_LOCAL_POSTGRES`: a folder with bin/postgres (15 or newer), or the DSN of a running server's superuser
- `HOMEROOM_LOCAL_KAFKA`: a Kafka distribution's folder, or host:port of a running broker
- `HOMEROOM_LOCAL_JAVA`: a Java home, or a java binary (17 or newer)
- `HOMEROOM_LOCAL_ACCOUNT`: the account that root hands PostgreSQL and Kafka to (`nobody`)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import kafka, postgres
from deploy.local.account import Account
from deploy.local.state import Files


class NotUsable(Exception):
    """What the configuration names cannot be used; the message says what and why."""


@dataclass(frozen=True)
class Choice:
    """What the user's configuration names; empty texts are the packaged ones."""

    postgres: str = ""
    kafka: str = ""
    java: str = ""
    account: str = "nobody"

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Choice":
        return cls(
            env.get("HOMEROOM_LOCAL_POSTGRES", ""),
            env.get("HOMEROOM_LOCAL_KAFKA", ""),
            env.get("HOMEROOM_LOCAL_JAVA", ""),
            env.get("HOMEROOM_LOCAL_ACCOUNT") or "nobody",
        )

    @property
    def postgres_dsn(self) -> str | None:
        return self.postgres if self.postgres.startswith(("postgresql://", "postgres://")) else None

    @property
    def kafka_bootstrap(self) -> str | None:
        return self.kafka if re.fullmatch(r"[^/]+:\d+", self.kafka) else None

    def own_account(self) -> Account:
        try:
            return Account.choose(self.account)
        except KeyError:
            raise NotUsable(
                f"there is no account {self.account}: name one in HOMEROOM_LOCAL_ACCOUNT"
            ) from None


def named(setting: str, folder: Path, probe: str, account: Account) -> Path:
    """The folder that a setting names, if the account can use it; it is never copied: who knows what is in it."""
    if not account.can_read(folder / probe):
        raise NotUsable(f"{setting}: {folder / probe} is missing, or closed to the account that is to run it")
    return folder


def make_postgres(choice: Choice, files: Files, port: int, password: str) -> postgres.Postgres:
    """A cluster of the stack's own, prepared. NotUsable: its binaries are not, or initdb failed."""
    account = choice.own_account()
    install = find_postgres(choice, files, account)
    try:
        made = postgres.Postgres(install, files.postgres, files.logs / "postgres", port, password, account)
        made.prepare()
    except (OSError, ValueError) as error:
        raise NotUsable(f"PostgreSQL: {error}") from error
    return made


def find_postgres(choice: Choice, files: Files, account: Account) -> Path:
    """The installation that holds bin/postgres. NotUsable: too old, or it does not run."""
    try:
        if choice.postgres:
            install = named("HOMEROOM_LOCAL_POSTGRES", Path(choice.postgres), "bin/postgres", account)
        else:
            install = account.reachable(postgres.bundled_binaries(), "bin/postgres", files.copies)
        if (found := postgres.version(install)) < postgres.MINIMUM_VERSION:
            raise NotUsable(
                f"PostgreSQL {found} in {install} is too old: {postgres.MINIMUM_VERSION} is needed"
            )
    except (OSError, ValueError) as error:
        raise NotUsable(f"PostgreSQL: {error}") from error
    return install


def find_java(choice: Choice, files: Files, account: Account) -> Path:
    """The java binary. NotUsable: too old, or it does not run."""
    try:
        if choice.java:
            java = Path(choice.java) / "bin/java" if Path(choice.java).is_dir() else Path(choice.java)
        else:
            java = account.reachable(kafka.bundled_java(), "bin/java", files.copies) / "bin/java"
        if (found := kafka.java_version(java)) < kafka.MINIMUM_JAVA:
            raise NotUsable(f"Java {found} at {java} is too old: {kafka.MINIMUM_JAVA} is needed")
    except OSError as error:
        raise NotUsable(f"Java: {error}") from error
    return java


def make_kafka(
    choice: Choice, files: Files, ports: Mapping[str, int], progress: Callable[[int, int], None]
) -> kafka.Kafka:
    """A broker of the stack's own, prepared. NotUsable: no Java, no jars, or the format failed."""
    account = choice.own_account()
    java = find_java(choice, files, account)
    try:
        if choice.kafka:
            jars = named("HOMEROOM_LOCAL_KAFKA", Path(choice.kafka), "libs", account) / "libs"
        else:
            jars = account.reachable(kafka.fetch_jars(kafka.jar_folder(), progress), "complete", files.copies)
        if not any(jars.glob("kafka*.jar")):
            raise NotUsable(f"no Kafka in {jars}")
        broker = kafka.Kafka(java, jars, files.kafka, ports["kafka"], ports["controller"], account)
        broker.prepare()
    except (OSError, kafka.JarRefused) as error:
        raise NotUsable(f"Apache Kafka: {error}") from error
    return broker
