"""Configuration by environment: what is read, and what is said when it does not hold."""

from pathlib import Path

import pytest

from shared.settings import SettingsInvalid, from_environment, unknown_variables

LEAST = {
    "HOMEROOM_SERVICE": "claims",
    "HOMEROOM_POSTGRES": "postgresql:///claims",
    "HOMEROOM_KAFKA": "k:9092",
}


def test_the_least_is_enough() -> None:
    settings = from_environment(LEAST)
    assert settings.service == "claims"
    assert settings.roles == ("api", "projector", "relay")
    assert (settings.policy_dir / "ccps.toml").exists()


def test_texts_become_numbers_paths_and_lists() -> None:
    more = {"HOMEROOM_HTTP_PORT": "81", "HOMEROOM_KEY_DIR": "/keys", "HOMEROOM_ROLES": "api, relay"}
    settings = from_environment(LEAST | more)
    assert (settings.http_port, settings.key_dir, settings.roles) == (81, Path("/keys"), ("api", "relay"))


def test_what_is_given_wins() -> None:
    assert from_environment(LEAST, service="auth").service == "auth"


def test_an_empty_variable_is_unset() -> None:
    assert from_environment(LEAST | {"HOMEROOM_PEPPER_FILE": " "}).pepper_file is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HOMEROOM_HTTP_PORT", "eighty"),
        ("HOMEROOM_HTTP_PORT", "70000"),
        ("HOMEROOM_PARTITIONS", "0"),
        ("HOMEROOM_ROLES", "api,prjector"),
        ("HOMEROOM_KAFKA_SECURITY", "TLS"),
        ("HOMEROOM_ISSUER", "https://auth.example.org/"),
        ("HOMEROOM_LOG_LEVEL", "LOUD"),
        ("HOMEROOM_TOPIC_PREFIX", "a b"),
    ],
)
def test_what_does_not_hold_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=variable):
        from_environment(LEAST | {variable: value})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingsInvalid, match=r"HOMEROOM_POSTGRES, HOMEROOM_KAFKA"):
        from_environment({}, service="claims")


def test_a_misspelt_variable_is_noticed() -> None:
    assert unknown_variables(LEAST | {"HOMEROOM_HTP_PORT": "1", "PATH": "x"}) == ["HOMEROOM_HTP_PORT"]
