"""The help desk's pages, before services that answer what a test says."""

import csv
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import services.auth.events
import services.claims.events
import services.roster.events
from services.portal.backend import Answer
from services.portal.desk import history, words
from services.portal.desk.acts import ACTS
from services.portal.desk.tickets import PASTED_LIMIT_BYTES
from shared.event_store import Event
from tests.portal.scripted import Surfer

PUPIL = "00000000-0000-4000-8000-00000000000a"
BATCH = "00000000-0000-4000-8000-00000000000b"
PAGE, KEY = f"/desk/people/{PUPIL}", "00000000-0000-4000-8000-00000000000c"
ACCOUNT: dict[str, Any] = {
    "person_id": PUPIL, "kind": "student", "username": "S0123456", "number": "0123456", "last_name": "O'Neil",
    "first_name": "<script>alert(1)</script>", "school": None, "grade": None, "enrolled": True, "claimed": True,
    "claimed_at": "2026-08-03T13:14:00Z", "generation": 0, "reset_at": None, "baseline": False, "basis": None,
    "eligible_at": "2026-08-02T13:14:00Z", "may_claim_now": False, "waiver": None, "suspended": False,
    "suspensions": [], "open_until": None, "enrollments": [], "same_number": [], "merged_into": None,
    "parked": None, "claim_needs_code": False, "claims": [], "resets": [], "refusals": [],
}  # fmt: skip
UNCLAIMED = {"claimed": False, "claimed_at": None}
CREDENTIAL: dict[str, Any] = {
    "state": "live", "password_since": None, "roles": [], "sessions": [], "wrong_passwords": 0,
    "wrong_password_at": None, "paused_until": None, "wrong_answers": 0, "resting_until": None,
    "code_until": None, "refusals": [], "below": True,
}  # fmt: skip
LISTED: dict[str, Any] = {
    "batch_id": BATCH, "state": "done", "extent": "lines", "school": None, "author": "x", "author_name": "Ann",
    "approved_by": None, "approved_by_name": None, "desk_ticket": "INC-1", "as_of": "2026-11-26T07:00:00Z",
    "total": 1, "done": 1, "unclaimed": 0, "counts": {"done": 1}, "per_second": None, "seconds_left": None,
    "lines": [{"line": 1, "state": "done", "username": "S0123456", "person_id": PUPIL}], "next_after": None,
}  # fmt: skip
CONTRACTS = Path(__file__).parents[2] / "contracts/openapi"
KIT = {"district_forbidden", "district_unknown", "invalid_query"}  # no page of ours brings them about


@pytest.fixture
def desk(surfer: Surfer) -> Surfer:
    """Somebody with the role desk, before one account."""
    at_work(surfer, "desk")
    surfer.services.say(f"GET /accounts/{PUPIL}", 200, ACCOUNT | CREDENTIAL)
    return surfer


def at_work(surfer: Surfer, scope: str) -> None:
    surfer.signed_in("e12345")
    surfer.services.answers["POST /token"] = [
        Answer(200, {"access_token": "work", "expires_in": 300, "scope": scope})
    ]


def sent(surfer: Surfer, method: str, path: str) -> Any:
    """The last such request."""
    return next(
        each for each in reversed(surfer.services.asked) if (each.method, each.path) == (method, path)
    )


async def text(surfer: Surfer, path: str, **headers: str) -> str:
    answer = await surfer.open(path, **headers)
    assert answer.status == 200, await answer.text()
    return await answer.text()


