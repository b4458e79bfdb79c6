"""Over HTTP: a district's system publishes and asks, the help desk looks up."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared import clock
from shared.messages import rfc3339
from tests.roster.conftest import Roster
from tests.roster.given import cloud_event


def entered(hours_ago: float) -> str:
    return rfc3339(clock.now() - timedelta(hours=hours_ago))


async def test_one_event_is_taken_and_told(roster: Roster) -> None:
    event = cloud_event(entered_at=entered(25))
    status, body = await roster.publish(event)
    assert status == 202
    assert (body["accepted"], body["unchanged"], body["refused"]) == (1, 0, 0)
    [result] = body["results"]
    assert (result["event_id"], result["state"]) == (event["id"], "accepted")
    told = await roster.became(event)
    assert told["state"] == "accepted"
    assert told["person_id"] == result["person_id"]
    assert told["basis"] == event["data"]["entered_at"]


async def test_binary_mode_says_the_same(roster: Roster) -> None:
    """The ce- headers carry the attributes, percent-encoded; the body is the data."""
    event = cloud_event(id="binary event/ñ")
    headers = {f"ce-{n}": event[n] for n in ("specversion", "source", "type", "time")} | {
        "ce-id": "binary%20event/%C3%B1"
    }
    status, body = await roster.publish(event["data"], kind="application/json", headers=headers)
    assert status == 202
    assert body["results"][0]["event_id"] == "binary event/ñ"
    status, body = await roster.publish(event)
    assert (status, body["unchanged"]) == (202, 1)
    told = await roster.ask("GET", "/enrollments/binary%20event%2F%C3%B1")
    assert told[0] == 200


async def test_a_batch_takes_what_is_good_and_tells_of_each(roster: Roster) -> None:
    good, short, unknown = (
        cloud_event(source_id="p1"),
        cloud_event(source_id="p2", number="012345"),
        cloud_event("StudentCorrected", source_id="p3", grade="08"),
    )
    batch = [good, short, {"id": "no envelope"}, unknown, good, 7]
    status, body = await roster.publish(batch, kind="application/cloudevents-batch+json")
    assert status == 202
    assert (body["accepted"], body["unchanged"], body["refused"]) == (1, 1, 4)
    told = [(r["index"], r["state"], r["reason"]) for r in body["results"]]
    assert told == [
        (0, "accepted", None),
        (1, "refused", "number_malformed"),
        (2, "refused", "event_malformed"),
        (3, "refused", "person_unknown"),
        (4, "unchanged", None),
        (5, "refused", "event_malformed"),
    ]
    assert body["results"][1]["details"] == {"hint": "number_length", "digits": 7}
    assert (await roster.became(short))["state"] == "refused"
    assert (await roster.became(unknown))["reason"] == "person_unknown"


async def test_plain_json_without_headers_is_a_structured_event(roster: Roster) -> None:
    for body in (cloud_event(), [cloud_event(source_id="p2")]):
        status, answer = await roster.publish(body, kind="application/json")
        assert (status, answer["accepted"]) == (202, 1)


async def test_one_event_that_is_refused_is_a_problem(roster: Roster) -> None:
    event = cloud_event(number="O123456")
    status, body = await roster.publish(event)
    assert status == 422
    assert (body["reason"], body["hint"], body["digits"]) == ("number_malformed", "number_letter_o", 7)
    assert body["type"] == "/problems/number_malformed"
    told = await roster.became(event)
    assert (told["state"], told["reason"], told["details"]["hint"]) == (
        "refused",
        "number_malformed",
        "number_letter_o",
    )


async def test_an_entry_time_without_an_offset_is_refused(roster: Roster) -> None:
    status, body = await roster.publish(cloud_event(entered_at="2026-08-03T09:14:00"))
    assert (status, body["reason"]) == (422, "entry_time_ambiguous")


async def test_an_id_names_one_event(roster: Roster) -> None:
    event = cloud_event()
    await roster.publish(event)
    status, body = await roster.publish(cloud_event(id=event["id"], last_name="Other"))
    assert (status, body["reason"]) == (409, "event_id_reused")


@pytest.mark.parametrize("event", [cloud_event(), cloud_event(number="1")], ids=["taken", "refused"])
async def test_a_repeat_under_the_same_key_is_given_the_same_reply(
    roster: Roster, event: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await roster.publish(event, headers=headers)
    assert await roster.publish(event, headers=headers) == first
    assert first[1].get("results", [{"state": "accepted"}])[0]["state"] == "accepted"


UNUSABLE = [
    (b"[]", "application/cloudevents-batch+json", 422, "batch_empty"),
    (b"{}", "application/cloudevents-batch+json", 422, "invalid_body"),
    (b"[" + b"{}," * 500 + b"{}]", "application/cloudevents-batch+json", 413, "batch_too_large"),
    (b"{}", "application/cloudevents+json", 422, "event_malformed"),
    (b"[]", "application/cloudevents+json", 422, "event_malformed"),
    (b"7", "application/json", 422, "event_malformed"),
    (b"{", "application/cloudevents+json", 400, "malformed_json"),
    (b"\xff", "application/json", 400, "malformed_json"),
    (b"", "application/json", 400, "malformed_json"),
    (b"[" * 200_000, "application/json", 400, "malformed_json"),
    (b" " * 1_100_000, "application/json", 413, "body_too_large"),
    (b"a,b", "text/csv", 415, "unsupported_media_type"),
]


async def test_what_is_no_event_is_refused(roster: Roster) -> None:
    for body, kind, status, reason in UNUSABLE:
        answer = await roster.publish(body, kind=kind)
        assert (answer[0], answer[1]["reason"]) == (status, reason), body[:50]


async def test_a_nul_spoils_only_its_own_event(roster: Roster) -> None:
    batch = [
        cloud_event(last_name="A\x00B"),
        cloud_event(source_id="p2"),
        cloud_event(id="\x00", source_id="p3"),
    ]
    status, body = await roster.publish(batch, kind="application/cloudevents-batch+json")
    assert status == 202
    assert [r["reason"] for r in body["results"]] == [
        "field_control_character",
        None,
        "event_malformed",
    ]


async def test_headers_that_are_no_text_are_refused(roster: Roster) -> None:
    for value in ("e%00", "e%0A"):
        headers = {"ce-specversion": "1.0", "ce-id": value, "ce-source": "/sis", "ce-type": "StudentEnrolled"}
        status, body = await roster.publish(cloud_event()["data"], kind="application/json", headers=headers)
        assert (status, body["reason"]) == (422, "event_malformed")


async def test_an_unknown_type_is_told_the_known_ones(roster: Roster) -> None:
    status, body = await roster.publish(cloud_event("GuardianNamed"))
    assert (status, body["reason"]) == (422, "type_unknown")
    assert "StudentEnrolled" in body["known"]


async def test_a_baseline_is_an_operators_to_say(roster: Roster) -> None:
    event = cloud_event()
    status, body = await roster.publish(event, query="?baseline")
    assert (status, body["reason"]) == (403, "scope_missing")
    status, body = await roster.publish(event, query="?baseline", scope="operator")
    assert status == 202
    assert (await roster.became(event))["baseline"] is True


async def test_only_who_may_write_publishes(roster: Roster) -> None:
    for scope in ("desk", "teacher", "introspect"):
        status, body = await roster.publish(cloud_event(), scope=scope)
        assert (status, body["reason"]) == (403, "scope_missing")


async def test_a_district_publishes_for_itself_alone(roster: Roster) -> None:
    token = roster.token("roster:write", district="elsewhere")
    status, body = await roster.publish(cloud_event(), headers={"Authorization": f"Bearer {token}"})
    assert (status, body["reason"]) == (403, "district_forbidden")


async def test_what_never_came_is_not_found(roster: Roster) -> None:
    status, body = await roster.ask("GET", "/enrollments/never")
    assert (status, body["reason"]) == (404, "not_found")


# --- The help desk


async def test_the_desk_sees_a_pupil_as_the_records_have_them(roster: Roster) -> None:
    event = cloud_event(entered_at=entered(30), school="Mundy's Mill Middle", grade="07")
    await roster.publish(event)
    found = await roster.until("/persons?number=0123456", lambda s, b: bool(b["persons"]), scope="desk")
    [person] = found["persons"]
    assert found["conflict"] is False
    assert (person["last_name"], person["first_name"], person["status"]) == (
        "De La Cruz",
        "Mary-Ann",
        "enrolled",
    )
    assert person["basis"] == event["data"]["entered_at"]
    status, one = await roster.ask("GET", f"/persons/{person['person_id']}", scope="desk")
    assert status == 200
    assert one == person | {"same_number": []}


async def test_the_desk_sees_two_pupils_under_one_number(roster: Roster) -> None:
    """A fact of the district's, never refused; and seen to be over when one of them leaves."""
    first, second = cloud_event(source_id="p1"), cloud_event(source_id="p2", first_name="Marianne")
    await roster.publish([first, second], kind="application/cloudevents-batch+json")
    found = await roster.until("/persons?number=0123456", lambda s, b: len(b["persons"]) == 2, scope="desk")
    assert found["conflict"] is True
    ids = {p["source_id"]: p["person_id"] for p in found["persons"]}
    _, one = await roster.ask("GET", f"/persons/{ids['p1']}", scope="desk")
    assert one["same_number"] == [ids["p2"]]
    await roster.publish(cloud_event("StudentWithdrawn", source_id="p2", time=clock.now()))
    over = await roster.until("/persons?number=0123456", lambda s, b: b["conflict"] is False, scope="desk")
    assert [p["status"] for p in over["persons"]] == ["enrolled", "withdrawn"]


async def test_persons_are_the_desks_alone_to_see(roster: Roster) -> None:
    for path in ("/persons?number=0123456", "/persons/00000000-0000-4000-8000-000000000001"):
        assert (await roster.ask("GET", path))[0] == 403
    status, body = await roster.ask("GET", "/persons/00000000-0000-4000-8000-000000000001", scope="desk")
    assert (status, body["reason"]) == (404, "not_found")


async def test_the_documents_of_the_api_name_every_reason(roster: Roster) -> None:
    answer = await roster.client.get("/openapi.json")
    document = msgspec.json.decode(await answer.read())
    told = document["paths"]["/v1/districts/{district}/enrollments"]["post"]["responses"]
    assert "`number_malformed`" in told["422"]["description"]
    assert "`event_id_reused`" in told["409"]["description"]
