"""An SIS over real TLS: whom its certificate convinces, and what is said of one that does not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.roster.provider import Page, Provider, connecting, trusting
from shared.errors import Rejected
from tests.roster.exports import pupils
from tests.support.certificates import HERE, signed
from tests.support.sis import Sis, serving

PUPILS = pupils(5)
TRIES = 6
DAY = timedelta(days=1)
AUTHORITY, STRANGER = signed("Riverdale County"), signed("Riverdale County")  # two of one name
GONE = signed("Riverdale County", begins=-3 * DAY, ends=-DAY)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    file = tmp_path / "sis-ca.pem"
    file.write_text(AUTHORITY.pem)
    return file


async def asked(sis: Sis, ca_file: Path | None) -> Page:
    async with connecting(trusting(ca_file) if ca_file else None) as http:
        provider = Provider(http, sis.rule(), sis.secret, tries=TRIES, pause_s=0.001)
        return await provider.page("users", offset=0, limit=3, since=None)


@pytest.mark.parametrize("host", HERE)
async def test_the_authority_that_the_policy_names_is_believed(
    tmp_path: Path, ca_file: Path, host: str
) -> None:
    async with serving(Sis(PUPILS), signed("sis", by=AUTHORITY).server(tmp_path), host) as sis:
        assert sis.url.startswith("https://")
        assert (await asked(sis, ca_file)).total == 5


async def test_one_file_may_hold_several_authorities(tmp_path: Path, ca_file: Path) -> None:
    """While one of them follows another."""
    ca_file.write_text(STRANGER.pem + AUTHORITY.pem)
    async with serving(Sis(PUPILS), signed("sis", by=AUTHORITY).server(tmp_path)) as sis:
        assert (await asked(sis, ca_file)).total == 5


@pytest.mark.parametrize(
    ("shown", "host", "problem"),
    [
        (signed("sis", by=STRANGER), "127.0.0.1", "unknown_authority"),
        (signed("sis"), "127.0.0.1", "unknown_authority"),  # by itself
        (signed("sis", by=AUTHORITY, hosts=("sis.example.org",)), "127.0.0.1", "wrong_host"),
        (signed("sis", by=AUTHORITY, hosts=("127.0.0.1",)), "localhost", "wrong_host"),
        (signed("sis", by=AUTHORITY, begins=-2 * DAY, ends=-DAY), "127.0.0.1", "expired"),
        (signed("sis", by=AUTHORITY, begins=DAY, ends=2 * DAY), "127.0.0.1", "not_yet_valid"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_told_at_once_and_nothing_is_sent(
    tmp_path: Path, ca_file: Path, shown: Any, host: str, problem: str
) -> None:
    async with serving(Sis(PUPILS), shown.server(tmp_path), host) as sis:
        with pytest.raises(Rejected) as refused:
            await asked(sis, ca_file)
        assert refused.value.reason == "provider_untrusted"
        assert (refused.value.details["problem"], refused.value.details["host"]) == (problem, host)
        assert refused.value.details["said"]
        assert sis.tokens == {}
        assert sis.asked == []


async def test_an_authority_that_is_over_signs_nothing_any_more(tmp_path: Path) -> None:
    file = tmp_path / "gone.pem"
    file.write_text(GONE.pem)
    async with serving(Sis(PUPILS), signed("sis", by=GONE).server(tmp_path)) as sis:
        with pytest.raises(Rejected) as refused:
            await asked(sis, file)
    assert refused.value.details["problem"] == "expired"


async def test_whom_the_system_trusts_does_not_include_the_districts_own(tmp_path: Path) -> None:
    async with serving(Sis(PUPILS), signed("sis", by=AUTHORITY).server(tmp_path)) as sis:
        with pytest.raises(Rejected) as refused:
            await asked(sis, None)
    assert refused.value.details["problem"] == "unknown_authority"


async def test_an_sis_that_speaks_no_tls_is_not_spoken_to(ca_file: Path) -> None:
    async with serving(Sis(PUPILS)) as sis:
        sis.url = sis.url.replace("http:", "https:")
        with pytest.raises(Rejected) as refused:
            await asked(sis, ca_file)
        assert (refused.value.reason, refused.value.details["tries"]) == ("provider_unreachable", TRIES)
        assert refused.value.details["problem"].startswith("TLS")
        assert sis.tokens == {}


@pytest.mark.parametrize(
    "content", ["", "no certificate", signed("sis", by=AUTHORITY).pem], ids=["empty", "text", "no authority"]
)
def test_a_file_without_an_authority_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sis-ca.pem"
    file.write_text(content)
    with pytest.raises(OSError):
        trusting(file)


def test_only_the_authorities_of_the_file_are_trusted(ca_file: Path) -> None:
    assert trusting(ca_file).cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
