"""Prompts that name concepts: `a <rex> moving right` reads `a dog moving right` to the text encoder.

Names are lowercase; a prompt may write them as it likes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..concepts.suggestions import did_you_mean, listed
from ..errors import CCVDError, UnknownConceptError, shorten

MENTION = re.compile(r"<([^<>\s]+)>")


@dataclass(frozen=True)
class Mention:
    """One `<name>` in a prompt: the `occurrence`-th time (from 0) that its class words stand in the plain text."""

    concept: str
    class_words: str
    occurrence: int


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt: `text` is what the encoder reads."""

    text: str
    mentions: tuple[Mention, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts in order of first mention."""
        return tuple(dict.fromkeys(mention.concept for mention in self.mentions))


def named_concepts(prompt: str) -> tuple[str, ...]:
    """Names written `<name>` or `<Name>` in a prompt, in order of first mention."""
    return tuple(dict.fromkeys(name.lower() for name in MENTION.findall(prompt)))


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UnknownConceptError for the first name that is not among the known ones, saying which there are."""
    known = set(known)
    for name in names:
        if name not in known:
            raise unknown_concept(name, "which is not in the concept library (or is switched off)", sorted(known))


def unknown_concept(name: str, why: str, known: Sequence[str], who: str = "The prompt names") -> UnknownConceptError:
    have = listed(known) or "none yet: learn one with Learn Concept"
    return UnknownConceptError(
        f"{who} <{shorten(name)[1:-1]}>, {why}. {did_you_mean(name, known)}Known concepts: {have}."
    )


def parse_prompt(prompt: str, class_words: Mapping[str, str]) -> Prompt:
    """Replace every `<name>` by its class words and remember where they stand.

    `class_words` maps each known concept to its class words. Raises UnknownConceptError for a name it lacks, CCVDError
    for one that is glued to other letters and for half a character, which no encoder reads.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise CCVDError(
            f"The prompt {shorten(prompt, 300)} has half a character in it, of an emoji perhaps. Write it again."
        ) from None
    check_known(named_concepts(prompt), class_words)
    parts: list[str] = []
    places: list[tuple[str, int]] = []
    end = length = 0
    for match in MENTION.finditer(prompt):
        name = match[1].lower()
        words = " ".join(class_words[name].split())
        before = prompt[end : match.start()]
        places.append((name, length + len(before)))
        parts += [before, words]
        length += len(before) + len(words)
        end = match.end()
    text = "".join([*parts, prompt[end:]])
    return Prompt(text, tuple(mentions_at(text, places, class_words)))


def mentions_at(text: str, places: Sequence[tuple[str, int]], class_words: Mapping[str, str]) -> Iterator[Mention]:
    """Mentions of concepts whose class words begin at these places of the plain text, each text searched once."""
    found: dict[str, list[int]] = {}
    for name, place in places:
        words = " ".join(class_words[name].split())
        if words not in found:
            found[words] = _occurrences(text, words)
        occurrence = bisect_left(found[words], place)
        if found[words][occurrence : occurrence + 1] != [place]:
            around = text[max(0, place - 20) : place + len(words) + 20]
            raise CCVDError(
                f"<{name}> must stand apart from other words: the text encoder would read {around!r}. Put a space "
                "before and after it."
            )
        yield Mention(name, words, occurrence)


def mention_rows(pieces: Sequence[str], mention: Mention) -> tuple[int, ...]:
    """Rows of the context that hold a mention's class words.

    `pieces` are those of the whole prompt (see `EncodedText`), one per context row. Raises CCVDError when the encoder
    cut the words off or spells them otherwise.
    """
    text, starts = "", []
    for piece in pieces:
        starts.append(len(text))
        text += piece
    found = _occurrences(text, mention.class_words)
    if mention.occurrence >= len(found):
        raise CCVDError(
            f"The class words {mention.class_words!r} of <{mention.concept}> were not found in what the text encoder "
            f"reads ({shorten(text.strip(), 300)}). Use class words that the tokenizer keeps as they are, or shorten "
            "the prompt."
        )
    first = found[mention.occurrence]
    last = first + len(mention.class_words)
    return tuple(
        row
        for row, start in enumerate(starts)
        if start < last and start + len(pieces[row]) > first and pieces[row].strip()
    )


def _occurrences(text: str, words: str) -> list[int]:
    """Positions at which the words stand in the text as whole words, spaces counting as one."""
    spaced = r"\s+".join(re.escape(word) for word in words.split())
    return [match.start() for match in re.finditer(rf"(?<!\w){spaced}(?!\w)", text)]
