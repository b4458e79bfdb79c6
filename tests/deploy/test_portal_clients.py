"""The portal's own clients: one of each district, made once, private."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from deploy.portal_clients import make_clients
from deploy.prepare import prepare
from services.cli.client import Failed
from tests.cli.fake import FakeServices

ROUTE = "POST /v1/operations/clients"
POLICIES = Path(__file__).parents[2] / "policies"


async def test_a_district_without_a_client_is_given_one(tmp_path: Path) -> None:
    prepare(tmp_path)
    with FakeServices() as services:
        services.answers[ROUTE] = [(201, {"id": "i", "name": "portal ccps", "secret": "s"})]
        assert await make_clients(tmp_path, POLICIES, services.url) == ["ccps"], "a pack is no district"
        assert await make_clients(tmp_path, POLICIES, services.url) == []
        [asked] = services.requests(ROUTE)
    assert json.loads(asked.body) == {
        "name": "portal ccps", "scopes": ["introspect", "exchange"], "districts": ["ccps"],
    }  # fmt: skip
    file = tmp_path / "portal/clients/ccps.json"
    assert json.loads(file.read_bytes()) == {"id": "i", "secret": "s"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_district_that_has_a_client_keeps_it(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "portal/clients/ccps.json").write_text("{}")
    shutil.copytree(POLICIES, tmp_path / "policies")
    with FakeServices() as services:
        assert await make_clients(tmp_path, tmp_path / "policies", services.url) == []
        assert services.asked == []


async def test_what_auth_refuses_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    prepare(tmp_path)
    with FakeServices() as services:
        services.answers["POST /token"] = [(401, {"reason": "invalid_client", "title": "no"})]
        with pytest.raises(Failed):
            await make_clients(tmp_path, POLICIES, services.url)
    assert list((tmp_path / "portal/clients").iterdir()) == []
