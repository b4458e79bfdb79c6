"""What a process remembers of sessions, and that it never believes an ended one for longer than it may."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth import session_checks
from services.auth.passwords import token_hash
from services.auth.remembered import AGED_S, BELIEVED_S, ROUNDS_KEPT, Memory, Remembered
from tests.auth.conftest import PASSWORD, Pupil, World


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory[str, str]:
    memory: Memory[str, str] = Memory(3, clock)
    memory.believe(clock.now + BELIEVED_S)
    return memory


class TestAMemory:
    def test_it_finds_what_it_was_given(self, memory: Memory[str, str]) -> None:
        memory.keep("token", "mary", "session", memory.look())
        assert memory.find("token") == "session"
        assert memory.find("other") is None

    def test_nothing_counts_once_the_last_good_answer_is_too_old(
        self, memory: Memory[str, str], clock: Clock
    ) -> None:
        memory.keep("token", "mary", "session", memory.look())
        clock.now += BELIEVED_S
        assert memory.find("token") is None
        memory.believe(clock.now + BELIEVED_S)
        assert memory.find("token") == "session"

    def test_nothing_counts_that_is_older_than_half_a_minute(
        self, memory: Memory[str, str], clock: Clock
    ) -> None:
        memory.keep("token", "mary", "session", memory.look())
        clock.now += AGED_S
        memory.believe(clock.now + BELIEVED_S)
        assert memory.find("token") is None

    def test_a_person_is_forgotten_with_all_their_sessions_and_nobody_else(
        self, memory: Memory[str, str]
    ) -> None:
        for key, about in (("a", "mary"), ("b", "mary"), ("c", "li")):
            memory.keep(key, about, key, memory.look())
        memory.forget(["mary"])
        assert [memory.find(key) for key in "abc"] == [None, None, "c"]

    def test_what_was_looked_up_before_it_was_revoked_is_not_kept(self, memory: Memory[str, str]) -> None:
        looked = memory.look()
        memory.forget(["mary"])
        memory.forget([])
        memory.keep("token", "mary", "session", looked)
        assert memory.find("token") is None
        memory.keep("token", "mary", "session", memory.look())
        assert memory.find("token") == "session"

    def test_a_look_that_took_too_long_is_not_kept(self, memory: Memory[str, str]) -> None:
        looked = memory.look()
        for _ in range(ROUNDS_KEPT):
            memory.forget([])
        memory.keep("token", "mary", "session", looked)
        assert memory.find("token") is None

    def test_what_is_looked_up_while_everything_is_forgotten_is_not_kept(
        self, memory: Memory[str, str], clock: Clock
    ) -> None:
        looked = memory.look()
        memory.forget_all()
        memory.keep("token", "mary", "session", looked)
        memory.believe(clock.now + BELIEVED_S)
        assert memory.find("token") is None

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("keep"), st.sampled_from("abcdef"), st.sampled_from("xyz")),
                st.tuples(st.just("forget"), st.sampled_from("xyz"), st.just("")),
            ),
            max_size=200,
        )
    )
    def test_it_is_bounded_and_holds_nothing_of_whom_it_forgot(
        self, steps: list[tuple[str, str, str]]
    ) -> None:
        memory: Memory[str, str] = Memory(3, Clock())
        memory.believe(float("inf"))
        for step, one, other in steps:
            if step == "keep":
                memory.keep(one, other, other, memory.look())
                assert memory.find(one) == other
            else:
                memory.forget([one])
                assert one not in [memory.find(key) for key in "abcdef"]
            assert len(memory) <= 3
            assert {key for keys in memory._keys.values() for key in keys} == set(memory._kept)
            assert len(memory._forgotten) <= 3


ENDING = re.compile(
    r"(DELETE FROM|TRUNCATE|MERGE INTO) (ONLY )?(session|client)\b"
    r"|UPDATE (ONLY )?client\b"
    r"|UPDATE (ONLY )?session\b(?!( s)?\s+SET last_seen_at = [^,]*?\s(FROM|WHERE))"
)


def statements() -> dict[str, str]:
    """Every named statement of auth, in whatever file, and every migration."""
    found = {}
    for file in Path(str(files("services.auth"))).joinpath("sql").glob("*.sql"):
        parts = re.split(r"^-- name: *(\w+) *$", file.read_text(), flags=re.MULTILINE)
        found |= {file.name: parts[0]} | {
            f"{file.name}: {n}": text for n, text in zip(parts[1::2], parts[2::2], strict=True)
        }
    return found


def test_every_statement_that_ends_or_changes_a_session_or_a_client_says_so() -> None:
    changing = {name: text for name, text in statements().items() if ENDING.search(text)}
    assert {name for name, text in changing.items() if "INSERT INTO revoked" not in text} == set()
    assert {"queries.sql: end_session", "oidc.sql: change_client_of_application"} < changing.keys()
    assert len(changing) == 9


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("DELETE FROM session USING gone WHERE true", True),
        ("DELETE FROM browser_session WHERE true", False),
        ("UPDATE session SET credential_id = $3 WHERE token_hash = $2", True),
        ("UPDATE session SET last_seen_at = $2 WHERE token_hash = $1", False),
        ("UPDATE session s SET last_seen_at = used.at\nFROM unnest($1)", False),
        ("UPDATE session SET last_seen_at = $2, person_id = $3 WHERE true", True),
        ("UPDATE client c\nSET name = $1", True),
    ],
)
def test_such_a_statement_is_known(statement: str, changes: bool) -> None:
    assert bool(ENDING.search(statement)) is changes


# Against PostgreSQL: another process is another `Remembered` over the same database.


@asynccontextmanager
async def following(world: World) -> AsyncIterator[Remembered]:
    """Another process of auth, once it believes what it remembers."""
    other = Remembered()
    task = asyncio.create_task(other.follow(world.kit.db.dsn))
    try:
        while other.sessions._believed_until < 0:
            await asyncio.sleep(0.01)
        yield other
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def remembers(other: Remembered, world: World, token: str) -> None:
    """The other process is asked about a session that is good."""
    mine = world.auth.remembered
    object.__setattr__(world.auth, "remembered", other)
    try:
        assert await world.alive(token)
    finally:
        object.__setattr__(world.auth, "remembered", mine)
    assert other.sessions.find(token_hash(token)) is not None


async def forgets(other: Remembered, token: str) -> None:
    async with asyncio.timeout(2):
        while other.sessions.find(token_hash(token)) is not None:
            await asyncio.sleep(0.01)


async def signs_out(world: World, pupil: Pupil, token: str) -> None:
    await world.ask("DELETE", "/sessions/current", bearer=token)


async def signs_out_everywhere(world: World, pupil: Pupil, token: str) -> None:
    await world.ask("DELETE", "/sessions", bearer=token)


async def changes_the_password(world: World, pupil: Pupil, token: str) -> None:
    body = {"current": PASSWORD, "new": "another horse"}
    elsewhere = await world.session(pupil)
    assert (await world.ask("PUT", "/password", body, bearer=elsewhere)).status == 204


async def recovers_the_password(world: World, pupil: Pupil, token: str) -> None:
    begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
    path, ticket = f"/recoveries/{begun['recovery_id']}", begun["ticket"]
    answers = [
        {"question": q["id"], "answer": a}
        for q in begun["questions"]
        for name, a in (("birth_month", "May"), ("birth_year", "2011"), ("favorite_season", "fall"))
        if q["id"] == name
    ]
    assert (await world.ask("POST", f"{path}/answers", {"answers": answers}, bearer=ticket)).status == 200
    new = {"password": "another horse"}
    assert (await world.ask("PUT", f"{path}/password", new, bearer=ticket)).status == 204


async def is_reset(world: World, pupil: Pupil, token: str) -> None:
    await world.reset(pupil)


async def is_suspended(world: World, pupil: Pupil, token: str) -> None:
    await world.suspend(pupil)


async def is_signed_out_by_the_desk(world: World, pupil: Pupil, token: str) -> None:
    await world.desk("DELETE", f"/accounts/{pupil.person_id}/sessions")


ENDS = [
    signs_out,
    signs_out_everywhere,
    changes_the_password,
    recovers_the_password,
    is_reset,
    is_suspended,
    is_signed_out_by_the_desk,
]


class TestTwoProcesses:
    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
    async def test_whatever_ends_a_session_is_seen_by_the_other(self, world: World, end: object) -> None:
        pupil = await world.claimed()
        token = await world.session(pupil)
        async with following(world) as other:
            await remembers(other, world, token)
            await end(world, pupil, token)  # type: ignore[operator]
            assert not await world.alive(token), "here, at once"
            await forgets(other, token)

    async def test_a_session_that_goes_on_is_remembered_without_a_query(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = await world.session(await world.claimed())
        async with following(world) as other:
            object.__setattr__(world.auth, "remembered", other)
            assert await world.alive(token)
            monkeypatch.setattr(session_checks, "_asked", None)
            assert await world.alive(token)

    async def test_a_transaction_that_ends_late_is_not_passed_over(self, world: World) -> None:
        """Others that began after it ended long before: no number and no moment says which were heard."""
        pupil = await world.claimed()
        token = await world.session(pupil)
        async with following(world) as other:
            await remembers(other, world, token)
            async with world.kit.db.transaction() as conn:
                await conn.execute("INSERT INTO revoked (person_id) VALUES ($1)", pupil.person_id)
                for _ in range(2):
                    await world.fetch("INSERT INTO revoked (person_id) VALUES ($1)", uuid4())
                    asked = other.sessions._believed_until
                    while other.sessions._believed_until <= asked:
                        await asyncio.sleep(0.02)
                assert other.sessions.find(token_hash(token)) is not None
            await forgets(other, token)

    async def test_what_is_over_for_being_idle_is_asked_for_since_another_may_have_seen_it_used(
        self, world: World
    ) -> None:
        pupil = await world.claimed()
        token = await world.session(pupil)
        async with following(world) as other:
            await remembers(other, world, token)
            for _ in range(3):
                world.later(minutes=30)
                assert await world.alive(token)
                await world.auth.uses.write(world.kit.db)
            object.__setattr__(world.auth, "remembered", other)
            assert await world.alive(token)

    async def test_a_connection_that_is_lost_takes_everything_with_it(self, world: World) -> None:
        token = await world.session(await world.claimed())
        async with following(world) as other:
            await remembers(other, world, token)
            await world.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'homeroom-auth-revoked' AND datname = current_database()"
            )
            await forgets(other, token)
            assert len(other.sessions) == 0


class TestClients:
    async def test_a_secret_that_ends_counts_until_then_also_in_memory(self, world: World) -> None:
        body = {"name": "portal", "scopes": ["introspect"], "districts": ["ccps"]}
        operator = world.token("operator")
        made = (await world.ask("POST", "/v1/operations/clients", body, bearer=operator)).body
        path = f"/v1/operations/clients/{made['id']}"
        async with following(world) as other:
            object.__setattr__(world.auth, "remembered", other)
            await world.ask("POST", f"{path}/rotate", {"overlap_minutes": 60}, bearer=operator)
            assert await introspects(world, made)
            world.later(minutes=59)
            assert await introspects(world, made)
            world.later(minutes=2)
            assert not await introspects(world, made)

    async def test_the_other_process_sees_that_a_client_was_changed_or_removed(self, world: World) -> None:
        body = {"name": "portal", "scopes": ["introspect"], "districts": ["ccps"]}
        operator = world.token("operator")
        made = (await world.ask("POST", "/v1/operations/clients", body, bearer=operator)).body
        path = f"/v1/operations/clients/{made['id']}"
        changes = [
            ("PUT", path, body | {"scopes": ["desk"]}),
            ("POST", f"{path}/rotate", {}),
            ("DELETE", path, None),
        ]
        mine = world.auth.remembered
        async with following(world) as other:
            for method, url, sent in changes:
                object.__setattr__(world.auth, "remembered", other)
                await introspects(world, made)
                assert other.clients.find(made["id"]) is not None
                object.__setattr__(world.auth, "remembered", mine)
                assert (await world.ask(method, url, sent, bearer=operator)).status in (200, 204)
                async with asyncio.timeout(2):
                    while other.clients.find(made["id"]) is not None:
                        await asyncio.sleep(0.01)


async def introspects(world: World, client: dict[str, str]) -> bool:
    form = {"token": "hrs_nothing", "client_id": client["id"], "client_secret": client["secret"]}
    async with world.http.post("/v1/districts/ccps/introspect", data=form) as response:
        return response.status == 200


class TestWhereAmISignedIn:
    async def test_the_newest_first_and_which_is_here(self, world: World) -> None:
        pupil = await world.claimed()
        older = await world.session(pupil)
        world.later(minutes=5)
        here = await world.session(pupil)
        await world.session(await world.claimed("0123457"))
        answer = await world.ask("GET", "/sessions", bearer=here)
        assert answer.status == 200
        assert [line["current"] for line in answer.body["sessions"]] == [True, False]
        assert answer.body["sessions"][0].keys() == {
            "session_id", "current", "device_kind", "created_at", "last_seen_at", "expires_at",
        }  # fmt: skip
        assert len({UUID(line["session_id"]) for line in answer.body["sessions"]}) == 2
        assert here not in str(answer.body)
        assert older not in str(answer.body)

    async def test_everywhere_means_here_too_and_nobody_else(self, world: World) -> None:
        pupil = await world.claimed()
        there, here = await world.session(pupil), await world.session(pupil)
        other = await world.session(await world.claimed("0123457"))
        assert (await world.ask("DELETE", "/sessions", bearer=here)).status == 204
        assert [await world.alive(token) for token in (there, here, other)] == [False, False, True]

    async def test_what_is_idle_or_over_is_not_shown(self, world: World) -> None:
        pupil = await world.claimed()
        await world.session(pupil)
        world.later(minutes=61)
        here = await world.session(pupil)
        assert len((await world.ask("GET", "/sessions", bearer=here)).body["sessions"]) == 1