class TestWhoMayBeHere:
    async def test_somebody_without_a_role_is_told_so(self, surfer: Surfer) -> None:
        surfer.signed_in("e12345")
        surfer.services.answers["POST /token"] = [Answer(400, {"error": "role_missing"})]
        answer = await surfer.open("/desk")
        assert answer.status == 403
        assert "These pages are for the help desk" in await answer.text()

    async def test_nobody_signed_in_is_led_there_and_back(self, surfer: Surfer) -> None:
        answer = await surfer.open(f"{PAGE}/reset")
        assert answer.headers["Location"] == "/ccps/sign-in"
        surfer.services.say(
            "POST /sessions",
            201,
            {"session": "s", "person_id": PUPIL, "username": "e12345", "expires_at": "2099-01-01T00:00:00Z"},
        )
        await surfer.send("/sign-in", {"username": "e12345"})
        answer = await surfer.send("/sign-in/password", {"password": "x"})
        assert answer.headers["Location"] == f"/ccps{PAGE}/reset"

    async def test_a_token_that_has_ended_leads_to_signing_in(self, desk: Surfer) -> None:
        desk.services.say("GET /directory", 401, {"reason": "token_expired"})
        answer = await desk.open("/desk?search=neil")
        assert answer.headers["Location"] == "/ccps/sign-in"
        assert "session" not in desk.kept()

    @pytest.mark.parametrize(("scope", "shown"), [("desk", False), ("desk operator", True)])
    async def test_operations_are_for_operators(self, surfer: Surfer, scope: str, shown: bool) -> None:
        at_work(surfer, scope)
        assert ("/ccps/operations" in await text(surfer, "/desk")) is shown

    async def test_everything_is_asked_with_the_persons_own_token(self, desk: Surfer) -> None:
        desk.services.say("GET /directory", 200, {"persons": [], "next_after": None})
        await desk.open("/desk?search=neil")
        assert sent(desk, "GET", "/directory").bearer == "work"


class TestSearching:
    async def test_one_who_was_found_is_shown_at_once(self, desk: Surfer) -> None:
        desk.services.say("GET /directory", 200, {"persons": [ACCOUNT], "next_after": None})
        assert (await desk.open("/desk?search=S0123456")).headers["Location"] == f"/ccps{PAGE}"

    @pytest.mark.parametrize("said", ["c-7k3m-9qx", "C 7K3M 9QX", " c-7k3m%209qx"])
    async def test_a_code_leads_to_what_happened(self, desk: Surfer, said: str) -> None:
        answer = await desk.open(f"/desk?search={said}")
        assert answer.headers["Location"] == "/ccps/desk/refusals/C-7K3M-9QX"

    async def test_a_name_is_no_code(self, desk: Surfer) -> None:
        desk.services.say("GET /directory", 200, {"persons": [], "next_after": None})
        for name in ("Robinson", "Carla Ann"):
            assert (await desk.open(f"/desk?search={name}")).status == 200

    async def test_names_are_text_whatever_is_in_them(self, desk: Surfer) -> None:
        desk.services.say("GET /directory", 200, {"persons": [ACCOUNT, ACCOUNT], "next_after": None})
        page = await text(desk, "/desk?search=%3Cscript%3E")
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page


class TestOnePerson:
    async def test_the_true_reason_names_what_is_on_file(self, desk: Surfer) -> None:
        detail = {"reason": "names_differ", "differs": ["last_name"]}
        refused = {
            "reference": "C-7K3M-9QX",
            "reason": "claim_refused",
            "detail": detail,
            "at": "2026-11-26T07:00:00Z",
        }
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [
            Answer(200, ACCOUNT | {"refusals": [refused]}), Answer(200, CREDENTIAL),
        ]  # fmt: skip
        assert "The last name differs. On file is “O&#39;Neil”." in await text(desk, PAGE)

    @pytest.mark.parametrize(
        ("how", "offered"),
        [({}, True), (UNCLAIMED, False), (UNCLAIMED | {"kind": "staff", "claim_needs_code": True}, True)],
    )
    async def test_a_code_is_offered_to_whom_it_helps(
        self, desk: Surfer, how: dict[str, Any], offered: bool
    ) -> None:
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(200, ACCOUNT | CREDENTIAL | how)]
        assert ("Make a one-time code" in await text(desk, PAGE)) is offered

    async def test_what_only_a_role_above_may_do_is_offered_to_that_alone(self, desk: Surfer) -> None:
        colleague = {"kind": "staff", "roles": [{"role": "desk"}], "below": False}
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(200, ACCOUNT | CREDENTIAL | colleague)]
        page = await text(desk, PAGE)
        assert "Close the account" not in page
        assert "Make a one-time code" not in page

    @pytest.mark.parametrize(
        ("scope", "how", "offered"),
        [
            ("desk", {}, set()),
            ("desk operator", {}, {"make-desk", "make-operator"}),
            ("desk operator", {"roles": [{"role": "desk"}]}, {"unmake-desk", "make-operator"}),
            ("desk operator", {"roles": [{"role": "operator"}]}, {"make-desk", "unmake-operator"}),
            ("desk operator", {"kind": "student"}, set()),
            ("desk operator", UNCLAIMED, set()),
            ("desk operator", {"enrolled": False}, set()),
            ("desk operator", {"suspended": True}, set()),
        ],
    )
    async def test_operators_give_roles_to_staff_that_can_have_them(
        self, desk: Surfer, scope: str, how: dict[str, Any], offered: set[str]
    ) -> None:
        at_work(desk, scope)
        account = ACCOUNT | CREDENTIAL | {"kind": "staff"} | how
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(200, account)]
        assert set(re.findall(rf'{PAGE}/((?:un)?make-\w+)"', await text(desk, PAGE))) == offered

    async def test_what_cannot_be_asked_is_said(self, desk: Surfer) -> None:
        """Roster and the audit are away; the account is shown all the same."""
        page = await text(desk, PAGE)
        assert "A part of this cannot be shown right now" in page
        assert "Make a one-time code" in page

    async def test_an_address_of_nobody(self, desk: Surfer) -> None:
        assert (await desk.open("/desk/people/x%00y")).status == 404
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(404, {"reason": "person_unknown"})]
        assert (await desk.open(PAGE)).status == 404

    def test_every_event_has_words(self) -> None:
        modules = (services.roster.events, services.claims.events, services.auth.events)
        events = {
            name
            for module in modules
            for name, kind in vars(module).items()
            if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
        }
        assert events
        assert events == set(history.EVENTS)


