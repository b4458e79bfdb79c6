"""How typed text is made comparable."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import text


@pytest.mark.parametrize(
    ("typed", "on_file"),
    [
        ("O’Neil", "O'Neil"),
        ("Oʻahu", "O'ahu"),
        ("Mary‐Ann", "Mary-Ann"),
        ("Mary–Ann", "Mary-Ann"),
        ("  Ana ", "Ana"),
        ("De\u00a0La Cruz", "De La Cruz"),
        ("Jose\u0301", "José"),
    ],
)
def test_what_keyboards_do_by_themselves_does_not_count(typed: str, on_file: str) -> None:
    assert text.same_name(typed, on_file)


@pytest.mark.parametrize(
    ("typed", "on_file"),
    [
        ("maria", "Maria"),
        ("Jose", "José"),
        ("ONeil", "O'Neil"),
        ("Mary Ann", "Mary-Ann"),
        ("De  La Cruz", "De La Cruz"),
        ("Smith Jr", "Smith Jr."),
    ],
)
def test_spelling_case_accents_and_inner_blanks_of_names_count(typed: str, on_file: str) -> None:
    assert not text.same_name(typed, on_file)


def test_a_district_may_let_case_differ_and_nothing_else() -> None:
    assert text.same_name("maria", "Maria", fold_case=True)
    assert text.same_name("STRASSE", "straße", fold_case=True)
    assert not text.same_name("Jose", "José", fold_case=True)


@pytest.mark.parametrize(
    ("typed", "folded"),
    [
        ("  José   Núñez ", "jose nunez"),
        ("WITTY MOUSE", "witty mouse"),
        ("O’Neil", "o'neil"),
        ("ﬁre", "fire"),
        ("Ｔｅｄ", "ted"),
        ("straße", "strasse"),
        ("İstanbul", "istanbul"),
    ],
)
def test_answers_compare_without_case_accents_or_extra_blanks(typed: str, folded: str) -> None:
    assert text.folded(typed) == folded


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once(typed: str) -> None:
    once = text.folded(typed)
    assert text.folded(once) == once
    assert text.plain(text.plain(typed)) == text.plain(typed)


@given(st.text(max_size=40))
def test_how_accents_were_composed_never_counts(typed: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, typed) for form in ("NFC", "NFD"))
    assert text.plain(composed) == text.plain(decomposed)
    assert text.folded(composed) == text.folded(decomposed)


@pytest.mark.parametrize("bad", ["a\0b", "tab\there", "line\nbreak", "\ud800", "\x7f"])
def test_control_characters_are_found(bad: str) -> None:
    assert text.control_character(bad)


@pytest.mark.parametrize("good", ["", "Zoë", "😀", "نور", "O'Neil-Smith"])
def test_letters_of_every_script_are_no_control_characters(good: str) -> None:
    assert text.control_character(good) is None
