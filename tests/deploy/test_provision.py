"""The stack's clients: made once, and given later what a newer stack lets them do."""

import json

import aiohttp

from deploy.local import provision
from deploy.local.state import DISTRICT, Credentials
from tests.cli.fake import FakeServices

CLIENTS = "/v1/operations/clients"


async def test_a_client_of_an_older_stack_may_what_it_may_now() -> None:
    credentials = Credentials.new()
    for name in ("operator", *provision.CLIENTS):
        if name != "sis":
            credentials.clients[name] = {"id": f"of {name}", "secret": "s"}
    there = [{"id": f"of {name}", "scopes": scopes} for name, scopes in provision.CLIENTS.items()]
    there[list(provision.CLIENTS).index("portal")]["scopes"] = ["introspect"]
    with FakeServices() as services:
        services.answers[f"GET {CLIENTS}"] = [(200, {"clients": there})]
        services.answers[f"POST {CLIENTS}"] = [(201, {"id": "made", "secret": "new"})]
        services.answers[f"PUT {CLIENTS}/of portal"] = [(204, None)]
        async with aiohttp.ClientSession() as http:
            urls = dict.fromkeys(("roster", "claims", "auth"), services.url)
            homeroom = provision.connect(http, urls, "", credentials)
            await provision.make_clients(homeroom, credentials)
        [made] = services.requests(f"POST {CLIENTS}")
        [changed] = services.requests(f"PUT {CLIENTS}/of portal")
    assert json.loads(made.body)["name"] == "sis"
    assert credentials.clients["sis"] == {"id": "made", "secret": "new"}
    assert json.loads(changed.body) == {
        "name": "portal", "scopes": ["introspect", "exchange"], "districts": [DISTRICT], "human": False,
    }  # fmt: skip