LATER, BY = (
    "2099-08-04T13:14:00Z",
    {"at": "2026-08-03T13:14:00Z", "actor_name": "Ann", "desk_ticket": "INC-9"},
)
STANDINGS: list[tuple[dict[str, Any], str]] = [
    ({}, "The account was claimed on Monday, August 3"),
    (UNCLAIMED | {"may_claim_now": True}, "The account can be claimed now."),
    (UNCLAIMED | {"eligible_at": LATER}, "The account opens on Tuesday, August 4, 2099 at 9:14"),
    (UNCLAIMED | {"eligible_at": None}, "The school has taken every enrollment of this person back."),
    (UNCLAIMED, "The account cannot be claimed at the moment."),
    (UNCLAIMED | {"eligible_at": LATER, "waiver": BY}, "lets this person claim without waiting. Ann,"),
    (UNCLAIMED | {"reset_at": "2026-08-03T13:14:00Z"}, "The account was reset on Monday"),
    ({"suspensions": [BY | {"cause": "desk"}]}, "The help desk closed the account. Ann, Aug 3, 2026"),
    ({"suspensions": [BY | {"cause": "desk"}]}, "Ticket INC-9."),
    ({"suspensions": [BY | {"cause": "withdrawn", "actor_name": None}]}, "because the person has left"),
    ({"merged_into": KEY}, f"/ccps/desk/people/{KEY}"),
    ({"same_number": [KEY]}, "Somebody else has the same number."),
    ({"parked": {"since": LATER}}, "Until that is mended, nothing is certain."),
    ({"enrolled": False}, "The person has left the district."),
    ({"enrolled": False, "open_until": LATER}, "The account stays open until Tuesday"),
    ({"paused_until": LATER}, "After wrong passwords, other devices wait until Aug 4, 2099"),
    ({"resting_until": LATER}, "The questions rest until Tuesday"),
    ({"code_until": LATER}, "A one-time code is out. It is good until 9:14"),
]


@pytest.mark.parametrize(
    ("how", "sentence"), STANDINGS, ids=lambda each: None if isinstance(each, str) else " ".join(each)
)
async def test_how_an_account_stands(desk: Surfer, how: dict[str, Any], sentence: str) -> None:
    desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(200, ACCOUNT | CREDENTIAL | how)]
    assert sentence in await text(desk, PAGE)


