"""What an operator of a district sees and does, also while a service is away."""

from typing import Any
from uuid import UUID

import pytest

from services.portal.backend import Answer
from shared.reasons import load_reasons
from tests.portal.scripted import Surfer

IMPORT = UUID("00000000-0000-4000-8000-0000000000aa")
LETTER: dict[str, Any] = {
    "id": 7, "consumer": "ingress.ccps", "key": "p1", "topic": "homeroom.enrollments.ccps.v1", "part": 0,
    "record_offset": 5, "appended_at": "2026-08-04T09:00:00+00:00", "reason": "number_malformed", "detail": "{}",
    "state": "parked", "attempts": 1, "first_at": "2026-08-04T09:00:00+00:00", "wish": None, "note": None,
    "headers": {"ce_id": "1"}, "value": "<script>alert(1)</script>",
}  # fmt: skip
FOUND: dict[str, Any] = {
    "import_id": str(IMPORT), "state": "awaiting_approval", "dry_run": False, "file_name": "export.zip", "reason": None,
    "details": {},
    "received_at": "2026-08-04T09:00:00+00:00", "as_of": "2026-08-04T09:00:00+00:00", "author_name": "sis",
    "approved_by": None, "approved_by_name": None, "mode": "bulk", "version": "1.2", "total": 700, "done": 0,
    "counts": {"withdrawn": 680, "unchanged": 20}, "problems": {}, "passed_over": {},
    "threshold": {"enrolled": 700, "withdrawn": 680, "renumbered": 0, "approval_above": 200,
                  "approval_above_percent": 5, "exceeded": True},
}  # fmt: skip
LAG = {"relay": {"pending": 0, "oldest_s": 0.0}, "consumers": []}
ONE = "/operations/dead-letters/roster/7"


@pytest.fixture
async def operator(surfer: Surfer) -> Surfer:
    surfer.signed_in("e12345")
    surfer.services.answers["POST /token"] = [
        Answer(200, {"access_token": "staff", "expires_in": 300, "scope": "desk operator"})
    ]
    return surfer


def all_is_well(services: Any) -> None:
    services.say("GET /health/ready", 200, {"ready": True, "missing": {}})
    services.say("GET /lag", 200, LAG)
    services.say("GET /dead-letters", 200, {"dead_letters": [], "next_after": None})
    services.say("GET /rebuilds", 200, {"rebuilds": []})
    services.say("GET /imports", 200, {"imports": []})


class TestTheOverview:
    async def test_all_is_well(self, operator: Surfer) -> None:
        all_is_well(operator.services)
        page = await (await operator.open("/operations")).text()
        assert "All is well" in page
        assert "Everything that was written has been read." in page

    async def test_it_comes_while_every_service_is_away(self, operator: Surfer) -> None:
        answer = await operator.open("/operations")
        page = await answer.text()
        assert answer.status == 200
        assert page.count("does not answer") == 4  # three services, and roster's imports
        assert "does not say how far it is" in page

    async def test_what_is_not_ready_says_why(self, operator: Surfer) -> None:
        operator.services.say(
            "GET /health/ready", 503, {"ready": False, "missing": {"kafka": "no broker answers"}}
        )
        all_is_well(operator.services)
        page = await (await operator.open("/operations")).text()
        assert "kafka: no broker answers" in page

    async def test_what_has_stopped_comes_first(self, operator: Surfer) -> None:
        reader = {"consumer": "admission", "lag": 4, "still_s": 90.0, "alarm": "topic_made_anew"}
        operator.services.say("GET /lag", 200, LAG | {"consumers": [reader]})
        all_is_well(operator.services)
        assert "admission of roster has stopped" in await (await operator.open("/operations")).text()

    async def test_the_help_desk_alone_may_not_look(self, operator: Surfer) -> None:
        operator.services.answers["POST /token"] = [
            Answer(200, {"access_token": "staff", "expires_in": 300, "scope": "desk"})
        ]
        assert (await operator.open("/operations")).status == 403


