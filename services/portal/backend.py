"""The three services, as the portal asks them. Every answer is an `Answer`: also that there was none."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import aiohttp
import msgspec
import structlog

from services.portal.settings import PortalSettings

Service = Literal["roster", "claims", "auth"]
SERVICES: tuple[Service, ...] = get_args(Service)

PATIENCE_S = 10.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PICTURES = ("image/svg+xml", "image/png")
POLICY_LIFE_S = 5.0  # how soon a changed policy shows
POLICY_PATIENCE_S = 1.0  # longer nobody waits for a new one while there is an old one
MAX_POLICIES = 1000
EARLY = timedelta(seconds=30)  # a token is not used up to its last second
MAX_STAFF_TOKENS = 10_000
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered. `body` is its JSON, {} where there was none; of a problem `reason` is the code."""

    status: int
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """ "" for a success; `unavailable` where nobody answered."""
        if self.ok:
            return ""
        said = self.body if isinstance(self.body, dict) else {}
        return str(said.get("reason") or said.get("error") or "unavailable")

    @property
    def reference(self) -> str:
        """The code under which the help desk finds the true reason; "" without one."""
        return str(self.body.get("reference", "")) if isinstance(self.body, dict) else ""

    @property
    def retry_after_s(self) -> int:
        said = self.headers.get("Retry-After", "")
        return int(said) if said.isdecimal() else 2


class Client(msgspec.Struct, frozen=True):
    """A file of HOMEROOM_PORTAL_CLIENT_DIR."""

    id: str
    secret: str


class Texts(msgspec.Struct, frozen=True):
    en: str
    es: str = ""

    def in_(self, language: str) -> str:
        """In this language, or in English where there is none."""
        return str(getattr(self, language, "") or self.en)


class Number(msgspec.Struct, frozen=True):
    digits: int
    prefix: str = ""


class PasswordBounds(msgspec.Struct, frozen=True):
    min_length: int
    max_length: int


class AnswerShape(msgspec.Struct, frozen=True):
    """How a question is answered: `kind` is month, year, choice or text."""

    kind: str
    choices: list[str] = []
    choices_es: list[str] = []
    min_length: int = 1
    max_length: int = 255
    earliest: int = 1900


class Question(msgspec.Struct, frozen=True):
    id: str
    text: Texts
    answer: AnswerShape


class Resource(msgspec.Struct, frozen=True):
    name: Texts
    url: str
    icon: str = ""
    note: Texts | None = None


class Look(msgspec.Struct, frozen=True):
    """What a district's pages look like. Colours are `#rrggbb`; `logo` says whether there is one."""

    accent: str | None = None
    accent_dark: str | None = None
    logo: str | None = None
    resources: list[Resource] = []
    help: Texts | None = None
    idle_warning_seconds: int = 120


class SessionRule(msgspec.Struct, frozen=True):
    idle_minutes: int = 60


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What claims tells everybody of a district's rules."""

    district: str
    code: str
    names: Texts
    time_zone: str
    username_prefix: str
    number: Number
    employee_number: Number
    password: PasswordBounds
    questions: list[Question]
    questions_required: int
    session: SessionRule = SessionRule()
    portal: Look = Look()


@dataclass(frozen=True, slots=True)
class Token:
    """An access token of auth's, and what may be done with it."""

    value: str
    scopes: frozenset[str]
    until: float  # by the monotonic clock


class _Given(msgspec.Struct, frozen=True):
    """What auth's token endpoint answers."""

    access_token: str
    expires_in: float
    scope: str = ""