class TestActs:
    async def test_none_is_done_without_a_ticket(self, desk: Surfer) -> None:
        for act in ACTS:
            answer = await desk.send(f"{PAGE}/{act.name}", {"key": KEY, "ticket": "  "})
            assert answer.status == 422
            assert "Type the number of the ticket." in await answer.text()
        assert {each.method for each in desk.services.asked if each.path != "/token"} == {"GET"}

    @pytest.mark.parametrize(
        "act", [act for act in ACTS if act.name not in ("code", "reset")], ids=lambda act: act.name
    )
    async def test_what_is_done_is_told_on_the_persons_page(self, desk: Surfer, act: Any) -> None:
        desk.services.say(f"{act.method} /accounts/{PUPIL}{act.path}", 204)
        answer = await desk.send(f"{PAGE}/{act.name}", {"key": KEY, "ticket": "INC-1"})
        assert (answer.status, answer.headers["Location"]) == (303, f"/ccps{PAGE}")
        request = sent(desk, act.method, f"/accounts/{PUPIL}{act.path}")
        where = {"body": request.body, "query": request.query}
        assert where[act.ticket] == {"desk_ticket": "INC-1"}
        assert act.done in await text(desk, PAGE)
        assert act.done not in await text(desk, PAGE)

    async def test_sent_twice_it_is_the_same_command(self, desk: Surfer) -> None:
        desk.services.say(f"POST /accounts/{PUPIL}/resets", 202, LISTED)
        page = await text(desk, f"{PAGE}/reset")
        key = re.search(r'name="key" value="([^"]+)"', page)
        assert key
        for _ in range(2):
            answer = await desk.send(f"{PAGE}/reset", {"key": key[1], "ticket": "INC-1"})
            assert answer.headers["Location"] == f"/ccps/desk/tickets/{BATCH}"
            assert sent(desk, "POST", f"/accounts/{PUPIL}/resets").headers["Idempotency-Key"] == key[1]

    async def test_a_code_is_shown_once(self, desk: Surfer) -> None:
        made = {"code": "E2ZPD-20KPX", "expires_at": "2099-01-01T00:00:00Z"}
        desk.services.say(f"POST /accounts/{PUPIL}/recovery-codes", 201, made)
        answer = await desk.send(f"{PAGE}/code", {"key": KEY, "ticket": "INC-1"})
        assert answer.headers["Location"] == f"/ccps{PAGE}/code/shown"
        assert "E2ZPD-20KPX" in await text(desk, f"{PAGE}/code/shown")
        assert "E2ZPD-20KPX" not in await text(desk, f"{PAGE}/code/shown")
        assert "code" not in desk.kept()

    async def test_a_code_is_not_shown_on_another_persons_page(self, desk: Surfer) -> None:
        made = {"code": "E2ZPD-20KPX", "expires_at": "2099-01-01T00:00:00Z"}
        desk.services.say(f"POST /accounts/{PUPIL}/recovery-codes", 201, made)
        desk.services.say(f"GET /accounts/{KEY}", 200, ACCOUNT | CREDENTIAL | {"person_id": KEY})
        await desk.send(f"{PAGE}/code", {"key": KEY, "ticket": "INC-1"})
        assert "E2ZPD-20KPX" not in await text(desk, f"/desk/people/{KEY}/code/shown")

    async def test_what_needs_a_colleague_becomes_a_list(self, desk: Surfer) -> None:
        desk.services.say(f"POST /accounts/{PUPIL}/resets", 403, {"reason": "approval_required"})
        answer = await desk.send(f"{PAGE}/reset", {"key": KEY, "ticket": "INC-1"})
        assert answer.status == 403
        assert f"/ccps/desk/tickets?person={PUPIL}" in await answer.text()
        desk.services.say("GET /reset-batches", 200, {"batches": [], "next_after": None})
        page = await text(desk, f"/desk/tickets?person={PUPIL}")
        assert "&lt;script&gt;alert(1)&lt;/script&gt; O&#39;Neil 0123456" in page

    async def test_while_a_service_is_away_nothing_typed_is_lost(self, desk: Surfer) -> None:
        desk.services.answers[f"GET /accounts/{PUPIL}"] = [Answer(503, {"reason": "unavailable"})]
        answer = await desk.send(f"{PAGE}/reset", {"key": KEY, "ticket": "INC-77"})
        page = await answer.text()
        assert answer.status == 503
        assert "Nothing was changed." in page
        assert 'value="INC-77"' in page
        assert KEY in page

    async def test_an_act_that_there_is_not(self, desk: Surfer) -> None:
        assert (await desk.send(f"{PAGE}/erase", {"key": KEY, "ticket": "INC-1"})).status == 404

    def test_every_refusal_has_words(self) -> None:
        of = "/accounts/{person_id}"
        paths = {act: f"{of}/roles/{{role}}" if "/roles/" in act.path else of + act.path for act in ACTS}
        routes = [(act.service, act.method.lower(), path) for act, path in paths.items()]
        routes += [
            ("claims", "post", "/reset-batches"),
            ("claims", "post", "/reset-batches/{batch_id}/approval"),
            ("claims", "post", "/reset-batches/{batch_id}/retry"),
            ("claims", "delete", "/reset-batches/{batch_id}"),
        ]
        for service, method, path in routes:
            contract = msgspec.json.decode((CONTRACTS / f"{service}.json").read_bytes())
            answers = contract["paths"][f"/v1/districts/{{district}}{path}"][method]["responses"]
            told = "\n".join(
                answers[status]["description"] for status in ("403", "404", "409") if status in answers
            )
            reasons = set(re.findall("^- `([a-z_]+)`", told, re.MULTILINE)) - KIT
            assert reasons <= set(words.REFUSALS), path


