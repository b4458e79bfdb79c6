"""What people do on several pages, as the tests of those pages and of others need it."""

from playwright.async_api import expect

from services.cli.pupil import Pupil
from tests.portal.person import PATIENCE_MS, Person


async def type_username(person: Person, username: str) -> None:
    await person.open("/ccps/")
    await person.headed("Sign in")
    await person.fill(username=username)
    await person.press("Go")
    await person.headed("Your password")


async def sign_in(person: Person, username: str, password: str) -> None:
    await type_username(person, username)
    await person.fill(password=password)
    await person.press("Go")


async def signed_in(person: Person, username: str) -> None:
    name = person.page.locator("header").get_by_text(username)
    await expect(name).to_be_visible(timeout=PATIENCE_MS)


async def type_names(person: Person, pupil: Pupil, **instead: str) -> None:
    """The first step of a claim, as far as Next; `instead` is typed where somebody errs."""
    await person.open("/ccps/claim")
    await person.headed("Claim My Account")
    await person.fill(
        **{name: pupil.enrolled[name] for name in ("last_name", "first_name", "number")} | instead
    )
    await person.press("Next")


async def choose_password(person: Person, password: str) -> None:
    await person.headed("Choose your password")
    await person.fill(password=password, again=password)
    await person.press("Next")


async def answer_questions(person: Person, pupil: Pupil) -> None:
    """As many as there are on the page, and SAVE."""
    await person.headed("Your questions")
    for n, each in enumerate(pupil.answers, 1):
        await person.field(f"question-{n}").select_option(each["question"])
        field = person.field(f"answer-{n}")
        if await field.evaluate("field => field.localName") == "select":
            await field.select_option(each["answer"])
        else:
            await field.fill(each["answer"])
    await person.press("SAVE")


async def claimed(person: Person, pupil: Pupil) -> None:
    """The end, however long auth needs to hear of it."""
    await person.sees(person.reads("Well done, %(name)s!", name=pupil.enrolled["first_name"]), pupil.username)


async def claim_by_hand(person: Person, pupil: Pupil, password: str) -> None:
    await type_names(person, pupil)
    await choose_password(person, password)
    await answer_questions(person, pupil)
    await claimed(person, pupil)
