"""How typed text is made comparable: pure functions, no rule of any district.

Two strengths, for two purposes:

- `plain` undoes only what keyboards do by themselves (composition of accents, curly apostrophes, long
  hyphens, no-break blanks, blanks at the ends). Names are compared in this form: spelling, case, accents and
  inner blanks count.
- `folded` also forgets case, accents and extra blanks. Answers to challenge questions are compared in this
  form.
"""

import unicodedata

_APOSTROPHES = "\u2018\u2019\u201b\u02bc\u02bb\u2032\u00b4\u0060\uff07"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d"
_BLANKS = "\u00a0\u2007\u202f"
_KEYBOARD = str.maketrans(
    {**dict.fromkeys(_APOSTROPHES, "'"), **dict.fromkeys(_HYPHENS, "-"), **dict.fromkeys(_BLANKS, " ")}
)


def plain(typed: str) -> str:
    """NFC, with typographic apostrophes, hyphens and no-break blanks as a keyboard has them, trimmed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", typed).translate(_KEYBOARD)).strip()


def folded(typed: str) -> str:
    """`plain`, and then without case, accents, width and extra blanks: "  José  Núñez " is "jose nunez"."""
    # Twice, because case folding can bring out new composed characters (Unicode's compatibility caseless
    # match).
    text = plain(typed)
    for _ in range(2):
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    letters = "".join(c for c in text if not unicodedata.combining(c))
    return " ".join(letters.translate(_KEYBOARD).split())


def same_name(typed: str, on_file: str, *, fold_case: bool = False) -> bool:
    """Whether a name was typed exactly as it is on file; `fold_case` lets letter case differ, and nothing else."""
    a, b = plain(typed), plain(on_file)
    return a.casefold() == b.casefold() if fold_case else a == b


def control_character(text: str) -> str | None:
    """The first character that no name, number or answer may hold (controls, NUL, lone surrogates), or None."""
    return next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