SCHOOLS = [
    {"school": "Jonesboro High", "total": 2, "unclaimed": 5}, {"school": None, "total": 1, "unclaimed": 0},
    {"school": "<b>Mundy's</b>", "total": 0, "unclaimed": 3},
]  # fmt: skip
YEAR: dict[str, Any] = {
    "total": 3,
    "approval_required": True,
    "unclaimed": 8,
    "lines": [],
    "schools": SCHOOLS,
}


class TestANewSchoolYear:
    @pytest.fixture(autouse=True)
    def district(self, desk: Surfer) -> None:
        desk.services.say("POST /reset-batches", 200, YEAR)

    async def test_schools_are_offered_with_what_they_come_to(self, desk: Surfer) -> None:
        page = await text(desk, "/desk/year")
        assert "Jonesboro High: 2 claimed accounts" in page
        assert "All pupils of the district: 3 claimed accounts" in page
        assert "&lt;b&gt;Mundy&#39;s&lt;/b&gt;" in page
        assert sent(desk, "POST", "/reset-batches").query == {"dry_run": "true"}

    @pytest.mark.parametrize(
        ("whom", "meant"),
        [
            ("all", {"all_students": True}), ("school:all", {"school": "all"}),
            ("school:Jonesboro High", {"school": "Jonesboro High"}),
        ],
    )  # fmt: skip
    async def test_it_is_looked_at_and_then_asked_for(self, desk: Surfer, whom: str, meant: Any) -> None:
        answer = await desk.send("/desk/year/preview", {"whom": whom, "ticket": "INC-1"})
        page = await answer.text()
        request = sent(desk, "POST", "/reset-batches")
        assert (request.query, request.body) == ({"dry_run": "true"}, meant | {"desk_ticket": "INC-1"})
        assert "Ask a colleague to approve" in page
        assert f'name="whom" value="{whom}"' in page
        desk.services.answers["POST /reset-batches"] = [Answer(202, LISTED | {"state": "awaiting_approval"})]
        answer = await desk.send("/desk/year", {"whom": whom, "ticket": "INC-1", "key": KEY})
        assert answer.headers["Location"] == f"/ccps/desk/tickets/{BATCH}"
        request = sent(desk, "POST", "/reset-batches")
        assert (request.query, request.body) == ({}, meant | {"desk_ticket": "INC-1"})
        assert request.headers["Idempotency-Key"] == KEY

    @pytest.mark.parametrize(
        "typed", [{"ticket": "INC-1"}, {"whom": "all"}, {"whom": "everybody", "ticket": "1"}]
    )
    async def test_nobody_is_meant_by_mistake(self, desk: Surfer, typed: dict[str, str]) -> None:
        for path in ("/desk/year/preview", "/desk/year"):
            assert (await desk.send(path, typed)).status == 422
        assert sent(desk, "POST", "/reset-batches").query == {"dry_run": "true"}, (
            "only to show the form again"
        )

    async def test_another_one_that_is_open_is_shown(self, desk: Surfer) -> None:
        refusal = {"reason": "bulk_reset_open", "batch_id": BATCH}
        desk.services.answers["POST /reset-batches"] = [Answer(409, refusal), Answer(200, YEAR)]
        answer = await desk.send("/desk/year", {"whom": "all", "ticket": "INC-1", "key": KEY})
        assert answer.status == 409
        assert f"/ccps/desk/tickets/{BATCH}" in await answer.text()


