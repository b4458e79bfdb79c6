"""What every request goes through, on a toy service."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from shared import reading
from shared.service import Kit, build_app

D = "/v1/districts/ccps"
Client = TestClient[Any, Any]


@pytest.fixture
async def client(kit: Kit, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(build_app(kit))


async def problem(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    body = await response.json(content_type=None)
    assert body["status"] == response.status
    assert body["type"] == f"/problems/{body['reason']}"
    return body


class TestBodies:
    async def test_a_body_that_fits_reaches_the_handler(self, client: Client) -> None:
        response = await client.post(f"{D}/echo?dry_run&limit=3", json={"text": "José"})
        assert response.status == 200
        assert (await response.json())["text"] == "José"
        assert (await response.json())["dry_run"] is True

    @pytest.mark.parametrize(
        ("raw", "status", "reason"),
        [
            (b"", 400, "malformed_json"),
            (b"{", 400, "malformed_json"),
            (b'{"text": "\xff"}', 400, "malformed_json"),
            (b'{"text": "\\ud800"}', 400, "malformed_json"),
            (b'{"text": "x"} trailing', 400, "malformed_json"),
            (b"[" * 10_000, 422, "invalid_body"),
            (b'{"text": "\\u0000"}', 422, "invalid_body"),
            (b'{"text": 7}', 422, "invalid_body"),
            (b"[]", 422, "invalid_body"),
            (b'{"text": "x", "txet": "y"}', 422, "invalid_body"),
            (b'{"text": "' + b"x" * 51 + b'"}', 422, "invalid_body"),
            (b'{"text": "' + b"x" * 20_000 + b'"}', 413, "body_too_large"),
        ],
    )
    async def test_a_body_that_does_not_fit_is_refused_with_its_reason(
        self, client: Client, raw: bytes, status: int, reason: str
    ) -> None:
        response = await client.post(f"{D}/echo", data=raw, headers={"Content-Type": "application/json"})
        assert (response.status, (await problem(response))["reason"]) == (status, reason)

    async def test_the_field_that_is_wrong_is_named(self, client: Client) -> None:
        response = await client.post(f"{D}/echo", json={"text": "x", "many": [1, "two"]})
        assert (await problem(response))["field"] == "$.many[1]"

    async def test_a_backslash_before_u0000_is_no_nul(self, client: Client) -> None:
        response = await client.post(
            f"{D}/echo", data=rb'{"text": "\\u0000"}', headers={"Content-Type": "application/json"}
        )
        assert (await response.json())["text"] == r"\u0000"

    async def test_a_long_body_of_unknown_length_is_cut_off(self, client: Client) -> None:
        async def endless() -> Any:
            for _ in range(100):
                yield b" " * 1000

        response = await client.post(
            f"{D}/echo", data=endless(), headers={"Content-Type": "application/json"}
        )
        assert (await problem(response))["reason"] == "body_too_large"

    async def test_a_body_that_does_not_arrive_is_given_up(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "BODY_TIMEOUT_S", 0.05)

        async def slow() -> Any:
            yield b'{"text":'
            await asyncio.sleep(0.4)
            yield b'"x"}'

        response = await client.post(f"{D}/echo", data=slow(), headers={"Content-Type": "application/json"})
        assert (response.status, (await problem(response))["reason"]) == (408, "request_timeout")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/json; charset=latin-1"},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ],
    )
    async def test_other_media_types_are_refused(self, client: Client, headers: dict[str, str]) -> None:
        # a bare connection: the client library would compress the body itself
        response = await client.post(f"{D}/echo", data=b'{"text": "x"}', headers=headers, compress=False)
        assert response.status in (400, 415)
        assert (await problem(response))["reason"] in ("unsupported_media_type", "malformed_request")

    @pytest.mark.parametrize(
        "query", ["dryrun=1", "limit=11", "limit=x", "limit=1&limit=2", "limit=%00", "dry_run=maybe"]
    )
    async def test_a_query_that_does_not_fit_is_refused(self, client: Client, query: str) -> None:
        response = await client.post(f"{D}/echo?{query}", json={"text": "x"})
        assert (response.status, (await problem(response))["reason"]) == (422, "invalid_query")

    async def test_a_route_without_a_query_takes_none(self, client: Client) -> None:
        response = await client.get(f"{D}/fail/declared?x=1")
        assert (await problem(response))["reason"] == "invalid_query"

    @bounds(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        raw=st.one_of(
            st.binary(max_size=200),
            st.text(max_size=100).map(lambda t: json.dumps({"text": t}).encode()),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
                ),
            ).map(lambda value: json.dumps(value).encode()),
        )
    )
    def test_no_body_whatever_brings_about_a_500(self, kit: Kit, raw: bytes) -> None:
        async def post() -> int:
            from aiohttp.test_utils import TestServer

            async with TestClient(TestServer(build_app(kit))) as client:
                headers = {"Content-Type": "application/json"}
                response = await client.post(f"{D}/echo", data=raw, headers=headers)
                return response.status

        assert asyncio.run(post()) in (200, 400, 422)


class TestAddresses:
    @pytest.mark.parametrize(
        ("method", "path", "status", "reason"),
        [
            ("GET", "/", 404, "not_found"),
            ("GET", "/v1/districts/ccps/nothing", 404, "not_found"),
            ("GET", "/v1/districts/nowhere/fail/declared", 404, "district_unknown"),
            ("DELETE", "/v1/districts/ccps/echo", 405, "method_not_allowed"),
            ("GET", "/v1/districts/ccps/persons/not-a-uuid", 404, "not_found"),
            ("GET", "/v1/districts/ccps/persons/{12345678-1234-1234-1234-123456789abc}", 404, "not_found"),
            ("GET", "/v1/districts/ccps/persons/%00", 404, "not_found"),
            ("GET", "/v1/districts/cc%00ps/fail/declared", 404, "not_found"),
        ],
    )
    async def test_what_is_not_there_is_a_problem(
        self, client: Client, method: str, path: str, status: int, reason: str
    ) -> None:
        response = await client.request(method, path)
        assert (response.status, (await problem(response))["reason"]) == (status, reason)

    @pytest.mark.parametrize("expected", ["100-continue", "200-ok", "100-continue, more"])
    async def test_what_a_client_expects_beyond_the_body_being_taken_is_passed_over(
        self, client: Client, expected: str
    ) -> None:
        response = await client.post(f"{D}/echo", json={"text": "x"}, headers={"Expect": expected})
        assert response.status == 200, await response.text()

    async def test_405_names_the_methods(self, client: Client) -> None:
        assert (await client.delete(f"{D}/echo")).headers["Allow"] == "POST"

    async def test_head_answers_as_get_does(self, client: Client) -> None:
        response = await client.head(f"{D}/persons/12345678-1234-1234-1234-123456789abc")
        assert response.status == 200
        assert await response.read() == b""

    async def test_a_route_may_be_of_no_district(self, client: Client) -> None:
        assert await (await client.get("/v1/codes/JPRQQH")).json() == {"code": "JPRQQH", "district": ""}


class TestFailures:
    async def test_a_fault_of_ours_tells_a_reference_and_nothing_else(
        self, client: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        response = await client.get(f"{D}/fail/bug")
        body = await problem(response)
        assert response.status == 500
        assert body["reason"] == "internal_error"
        assert body["reference"].startswith("C-")
        assert "secret-detail" not in json.dumps(body)
        assert "ZeroDivisionError" not in json.dumps(body)
        assert capsys.readouterr().out.count(body["reference"]) == 1

    @pytest.mark.parametrize(
        ("how", "status", "reason", "retry_after"),
        [
            ("unavailable", 503, "unavailable", "7"),
            ("conflict", 503, "contended", "1"),
            ("declared", 403, "toy_refused", None),
            ("slow_down", 429, "toy_too_fast", "11"),
            ("undeclared", 422, "not_in_any_table", None),
        ],
    )
    async def test_what_is_raised_is_told_as_a_problem(
        self, client: Client, how: str, status: int, reason: str, retry_after: str | None
    ) -> None:
        response = await client.get(f"{D}/fail/{how}")
        assert (response.status, (await problem(response))["reason"]) == (status, reason)
        assert response.headers.get("Retry-After") == retry_after

    async def test_details_of_a_refusal_become_members(self, client: Client) -> None:
        assert (await problem(await client.get(f"{D}/fail/declared")))["hint"] == "red"

    async def test_a_refusal_whose_truth_cannot_be_kept_is_unavailable(self, client: Client) -> None:
        """The reference would lead nowhere, so the caller is asked to come again."""
        response = await client.get(f"{D}/fail/uniform")
        assert (response.status, (await problem(response))["reason"]) == (503, "unavailable")


class TestForms:
    async def test_a_form_is_read(self, client: Client) -> None:
        response = await client.post(
            f"{D}/token", data={"grant_type": "client_credentials", "unknown": "is ignored"}
        )
        assert response.status == 200

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ("grant_type=password", "unsupported_grant_type"),
            ("", "invalid_request"),
            ("grant_type=a&grant_type=b", "invalid_request"),
            ("grant_type=%ff", "invalid_request"),
            ("grant_type=%00", "invalid_request"),
        ],
    )
    async def test_problems_are_told_as_oauth_has_them(self, client: Client, data: str, error: str) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        response = await client.post(f"{D}/token", data=data, headers=headers)
        body = await response.json()
        assert (response.status, body["error"]) == (400, error)
        assert "reason" in body


class TestHeaders:
    async def test_every_answer_forbids_keeping_it(self, client: Client) -> None:
        for path in ("/nothing", f"{D}/fail/declared", "/v1/codes/x", "/health/live"):
            headers = (await client.get(path)).headers
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Server"] == "homeroom"

    async def test_a_journey_goes_on_under_the_callers_trace(self, client: Client) -> None:
        trace = "0af7651916cd43dd8448eb211c80319c"
        sent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        response = await client.get("/v1/codes/x", headers=sent)
        assert response.headers["Homeroom-Correlation-Id"].replace("-", "") == trace

    @pytest.mark.parametrize(
        "bad", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-" + "A" * 32 + "-b7ad6b7169203331-01"]
    )
    async def test_a_bad_trace_begins_a_new_journey(self, client: Client, bad: str) -> None:
        response = await client.get("/v1/codes/x", headers={"traceparent": bad})
        assert len(response.headers["Homeroom-Correlation-Id"]) == 36

    async def test_browsers_of_no_listed_origin_are_not_let_in(self, client: Client) -> None:
        response = await client.get("/v1/codes/x", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in response.headers
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        assert (await client.options(f"{D}/echo", headers=asked)).status == 405

    async def test_a_listed_origin_may_call(
        self, client: Client, kit: Kit, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = (kit.policies.folder / "ccps.toml").read_text()
        (tmp_path / "ccps.toml").write_text(
            text.replace("origins = []", 'origins = ["https://portal.example"]')
        )
        kit.policies.folder = tmp_path
        kit.policies.refresh()
        asked = {"Origin": "https://portal.example", "Access-Control-Request-Method": "POST"}
        preflight = await client.options(f"{D}/echo", headers=asked)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://portal.example"
        answer = await client.get(f"{D}/fail/declared", headers={"Origin": "https://portal.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://portal.example"


class TestFrontEnds:
    async def test_forwarded_alone_is_not_believed(self, client: Client) -> None:
        headers = {"Forwarded": "for=203.0.113.9"}
        response = await client.post(f"{D}/echo", json={"text": "x"}, headers=headers)
        assert (await response.json())["remote"] == "127.0.0.1"

    async def test_forwarded_is_believed_with_a_client_token(
        self, client: Client, token: Callable[..., str]
    ) -> None:
        headers = {
            "Forwarded": 'for=6.6.6.6, for="[2001:db8::1]:4711";proto=https',
            "Homeroom-Client": token(scope="desk introspect"),
        }
        response = await client.post(f"{D}/echo", json={"text": "x"}, headers=headers)
        assert (await response.json())["remote"] == "2001:db8::1"

    @pytest.mark.parametrize("said", [{"exp": 1, "scope": "introspect"}, {"scope": "desk"}])
    async def test_a_client_token_that_is_not_good_or_no_front_ends_is_told(
        self, client: Client, token: Callable[..., str], said: dict[str, Any]
    ) -> None:
        headers = {"Forwarded": "for=6.6.6.6", "Homeroom-Client": token(**said)}
        response = await client.post(f"{D}/echo", json={"text": "x"}, headers=headers)
        assert (await problem(response))["reason"] == "client_token_invalid"


class TestAdmission:
    async def test_what_needs_the_store_waits_for_its_migration(
        self, client: Client, token: Callable[..., str]
    ) -> None:
        headers = {"Authorization": f"Bearer {token()}"}
        response = await client.post(f"{D}/notes", json={"text": "x"}, headers=headers)
        assert (response.status, (await problem(response))["dependency"]) == (503, "migrations")
        assert int(response.headers["Retry-After"]) >= 1

    async def test_a_store_behind_its_topic_serves_nothing(
        self, client: Client, kit: Kit, token: Callable[..., str]
    ) -> None:
        from shared.history import Disagreement

        kit.readiness.has("migrations")
        kit.diverged = {3: Disagreement(3, "topic", "an event is not known")}
        headers = {"Authorization": f"Bearer {token()}"}
        response = await client.post(f"{D}/notes", json={"text": "x"}, headers=headers)
        assert (response.status, (await problem(response))["reason"]) == (503, "history_diverged")
        assert (await client.get("/health/live")).status == 200