class TestADeadLetter:
    async def test_it_is_shown_as_text(self, operator: Surfer) -> None:
        operator.services.say("GET /dead-letters/7", 200, LETTER)
        page = await (await operator.open(ONE)).text()
        assert "&lt;script&gt;" in page
        assert "Give it up" in page

    async def test_an_event_of_ours_is_not_offered_to_be_given_up(self, operator: Surfer) -> None:
        operator.services.say("GET /dead-letters/7", 200, LETTER | {"topic": "homeroom.roster.v1"})
        page = await (await operator.open(ONE)).text()
        assert f"{ONE}/discard" not in page
        assert f"{ONE}/retry" in page

    async def test_giving_up_needs_a_reason(self, operator: Surfer) -> None:
        operator.services.say("GET /dead-letters/7", 200, LETTER)
        answer = await operator.send(f"{ONE}/discard", {"reason": " "})
        assert answer.status == 422
        assert "Say why" in await answer.text()
        assert not [asked for asked in operator.services.asked if asked.path.endswith("/discard")]

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (200, {"state": "applied"}, "It was taken this time."),
            (200, {"state": "parked"}, "still cannot be taken"),
            (202, {"state": "parked"}, "It will be tried in a moment."),
        ],
    )
    async def test_what_became_of_trying_again_is_said(
        self, operator: Surfer, status: int, body: dict[str, str], said: str
    ) -> None:
        operator.services.say("GET /dead-letters/7", 200, LETTER)
        operator.services.say("POST /dead-letters/7/retry", status, body)
        answer = await operator.send(f"{ONE}/retry")
        assert (answer.status, answer.headers["Location"]) == (303, f"/ccps{ONE}")
        assert said in await (await operator.open(ONE)).text()

    async def test_who_was_slower_is_told(self, operator: Surfer) -> None:
        operator.services.say("GET /dead-letters/7", 200, LETTER)
        operator.services.say("POST /dead-letters/7/retry", 409, {"reason": "dead_letter_settled"})
        answer = await operator.send(f"{ONE}/retry", {"key": "a\r\nb: c"})
        assert answer.status == 422
        assert "Somebody was faster" in await answer.text()

    @pytest.mark.parametrize(
        "path",
        ["kafka/7", "roster/x", "roster/%C2%B2", "roster/-1", "roster/..%2F..%2Flag", f"roster/{'9' * 19}"],
    )
    async def test_an_address_that_is_none_asks_nobody(self, operator: Surfer, path: str) -> None:
        assert (await operator.open(f"/operations/dead-letters/{path}")).status == 404
        assert not operator.services.requests("roster")


class TestAnImport:
    @pytest.mark.parametrize(
        ("language", "reason", "wanted"),
        [
            ("en", "rows_too_many", "<span>The file has more than limit rows.</span>"),
            ("es", "rows_too_many", "<span>El archivo tiene más de limit filas.</span>"),
            ("es", "of_tomorrow", '<span lang="en">Some 5 % of it.</span>'),
        ],
        ids=["in English", "in Spanish", "where no catalogue has it"],
    )
    async def test_why_it_was_refused_is_explained(
        self, operator: Surfer, language: str, reason: str, wanted: str
    ) -> None:
        operator.services.say(
            f"GET /imports/{IMPORT}",
            200,
            FOUND | {"state": "refused", "reason": reason, "details": {"problem": "<not_a_zip>"}},
        )
        known = load_reasons("services.roster").get(reason)
        meaning, following = (known.meaning, known.next) if known else ("Some 5 % of it.", "Wait.")
        operator.services.say(f"GET /problems/{reason}", 200, {"meaning": meaning, "next": following})
        await operator.open(f"/language/{language}?back=/ccps/operations")
        page = await (await operator.open(f"/operations/imports/{IMPORT}")).text()
        assert wanted in page
        assert "problem: &lt;not_a_zip&gt;" in page

    async def test_one_that_waits_can_be_let_go_on(self, operator: Surfer) -> None:
        operator.services.say(f"GET /imports/{IMPORT}", 200, FOUND)
        operator.services.say(f"POST /imports/{IMPORT}/approval", 202, FOUND)
        page = await (await operator.open(f"/operations/imports/{IMPORT}")).text()
        assert "680 are no longer here" in page
        answer = await operator.send(f"/operations/imports/{IMPORT}/approval")
        assert answer.status == 303
        assert "It goes on." in await (await operator.open(f"/operations/imports/{IMPORT}")).text()

    async def test_not_by_who_asked_for_it(self, operator: Surfer) -> None:
        operator.services.say(f"GET /imports/{IMPORT}", 200, FOUND)
        operator.services.say(f"POST /imports/{IMPORT}/approval", 403, {"reason": "approver_is_author"})
        answer = await operator.send(f"/operations/imports/{IMPORT}/approval")
        assert answer.status == 422
        assert "Somebody else has to let it go on." in await answer.text()

    async def test_long_lists_come_in_pages(self, operator: Surfer) -> None:
        rows = [
            {"n": n, "kinds": ["withdrawn"], "source_id": f"u{n}", "file": None, "line": None,
             "before": {"last_name": "Solis", "first_name": "Ana", "number": "0000001"},
             "after": {"gone": "absent"}, "reason": None}
            for n in range(500)
        ]  # fmt: skip
        operator.services.say(f"GET /imports/{IMPORT}/changes", 200, {"changes": rows, "next_after": 499})
        page = await (await operator.open(f"/operations/imports/{IMPORT}/changes")).text()
        assert "u99<" in page
        assert "Ana Solis" in page, "an id says nothing to whoever has to agree"
        assert "u100<" not in page
        assert "after=99" in page
