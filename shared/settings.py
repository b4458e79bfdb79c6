"""All configuration of a service: one struct, read once from the environment. docs/configuration.md tells it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from shared.errors import HomeroomError

PREFIX = "HOMEROOM_"
Role = Literal["api", "projector", "relay"]
S = TypeVar("S", bound=msgspec.Struct)
_PROJECT = Path(__file__).resolve().parents[1]


class SettingsInvalid(HomeroomError):
    """The environment does not configure a service; the message names the variable."""


def described(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Field `http_port` is the variable HOMEROOM_HTTP_PORT. Passwords and keys come from files, or within the DSN."""

    service: Annotated[str, described("Name of the service; set by the service's own `__main__`.")]
    postgres: Annotated[
        str,
        described(
            "Address of this service's own database, `postgresql://user:password@host:port/database`. TLS by"
            " `?sslmode=verify-full&sslrootcert=FILE`, a password file by `?passfile=FILE`."
        ),
    ]
    kafka: Annotated[str, described("Bootstrap addresses of Kafka, `host:port`, with commas between them.")]
    kafka_security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], described("How to talk to Kafka.")
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], described("How to log in to Kafka, with SASL.")
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str | None, described("User at Kafka, with SASL.")] = None
    kafka_sasl_password_file: Annotated[Path | None, described("File that holds that user's password.")] = (
        None
    )
    kafka_ca_file: Annotated[
        Path | None, described("Certificates that sign Kafka's; the system's when unset.")
    ] = None
    kafka_cert_file: Annotated[Path | None, described("Own certificate, for mutual TLS.")] = None
    kafka_key_file: Annotated[Path | None, described("Key of that certificate.")] = None
    topic_prefix: Annotated[
        str, described("First part of every topic's name.", pattern="^[a-zA-Z0-9_-]{1,100}$")
    ] = "homeroom"
    partitions: Annotated[
        int, described("Partitions of each topic; never changes once topics exist.", ge=1, le=1000)
    ] = 12
    replication: Annotated[
        int, described("Copies of each partition: 3 in production, 1 on one machine.", ge=1, le=9)
    ] = 1
    http_host: Annotated[str, described("Address to listen on.")] = "127.0.0.1"
    http_port: Annotated[int, described("Port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8080
    issuer: Annotated[
        str,
        described(
            "Public base address of auth, without a slash at the end; part of every token.",
            pattern="^https?://.*[^/]$",
        ),
    ] = "http://127.0.0.1:8080"
    portal_url: Annotated[
        str | None,
        described(
            "Public base address of the portal, without a slash at the end: who signs in for an application is sent to"
            " its page `/<district>/sign-on` (auth)."
        ),
    ] = None
    policy_dir: Annotated[
        Path, described("Folder of the districts' policies, read again when a file changes.")
    ] = _PROJECT / "policies"
    key_dir: Annotated[
        Path, described("Folder of public keys, `<service>-<kid>.public.json`, read again when it changes.")
    ] = _PROJECT / ".homeroom" / "keys"
    signing_key_dir: Annotated[
        Path | None,
        described("Folder of this service's private keys, readable by nobody else (claims, auth)."),
    ] = None
    pepper_file: Annotated[
        Path | None,
        described(
            "Peppers of the password hashes, lines of `id:base64`: the first is current, `lasting` stays; read again"
            " when it changes (auth)."
        ),
    ] = None
    breached_passwords_file: Annotated[
        Path | None,
        described(
            "Passwords that are refused beside the built-in list: SHA-1 hashes in hexadecimal, one a line,"
            " sorted (auth)."
        ),
    ] = None
    bootstrap_client_file: Annotated[
        Path | None,
        described('`{"id", "secret"}` of the operator client made at start when it is absent (auth).'),
    ] = None
    provider_secret_dir: Annotated[
        Path | None,
        described(
            "Folder of the secrets with which districts' SIS are asked over REST, a file named as the district, and of"
            " the authorities that policies name (roster)."
        ),
    ] = None
    webhook_secret_dir: Annotated[
        Path | None,
        described(
            "Folder of the secrets with which districts' webhooks are signed, a file named as the district (auth)."
        ),
    ] = None
    roles: Annotated[
        tuple[Role, ...],
        described(
            "What this process does: `api`, `projector` (also consumers and workers), `relay`.", min_length=1
        ),
    ] = ("api", "projector", "relay")
    postgres_connections: Annotated[int, described("Most connections to the database.", ge=4, le=500)] = 20
    rebuild_processes: Annotated[
        int, described("Processes that a rebuild may take; 0: as many as there are processors.", ge=0, le=64)
    ] = 0
    drain_seconds: Annotated[
        int, described("After SIGTERM, how long running requests may still take.", ge=0, le=300)
    ] = 10
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], described("Least level that is logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "console"], described("`console` is for people at a terminal.")] = (
        "json"
    )


def from_environment(environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings from HOMEROOM_* variables; `given` fields win. Raises SettingsInvalid naming what is wrong."""
    return read_environment(Settings, environment, **given)


def read_environment(kind: type[S], environment: Mapping[str, str] | None = None, **given: Any) -> S:
    """As `from_environment`, of whatever struct has one field for each variable."""
    environment = os.environ if environment is None else environment
    raw: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if value := environment.get(PREFIX + field.name.upper(), "").strip():
            raw[field.name] = [part.strip() for part in value.split(",")] if field.name == "roles" else value
    raw |= given
    if missing := [f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in raw]:
        raise SettingsInvalid("not set: " + ", ".join(PREFIX + f.upper() for f in missing))
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(_name_variable(str(error))) from None


def unknown_variables(environment: Mapping[str, str], kind: type[msgspec.Struct] = Settings) -> list[str]:
    """HOMEROOM_* variables that mean nothing here: most likely misspelt."""
    known = {PREFIX + f.name.upper() for f in msgspec.structs.fields(kind)}
    return sorted(v for v in environment if v.startswith(PREFIX) and v not in known)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if isinstance(value, kind):
        return value
    raise NotImplementedError(kind)


def _name_variable(message: str) -> str:
    what, _, where = message.partition(" - at `$.")
    return f"{PREFIX}{where.rstrip('`').partition('[')[0].upper()}: {what}" if where else message


def table(kind: type[msgspec.Struct]) -> list[str]:
    """What can be configured, in Markdown."""
    hints = get_type_hints(kind, include_extras=True)
    lines = ["| Variable | Meaning | Values | Default |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        values, meta = get_args(hints[field.name])
        default = "required" if field.required else _default(field.default)
        lines.append(
            f"| `{PREFIX}{field.name.upper()}` | {meta.description} | {_values(values, meta)} | {default} |"
        )
    return lines


def _values(kind: Any, meta: Meta) -> str:
    if get_args(kind) and get_args(kind)[-1] is type(None):
        kind = get_args(kind)[0]
    if choices := [c for c in get_args(kind) if isinstance(c, str)]:
        return ", ".join(f"`{c}`" for c in choices)
    if kind is int:
        return f"{meta.ge} to {meta.le}"
    return {str: "text", Path: "path"}.get(kind, "any of them, with commas")


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, Path) and value.is_relative_to(_PROJECT):
        return f"`{value.relative_to(_PROJECT)}` of the project"
    return f"`{value}`"