class Backend:
    """Asks the services; keeps policies for seconds, and tokens for as long as they count."""

    def __init__(self, settings: PortalSettings, http: aiohttp.ClientSession) -> None:
        self._settings, self._http = settings, http
        # aiohttp would by itself repeat a PUT whose connection broke: a password that was changed, changed once more.
        http._retry_connection = False
        self._urls = {
            "roster": settings.roster_url,
            "claims": settings.claims_url,
            "auth": settings.auth_url,
        }
        self._policies: dict[str, tuple[float, Policy | None]] = {}
        self._policies_asked: dict[str, asyncio.Task[None]] = {}
        self._own: dict[str, Token] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._staff: dict[bytes, Token] = {}

    async def ask(
        self, service: Service, method: str, path: str, body: object = None, *, bearer: str | None = None,
        query: Mapping[str, object] | None = None, form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, basic: Client | None = None,
    ) -> Answer:  # fmt: skip
        """One request. A GET whose connection broke is asked once more; nothing else is repeated here."""
        sent = dict(headers or {})
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        elif basic is not None:
            sent["Authorization"] = aiohttp.encode_basic_auth(basic.id, basic.secret)
        params = {key: str(value) for key, value in (query or {}).items() if value is not None}
        for last in (False, True) if method == "GET" else (True,):
            try:
                async with self._http.request(
                    method, self._urls[service] + path, params=params, json=body, data=form, headers=sent,
                    allow_redirects=False,
                ) as response:  # fmt: skip
                    return _answer(response.status, await _read(response), response.headers)
            except (aiohttp.ClientError, TimeoutError) as error:
                if last:
                    log.warning("service_unreachable", asked=service, error=type(error).__name__)
        return Answer(503, {"reason": "unavailable"})

    async def picture(self, path: str) -> tuple[bytes, str] | None:
        """A picture that claims has, and its type."""
        try:
            async with self._http.get(self._urls["claims"] + path, allow_redirects=False) as response:
                if response.status == 200 and response.content_type in PICTURES:
                    return await _read(response), response.content_type
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("service_unreachable", asked="claims", error=type(error).__name__)
        return None

    async def policy(self, district: str) -> Policy | None:
        """A district's policy; None if there is no such district. Raises TimeoutError while claims is away and the
        district was never asked for; later what was heard last counts."""
        known = self._policies.get(district)
        if known and time.monotonic() < known[0]:
            return known[1]
        asking = self._policies_asked.get(district)
        if asking is None:  # one asks, the others wait for it
            asking = self._policies_asked[district] = asyncio.create_task(self._ask_policy(district))
            asking.add_done_callback(lambda _: self._policies_asked.pop(district, None))
        await asyncio.wait({asking}, timeout=POLICY_PATIENCE_S if known else None)
        if district not in self._policies:
            raise TimeoutError
        return self._policies[district][1]

    async def _ask_policy(self, district: str) -> None:
        answer = await self.ask("claims", "GET", f"/v1/districts/{district}/policy")
        policy = None
        if answer.status != 404:
            try:
                policy = msgspec.convert(answer.body if answer.ok else None, Policy)
            except msgspec.ValidationError as error:
                if answer.ok:
                    log.error("policy_unreadable", error=str(error))
                policy = self._policies.pop(district, (0.0, None))[1]
                if policy is None:
                    return
        elif len(self._policies) >= MAX_POLICIES:  # most of them of no district: somebody tries addresses
            self._policies = {name: each for name, each in self._policies.items() if each[1] is not None}
        self._policies[district] = (time.monotonic() + POLICY_LIFE_S, policy)

    async def own_token(self, district: str) -> str | None:
        """The portal's access token, with which auth believes what it says of browsers. None: auth gives none now."""
        known = self._own.get(district)
        if known and time.monotonic() < known.until:
            return known.value
        async with self._asking.setdefault(district, asyncio.Lock()):  # one asks, the others wait for it
            known = self._own.get(district)
            if known and time.monotonic() < known.until:
                return known.value
            token = await self._token(district, {"grant_type": "client_credentials"})
            if isinstance(token, Answer):
                log.error("no_client_token", reason=token.reason)
                return None
            self._own[district] = token
            return token.value

    async def staff_token(self, district: str, session: str) -> Token | Answer:
        """What somebody of the staff works with (RFC 8693); the refusal `role_missing` of whoever has no role."""
        key = hashlib.sha256(f"{district} {session}".encode()).digest()
        known = self._staff.get(key)
        if known and time.monotonic() < known.until:
            return known
        token = await self._token(
            district,
            {"grant_type": _EXCHANGE, "subject_token": session, "subject_token_type": _ACCESS_TOKEN},
        )
        if isinstance(token, Answer):
            self._staff.pop(key, None)
            return token
        if len(self._staff) >= MAX_STAFF_TOKENS:
            self._staff.clear()
        self._staff[key] = token
        return token

    async def _token(self, district: str, form: Mapping[str, str]) -> Token | Answer:
        client = self._client(district)
        if client is None:
            return Answer(503, {"reason": "unavailable"})
        answer = await self.ask("auth", "POST", f"/v1/districts/{district}/token", form=form, basic=client)
        if not answer.ok:
            return answer
        try:
            given = msgspec.convert(answer.body, _Given)
        except msgspec.ValidationError:
            return Answer(503, {"reason": "unavailable"})
        lives_s = max(given.expires_in - EARLY.total_seconds(), given.expires_in / 2)
        return Token(given.access_token, frozenset(given.scope.split()), time.monotonic() + lives_s)

    def _client(self, district: str) -> Client | None:
        """Read each time, which is once in minutes: a rotated secret counts at once."""
        try:
            content = (self._settings.portal_client_dir / f"{district}.json").read_bytes()
            return msgspec.json.decode(content, type=Client)
        except (OSError, msgspec.MsgspecError) as error:
            log.error("portal_client_unreadable", error=type(error).__name__)
            return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = await response.content.read(MAX_ANSWER_BYTES + 1)
    parts = [content]
    size = len(content)
    while content and size <= MAX_ANSWER_BYTES:
        content = await response.content.read(MAX_ANSWER_BYTES + 1)
        parts.append(content)
        size += len(content)
    if size > MAX_ANSWER_BYTES:
        raise aiohttp.ClientPayloadError("larger than any answer")
    return b"".join(parts)


def _answer(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
    """What is no object of JSON (the page of a proxy) is no service's answer."""
    try:
        body = msgspec.json.decode(content) if content else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    if isinstance(body, dict):
        return Answer(status, body, headers)
    return Answer(status if status >= 400 else 502, {"reason": "unavailable"}, headers)


def moment(said: object) -> datetime | None:
    """A moment of an answer."""
    try:
        return datetime.fromisoformat(str(said))
    except ValueError:
        return None
