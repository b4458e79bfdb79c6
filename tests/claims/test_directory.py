"""Whom the help desk finds, who has not claimed yet, and how many claim by the minute."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from services.claims import directory
from services.claims.projections import Assigned, ClassesChanged, StudentWithdrawn
from shared import clock
from shared.errors import Rejected
from tests.claims.conftest import World
from tests.claims.given import CCPS


async def ask(world: World, route: str = "directory", **query: Any) -> Any:
    status, body = await world.desk("GET", f"/{route}?{urlencode(query)}")
    assert status == 200, body
    return body


async def names(world: World, search: str | None = None, **query: Any) -> list[str]:
    sought = query if search is None else {"search": search, **query}
    return [f"{each['first_name']} {each['last_name']}" for each in (await ask(world, **sought))["persons"]]


@pytest.fixture
async def town(world: World) -> World:
    await world.enroll("0123456", "O'Neil", "Mary-Ann", school="Kemp Primary", grade="05")
    await world.enroll("0123457", "De La Cruz", "José", school="Kemp Primary", grade="05")
    await world.enroll("0200001", "Núñez-Soto", "Ana", school="Adamson Middle", grade="07")
    await world.enroll("0200002", "Nguyễn", "A", school="Adamson Middle", grade="07")
    await world.employ("e12345", "Okafor", "Grace", school="Adamson Middle")
    return world


class TestFinding:
    @pytest.mark.parametrize(
        ("typed", "found"),
        [
            ("neil", "Mary-Ann O'Neil"),
            ("ONEIL", "Mary-Ann O'Neil"),
            ("o’neil mary", "Mary-Ann O'Neil"),
            ("ann", "Mary-Ann O'Neil"),
            ("maryann", "Mary-Ann O'Neil"),
            ("cruz", "José De La Cruz"),
            ("jose de la", "José De La Cruz"),
            ("nunez", "Ana Núñez-Soto"),
            ("Soto, Ana", "Ana Núñez-Soto"),
            ("nguyen a", "A Nguyễn"),
            ("0123457", "José De La Cruz"),
            ("S0123457", "José De La Cruz"),
            ("s020000 nunez", "Ana Núñez-Soto"),
            ("e12345", "Grace Okafor"),
            ("oka", "Grace Okafor"),
        ],
    )
    async def test_by_the_beginnings_of_names_and_numbers(self, town: World, typed: str, found: str) -> None:
        assert await names(town, typed) == [found]

    async def test_letters_with_a_stroke_are_found_by_those_that_they_resemble(self, world: World) -> None:
        await world.enroll("0123456", "Đặng", "Łukasz")
        for typed in ("dang lukasz", "đặng", "ŁUKAS"):
            assert await names(world, typed) == ["Łukasz Đặng"]

    @pytest.mark.parametrize("typed", ["eil", "neil ana", "123456", "zz", "')) -- ab", "a & !b", "\\' xy"])
    async def test_nobody_by_anything_else(self, town: World, typed: str) -> None:
        """What looks like a query is words."""
        assert await names(town, typed) == []

    async def test_of_a_school_a_grade_claimed_or_not(self, town: World) -> None:
        await town.claimed("0300000", "Nova", "Zoë", school="Adamson Middle", grade="08")
        assert len(await names(town, school="Adamson Middle")) == 4
        assert await names(town, "ne", school="Kemp Primary", grade="05") == ["Mary-Ann O'Neil"]
        assert await names(town, school="Adamson Middle", claimed="true") == ["Zoë Nova"]
        assert await names(town, grade="08", claimed="false") == []

    async def test_page_by_page_in_the_order_of_names(self, town: World) -> None:
        first = await ask(town, school="Adamson Middle", limit=2)
        assert [each["last_name"] for each in first["persons"]] == ["Nguyễn", "Núñez-Soto"]
        rest = await ask(town, school="Adamson Middle", limit=2, after=first["next_after"])
        assert [each["username"] for each in rest["persons"]] == ["e12345"]
        assert rest["next_after"] is None

    async def test_the_order_is_that_of_the_alphabet_whatever_the_marks(self, world: World) -> None:
        """Of names that read the same the one without marks is first; a page ends between them as anywhere."""
        in_order = [
            "Abel",
            "de la Cruz",
            "De Leon",
            "Đinh",
            "Dunn",
            "Ó Briain",
            "O'Brian",
            "Obrian",
            "Ünal",
            "Wu",
        ]
        for n, name in enumerate(sorted(in_order, key=lambda name: name[::-1])):
            await world.enroll(f"01000{n:02}", name, "A", school="Kemp Primary")
        found: list[str] = []
        after = None
        while True:
            page = await ask(world, school="Kemp Primary", limit=3, **({"after": after} if after else {}))
            found += [each["last_name"] for each in page["persons"]]
            if not (after := page["next_after"]):
                break
        assert found == in_order

    async def test_how_the_account_stands(self, world: World) -> None:
        person_id = await world.claimed()
        await world.desk("PUT", f"/accounts/{person_id}/suspension", json={})
        await world.withdraw(person_id)
        [seen] = (await ask(world, search="0123456"))["persons"]
        assert (seen["claimed"], seen["suspended"], seen["enrolled"]) == (True, True, False)
        assert (seen["username"], seen["person_id"]) == ("S0123456", str(person_id))

    @pytest.mark.parametrize(
        ("query", "reason"),
        [("", "search_missing"), ("?search=n", "search_short"), ("?search=--", "search_short")],
    )
    async def test_too_little_is_refused(self, world: World, query: str, reason: str) -> None:
        status, refusal = await world.desk("GET", f"/directory{query}")
        assert (status, refusal["reason"]) == (422, reason)

    def test_a_username_is_looked_for_by_its_number(self) -> None:
        assert directory.read_search(" S0123  smith ", CCPS) == ["0123", "smith"]
        with pytest.raises(Rejected, match="search_short"):
            directory.read_search("-", CCPS)


class TestWhoHasNotClaimed:
    async def test_by_school_and_grade(self, town: World) -> None:
        await town.claimed("0300000", "Nova", "Zoë", school="Adamson Middle", grade="08")
        await town.enroll("0300001", "New", "Al", school="Adamson Middle", grade="08", hours_ago=1)
        await town.roster(
            await town.enroll("0300002", "Gone", "Al", school="Adamson Middle"), StudentWithdrawn()
        )
        waived = await town.enroll("0300003", "Early", "Al", school="Adamson Middle", grade="08", hours_ago=1)
        await town.desk("PUT", f"/accounts/{waived}/waiver", json={})
        figures = (await ask(town, "unclaimed"))["figures"]
        assert figures == [
            {"school": "Adamson Middle", "persons": 5, "claimed": 1, "unclaimed": 4, "waiting": 1},
            {"school": "Kemp Primary", "persons": 2, "claimed": 0, "unclaimed": 2, "waiting": 0},
        ]
        figures = (await ask(town, "unclaimed", by="grade", school="Adamson Middle"))["figures"]
        assert [(each["grade"], each["unclaimed"]) for each in figures] == [("07", 2), ("08", 2)]

    async def test_by_class_of_a_school_as_it_is_today(self, town: World) -> None:
        today = clock.now().astimezone(CCPS.zone).date()
        ana, nguyen = [UUID(each["person_id"]) for each in (await ask(town, search="02000"))["persons"]][::-1]
        for who, days in ((ana, -1), (nguyen, 1)):
            begins = today + timedelta(days=days)
            told = Assigned("c-7", "student", "Homeroom 7", begins_on=begins)
            await town.roster(who, ClassesChanged(assigned=[told, Assigned("c-t", "teacher")]))
        query = {"by": "class", "school": "Adamson Middle"}
        [figure] = (await ask(town, "unclaimed", **query))["figures"]
        assert figure == {
            "class_id": "c-7", "title": "Homeroom 7", "persons": 1, "claimed": 0, "unclaimed": 1, "waiting": 0,
        }  # fmt: skip
        assert await names(town, class_id="c-7", claimed="false") == ["A Nguyễn", "Ana Núñez-Soto"]
        await town.roster(ana, ClassesChanged(unassigned=["c-7"]))
        assert (await ask(town, "unclaimed", **query))["figures"] == []

    async def test_classes_are_those_of_a_school(self, world: World) -> None:
        status, refusal = await world.desk("GET", "/unclaimed?by=class")
        assert (status, refusal["reason"]) == (422, "school_missing")


async def test_how_many_claim_minute_by_minute(world: World) -> None:
    await world.claimed()
    await world.claim(last="Nobody")
    minutes = (await ask(world, "activity", minutes=3))["minutes"]
    assert len(minutes) == 3
    assert sum(minute["done"] for minute in minutes) == 1
    assert sum(minute["refused"] for minute in minutes) == 1
    await world.fetch("UPDATE event SET occurred_at = occurred_at - interval '1 hour'")
    assert sum(minute["done"] for minute in (await ask(world, "activity", minutes=3))["minutes"]) == 0
    assert sum(minute["done"] for minute in (await ask(world, "activity", minutes=90))["minutes"]) == 1
    assert (await world.desk("GET", "/activity?minutes=1441"))[0] == 422


@pytest.mark.parametrize("route", ["directory?school=x", "unclaimed", "activity"])
async def test_only_for_the_desk_and_operators(world: World, route: str) -> None:
    for scope, status in (("desk", 200), ("operator", 200), ("roster:write", 403)):
        assert (await world.desk("GET", f"/{route}", scope=scope))[0] == status
