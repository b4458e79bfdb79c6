"""A table of routes says each thing once: of two lines for one request, the second is described and never answers."""

import re
from collections import Counter

import pytest

from services.describe import described
from shared.life import SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_every_request_has_one_line_in_the_table(service: str) -> None:
    requests = Counter(
        (route.method, re.sub(r"{\w+}", "{}", route.path)) for route in described(service).routes
    )
    assert [request for request, lines in requests.items() if lines > 1] == []
