"""The first page."""

from services.portal.backend import Answer
from tests.portal.scripted import POLICY, Surfer

RESOURCES = [
    {
        "name": {"en": "Library", "es": "Biblioteca"},
        "note": {"en": "Books to borrow", "es": "Libros para llevar"},
        "url": "https://library.example.org/sign-in",
        "icon": "book",
    },
    {"name": {"en": "School <lunch>"}, "url": "https://lunch.example.org/", "icon": "no-such-picture"},
]
EXCHANGE = "POST /token"


def place_resources(surfer: Surfer) -> None:
    policy = dict(POLICY) | {"portal": {"accent": "#1f5f8b", "resources": RESOURCES}}
    surfer.services.answers["GET /policy"] = [Answer(200, policy)]


async def test_whoever_is_not_signed_in_is_led_to_signing_in(surfer: Surfer) -> None:
    answer = await surfer.open("/")
    assert (answer.status, answer.headers["Location"]) == (303, "/ccps/sign-in")


async def test_the_resources_of_the_policy_are_links(surfer: Surfer) -> None:
    place_resources(surfer)
    surfer.signed_in()
    page = await (await surfer.open("/")).text()
    assert 'href="https://library.example.org/sign-in"' in page
    assert "Library" in page
    assert "Books to borrow" in page
    assert "School &lt;lunch&gt;" in page
    assert "no-such-picture" not in page  # its first letter stands there


async def test_resources_are_named_in_the_language_or_else_in_english(surfer: Surfer) -> None:
    place_resources(surfer)
    surfer.signed_in()
    page = await (await surfer.open("/", Accept_Language="es")).text()
    assert "Biblioteca" in page
    assert "Libros para llevar" in page
    assert "School &lt;lunch&gt;" in page


async def test_a_temporary_password_is_changed_first(surfer: Surfer) -> None:
    surfer.signed_in(must_change=True)
    assert (await surfer.open("/")).headers["Location"] == "/ccps/account/password"


async def test_a_session_that_auth_refuses_is_explained(surfer: Surfer) -> None:
    """After a reset, most often: claiming again is one link away."""
    surfer.signed_in()
    surfer.services.answers["GET /sessions/current"] = [Answer(401, {"reason": "token_invalid"})]
    assert (await surfer.open("/")).headers["Location"] == "/ccps/sign-in"
    assert "session" not in surfer.kept()
    page = await (await surfer.open("/sign-in")).text()
    assert "You were signed out" in page
    assert "If your account was reset, claim it again." in page
    await surfer.send("/sign-in", {"username": "S0123456"})
    assert "You were signed out" not in await (await surfer.open("/sign-in")).text()


class TestTheWayToTheDesk:
    async def test_a_pupil_is_never_asked_about(self, surfer: Surfer) -> None:
        surfer.services.say(EXCHANGE, 200, {"access_token": "desk", "expires_in": 300, "scope": "desk"})
        surfer.signed_in("S0123456")
        page = await (await surfer.open("/")).text()
        assert "/ccps/desk" not in page
        assert surfer.services.requests() == ["GET /sessions/current"]

    async def test_staff_with_a_role_see_it_and_are_asked_about_once(self, surfer: Surfer) -> None:
        surfer.services.answers[EXCHANGE] = [
            Answer(200, {"access_token": "own", "expires_in": 300}),
            Answer(200, {"access_token": "desk", "expires_in": 300, "scope": "desk"}),
            Answer(403, {"error": "role_missing"}),
        ]
        surfer.signed_in("e19323")
        for _ in range(3):
            assert 'href="/ccps/desk"' in await (await surfer.open("/")).text()

    async def test_staff_without_a_role_do_not_and_are_asked_about_once(self, surfer: Surfer) -> None:
        surfer.services.answers[EXCHANGE] = [
            Answer(200, {"access_token": "own", "expires_in": 300}),
            Answer(403, {"error": "role_missing"}),
        ]
        surfer.signed_in("e19323")
        for _ in range(3):
            assert 'href="/ccps/desk"' not in await (await surfer.open("/")).text()
        assert [each.path for each in surfer.services.asked].count("/token") == 2

    async def test_while_nobody_can_say_it_is_asked_again(self, surfer: Surfer) -> None:
        surfer.services.answers[EXCHANGE] = [
            Answer(200, {"access_token": "own", "expires_in": 300}),
            Answer(503, {"reason": "unavailable"}),
            Answer(200, {"access_token": "desk", "expires_in": 300, "scope": "desk"}),
        ]
        surfer.signed_in("e19323")
        assert 'href="/ccps/desk"' not in await (await surfer.open("/")).text()
        assert 'href="/ccps/desk"' in await (await surfer.open("/")).text()
