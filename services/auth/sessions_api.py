"""The routes of signing in and out, and of the password while signed in."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from services.auth import devices, session_checks, sessions
from services.auth.activity import sign_ins_a_minute
from services.auth.calls import (
    DISTRICT,
    PASSWORD_REFUSALS,
    UNIFORM_S,
    DeskQuery,
    Feature,
    Typed,
    Username,
    actor,
    occasion,
)
from services.auth.handlers import Auth
from services.auth.passwords import token_hash
from services.auth.session_checks import Session
from services.auth.sessions import SessionOpened
from shared.activity import Activity, ActivityQuery
from shared.auth import PUBLIC, SESSION, Authenticator, Caller, Scope
from shared.errors import Rejected
from shared.quick import Asked
from shared.web import Body, Call, Reply, Route


class SignInBody(Body, frozen=True, kw_only=True):
    username: Username
    password: Typed


class ChangeBody(Body, frozen=True, kw_only=True):
    current: Typed
    new: Typed


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    person_id: UUID
    username: str
    created_at: datetime
    expires_at: datetime
    idle_expires_at: datetime


class SessionLine(msgspec.Struct, frozen=True, kw_only=True):
    """`device_kind`: what the session was opened with, as far as its `User-Agent` said. `current`: the asker's own."""

    session_id: UUID
    current: bool
    device_kind: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class SessionsView(msgspec.Struct, frozen=True):
    sessions: list[SessionLine]


class Sessions(Feature):
    """For pupils, and for a desk that signs one out."""

    async def sign_in(self, call: Call[SignInBody]) -> Reply:
        body, tally = call.body, self.auth.tally
        come = await devices.origin(call, self.auth.hasher.peppers)
        try:
            opened = await sessions.sign_in(self.auth, occasion(call), body.username, body.password, come)
        except Rejected:
            tally.add(call.district, call.now, refused=True)
            raise
        tally.add(call.district, call.now, refused=False)
        return Reply(201, opened)

    async def show_activity(self, call: Call[None]) -> Reply:
        query = call.query
        return Reply(200, await sign_ins_a_minute(call.kit.db, call.district, query.minutes, call.now))

    async def show_session(self, call: Call[None]) -> Reply:
        return Reply(200, _view(_session(call)[0]))

    def show_at_once(self, asked: Asked) -> bytes | None:
        scheme, _, token = asked.authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        checked = session_checks.remembered(self.auth, asked.policy, token_hash(token), asked.now)
        return None if checked is None else checked.reply("session", lambda: _view(checked.session))

    async def sign_out(self, call: Call[None]) -> Reply:
        await sessions.end_session(self.auth, call.district, _session(call)[1])
        return Reply(204)

    async def list_sessions(self, call: Call[None]) -> Reply:
        found = await sessions.list_sessions(self.auth, occasion(call), _session(call)[0])
        return Reply(200, SessionsView([SessionLine(**row) for row in found]))

    async def sign_out_everywhere(self, call: Call[None]) -> Reply:
        person_id = _session(call)[0].person_id
        await sessions.end_sessions(self.auth, occasion(call), person_id, "self")
        return Reply(204)

    async def end_sessions(self, call: Call[None]) -> Reply:
        await sessions.end_sessions(self.auth, occasion(call), call.uuid("person_id"), actor(call))
        return Reply(204)

    async def change_password(self, call: Call[ChangeBody]) -> Reply:
        session, token = _session(call)
        body = call.body
        await sessions.change_password(self.auth, occasion(call), session, token, body.current, body.new)
        return Reply(204)

    def routes(self) -> list[Route]:
        wrong = {"authentication_failed": UNIFORM_S}
        return [
            Route(
                "POST", f"{DISTRICT}/sessions", self.sign_in, audit="sign_in",
                summary="Sign in with username and password.",
                caller=PUBLIC, body=SignInBody, success={201: SessionOpened},
                refusals={"authentication_failed": 401, "account_suspended": 403, "sign_in_paused": 429},
                uniform_s=wrong,
            ),
            Route(
                "GET", f"{DISTRICT}/activity", self.show_activity,
                summary="Sign-ins, and those that were refused, in each of the last minutes.",
                caller=Scope("desk", "operator"), query=ActivityQuery, success={200: Activity},
            ),
            Route(
                "GET", f"{DISTRICT}/sessions/current", self.show_session,
                summary="Whose session this is.",
                caller=SESSION, success={200: SessionView}, quick=self.show_at_once,
            ),
            Route(
                "DELETE", f"{DISTRICT}/sessions/current", self.sign_out, audit="sign_out",
                summary="Sign out.",
                caller=SESSION, success={204: None},
            ),
            Route(
                "GET", f"{DISTRICT}/sessions", self.list_sessions,
                summary="Where am I signed in.", caller=SESSION, success={200: SessionsView},
            ),
            Route(
                "DELETE", f"{DISTRICT}/sessions", self.sign_out_everywhere, audit="sign_out_everywhere",
                summary="Sign out everywhere, here too.", caller=SESSION, success={204: None},
            ),
            Route(
                "DELETE", f"{DISTRICT}/accounts/{{person_id}}/sessions", self.end_sessions, audit="sign_out_everywhere",
                summary="Sign a pupil out everywhere.",
                caller=Scope("desk"), query=DeskQuery, success={204: None}, refusals={"person_unknown": 404},
            ),
            Route(
                "PUT", f"{DISTRICT}/password", self.change_password, audit="change_password",
                summary="A new password for who is signed in; other sessions end.",
                caller=SESSION, body=ChangeBody, success={204: None},
                refusals={
                    **PASSWORD_REFUSALS,
                    "authentication_failed": 403, "account_suspended": 403, "sign_in_paused": 429,
                },
                uniform_s=wrong,
            ),
        ]  # fmt: skip


def _view(session: Session) -> SessionView:
    return msgspec.convert(session, SessionView, from_attributes=True)


def _session(call: Call[Any]) -> tuple[Session, str]:
    """The caller's session and its token."""
    assert call.caller is not None
    return call.caller.claims["session"], call.caller.claims["token"]


def session_authenticator(auth: Auth) -> Authenticator:
    """How a session's token is looked up."""

    async def authenticate(token: str, district: str, now: datetime) -> Caller:
        session = await session_checks.find_session(auth, auth.kit.policies.get(district), token, now)
        if session is None:
            raise Rejected("token_invalid")
        claims = {"session": session, "token": token}
        return Caller(str(session.person_id), "session", district, claims=claims, name=session.username)

    return authenticate
