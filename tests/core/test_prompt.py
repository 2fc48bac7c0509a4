import pytest

from ccvd_core.errors import CCVDError, UnknownConceptError
from ccvd_core.prompt import Mention, mention_rows, named_concepts, parse_prompt

WORDS = {"rex": "dog", "tram": "yellow  car", "spin": "moving up"}


def test_names_become_class_words_and_are_counted():
    prompt = parse_prompt("a dog and a <rex> and a <tram> beside <rex>", WORDS)
    assert prompt.text == "a dog and a dog and a yellow car beside dog"
    assert prompt.mentions == (Mention("rex", "dog", 1), Mention("tram", "yellow car", 0), Mention("rex", "dog", 2))
    assert prompt.concepts == ("rex", "tram")


def test_a_prompt_without_names_is_itself():
    assert parse_prompt("a dog <", WORDS).text == "a dog <" and not parse_prompt("x > y", WORDS).mentions


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownConceptError, match=r"<max>.*<rex>, <spin>, <tram>"):
        parse_prompt("a <max>", WORDS)
    with pytest.raises(UnknownConceptError, match="learn one"):
        parse_prompt("a <max>", {})


PIECES = ["▁a", "▁dog", "▁and", "▁a", "▁dog", "▁near", "▁do", "gs", "▁yel", "low", "▁", "car", "</s>"]


@pytest.mark.parametrize(
    ("mention", "rows"),
    [
        (Mention("rex", "dog", 0), (1,)),
        (Mention("rex", "dog", 1), (4,)),
        (Mention("tram", "yellow car", 0), (8, 9, 11)),
    ],
)
def test_rows_of_a_mention(mention: Mention, rows: tuple[int, ...]):
    assert mention_rows(PIECES, mention) == rows


def test_words_that_the_encoder_did_not_read_are_an_error():
    with pytest.raises(CCVDError, match="not found"):
        mention_rows(PIECES, Mention("rex", "dog", 2))


def test_named_concepts_in_order():
    assert named_concepts("<b> <a> <b>") == ("b", "a")
