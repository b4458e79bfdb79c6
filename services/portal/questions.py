"""The district's questions, as a form asks them and as a refusal speaks of them."""

from dataclasses import dataclass

from babel.dates import get_month_names

from services.portal.backend import Answer, AnswerShape, Policy, Question
from services.portal.languages import ENGLISH, N_, locale_of
from services.portal.visit import Visit

# By the `hint` of answer_invalid.
_HINTS = {
    "not_a_month": N_("Choose a month."),
    "not_a_year": N_("Type a year with four numbers, such as 2014."),
    "not_a_choice": N_("Choose one of the list."),
    "too_short": N_("That answer is too short."),
    "too_long": N_("That answer is too long."),
    "control_character": N_(
        "There is a sign in it that nobody can see. Delete the answer and type it again."
    ),
    "unknown_question": N_("This question is not asked any more. Choose another one."),
    "not_an_answer": N_("This cannot be an answer to the question. Look at it again."),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in one language. `options`: pairs of what is sent and what is shown, where one is chosen."""

    id: str
    text: str
    kind: str
    options: tuple[tuple[str, str], ...]
    max_length: int

    def chosen(self, typed: str) -> str | None:
        """The option that was meant; None: what was typed is none of them, and is shown as it was typed."""
        word = typed.strip().casefold()
        found = (sent for sent, shown in self.options if word in (sent.casefold(), shown.casefold()))
        return next(found, None) if word else ""


def ask(question: Question, language: str) -> Asked:
    shape = question.answer
    options = _options(shape, language)
    return Asked(question.id, question.text.in_(language), shape.kind, options, shape.max_length)


def ask_all(policy: Policy, language: str) -> list[Asked]:
    return [ask(question, language) for question in policy.questions]


def _options(shape: AnswerShape, language: str) -> tuple[tuple[str, str], ...]:
    """What is sent is English, which every district understands; what is shown is in the reader's language."""
    if shape.kind == "month":
        names = [get_month_names("wide", "stand-alone", locale_of(code)) for code in (ENGLISH, language)]
        return tuple((names[0][month], names[1][month]) for month in range(1, 13))
    shown = shape.choices_es if language == "es" and shape.choices_es else shape.choices
    return tuple(zip(shape.choices, shown, strict=True))


def wording(visit: Visit, answer: Answer) -> tuple[str, str]:
    """Of an answer_invalid: which question, and what is wrong with its answer."""
    hint = str(answer.body.get("hint", ""))
    return str(answer.body.get("question", "")), visit.text(_HINTS.get(hint, _HINTS["not_an_answer"]))