class TestLists:
    async def test_lines_are_looked_at_before_anything_is_done(self, desk: Surfer) -> None:
        found = {
            "total": 1, "approval_required": True, "unclaimed": 0, "schools": [],
            "lines": [
                {"line": 1, "state": "matched", "person_id": PUPIL, "username": "S0123456"},
                {"line": 3, "state": "name_differs", "on_file": "<b>Mary-Ann</b> O'Neil"},
            ],
        }  # fmt: skip
        desk.services.say("POST /reset-batches", 200, found)
        typed = {"lines": "Mary Ann O'Neil 0123456\r\n\r\nMary Ann 0123457", "ticket": "INC-1"}
        page = await (await desk.send("/desk/tickets/preview", typed)).text()
        request = sent(desk, "POST", "/reset-batches")
        assert request.query == {"dry_run": "true"}
        assert request.body == {
            "lines": ["Mary Ann O'Neil 0123456", "", "Mary Ann 0123457"],
            "desk_ticket": "INC-1",
        }
        assert "On file is “&lt;b&gt;Mary-Ann&lt;/b&gt; O&#39;Neil”." in page
        assert "Mary Ann 0123457</td>" in page
        assert "Ask a colleague to approve" in page

    async def test_more_than_a_ticket_ever_holds_is_refused(self, desk: Surfer) -> None:
        answer = await desk.send(
            "/desk/tickets/preview", {"lines": "x" * PASTED_LIMIT_BYTES, "ticket": "INC-1"}
        )
        assert answer.status == 413

    async def test_what_one_asked_for_one_does_not_approve(self, desk: Surfer) -> None:
        desk.services.say(f"GET /reset-batches/{BATCH}", 200, LISTED | {"state": "awaiting_approval"})
        desk.services.say(f"POST /reset-batches/{BATCH}/approval", 403, {"reason": "approver_is_author"})
        answer = await desk.send(f"/desk/tickets/{BATCH}", {"act": "approve", "key": KEY})
        assert answer.status == 403
        assert "You have asked for this yourself." in await answer.text()

    @pytest.mark.parametrize(("state", "looks"), [("running", True), ("done", False)])
    async def test_a_page_looks_again_while_something_is_under_way(
        self, desk: Surfer, state: str, looks: bool
    ) -> None:
        desk.services.say(f"GET /reset-batches/{BATCH}", 200, LISTED | {"state": state})
        page = await text(desk, f"/desk/tickets/{BATCH}")
        assert ("data-refresh-seconds" in page) is looks
        assert ('http-equiv="refresh"' in page) is looks

    async def test_no_cell_of_the_report_is_a_formula(self, desk: Surfer) -> None:
        evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
        lines = [
            {"line": n, "state": "name_differs", "name": f"{name} X", "username": name}
            for n, name in enumerate(evil, 1)
        ]
        desk.services.say(f"GET /reset-batches/{BATCH}", 200, LISTED | {"lines": lines})
        answer = await desk.open(f"/desk/tickets/{BATCH}/report.csv")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        rows = list(csv.reader((await answer.read()).decode("utf-8-sig").splitlines(keepends=True)))
        assert [row[1:3] for row in rows[1:]] == [[f"'{name} X", f"'{name}"] for name in evil]


class TestFigures:
    async def test_schools_lead_to_grades_and_grades_to_pupils(self, desk: Surfer) -> None:
        figure = {"persons": 4, "claimed": 1, "unclaimed": 3, "waiting": 0}
        desk.services.answers["GET /unclaimed"] = [
            Answer(200, {"figures": [figure | {"school": "Mundy's Mill & Co"}]}),
            Answer(200, {"figures": [figure | {"grade": "07"}]}),
        ]
        assert "/ccps/desk/unclaimed?school=Mundy%27s+Mill+%26+Co" in await text(desk, "/desk/unclaimed")
        page = await text(desk, "/desk/unclaimed?school=X")
        assert "/ccps/desk/unclaimed/pupils?school=X&amp;grade=07" in page

    async def test_the_wall_shows_what_there_is(self, desk: Surfer) -> None:
        """Auth is away: the claims are shown all the same."""
        minutes = [{"at": "2026-11-26T07:00:00Z", "done": 3, "refused": 1}]
        desk.services.answers["GET /activity"] = [Answer(200, {"minutes": minutes}), Answer(503, {})]
        page = await text(desk, "/desk/first-day")
        assert "3 in the last hour" in page
        assert "This cannot be shown right now." in page
