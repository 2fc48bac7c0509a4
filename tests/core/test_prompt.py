import pytest

from ccvd_core.errors import CCVDError, UnknownConceptError
from ccvd_core.prompts import mentions as prompt_module
from ccvd_core.prompts.mentions import Mention, mention_rows, named_concepts, parse_prompt

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


def test_names_may_be_written_in_capitals():
    prompt = parse_prompt("a <Rex> and a <TRAM> beside <rex>", WORDS)
    assert prompt.text == "a dog and a yellow car beside dog" and prompt.concepts == ("rex", "tram")
    assert [mention.occurrence for mention in prompt.mentions] == [0, 0, 1]
    assert named_concepts("<Mimi> <mimi> <MIMI>") == ("mimi",)


def test_a_misspelt_name_is_answered_with_the_one_meant():
    with pytest.raises(
        UnknownConceptError, match=r"<rexx>.*Did you mean <rex>\? Known concepts: <rex>, <spin>, <tram>"
    ):
        parse_prompt("a <rexx>", WORDS)
    with pytest.raises(UnknownConceptError) as caught:
        parse_prompt("a <zzz>", WORDS)
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(UnknownConceptError) as caught:
        parse_prompt("a <" + "x" * 100_000 + ">", {f"c{number}": "dog" for number in range(1000)})
    assert len(str(caught.value)) < 500 and "and 980 more" in str(caught.value)


def test_half_a_character_is_refused():
    with pytest.raises(CCVDError, match=r"half a character"):
        parse_prompt("a <rex> \ud83d", WORDS)


@pytest.mark.parametrize("prompt", ["a hot<rex>", "two <rex>s run", "a dog<rex> and a dog"])
def test_a_name_glued_to_a_word_is_refused_by_name(prompt: str):
    with pytest.raises(CCVDError, match="<rex> must stand apart"):
        parse_prompt(prompt, WORDS)
    assert parse_prompt("the <rex>'s bone, <rex>.", WORDS).text == "the dog's bone, dog."


def test_a_prompt_of_many_names_is_searched_once_for_each(monkeypatch: pytest.MonkeyPatch):
    searched: list[str] = []
    real = prompt_module._occurrences
    monkeypatch.setattr(prompt_module, "_occurrences", lambda text, words: searched.append(words) or real(text, words))
    prompt = parse_prompt("<rex> <tram> " * 5000, WORDS)
    assert len(prompt.mentions) == 10_000 and prompt.mentions[-2].occurrence == 4999
    assert searched == ["dog", "yellow car"]


PIECES = [" a", " dog", " and", " a", " dog", " near", " do", "gs", " yel", "low", " ", "car"]


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
