"""Prompts that name concepts: `a <rex> moving right` reads `a dog moving right` to the text encoder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import CCVDError, UnknownConceptError, shorten
from .suggestions import did_you_mean, listed

MENTION = re.compile(r"<([^<>\s]+)>")
SPACE = "▁"
"""What SentencePiece writes for a space."""


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
    """Names written `<name>` in a prompt, in order of first mention."""
    return tuple(dict.fromkeys(MENTION.findall(prompt)))


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UnknownConceptError for the first name that the library does not have, listing those it has."""
    known = sorted(known)
    for name in names:
        if name not in known:
            have = listed(known) or "none yet: learn one with Learn Concept"
            raise UnknownConceptError(
                f"The prompt names <{shorten(name)[1:-1]}>, which is not in the concept library (or is switched off). "
                f"{did_you_mean(name, known)}Known concepts: {have}."
            )


def parse_prompt(prompt: str, class_words: Mapping[str, str]) -> Prompt:
    """Replace every `<name>` by its class words and remember where they stand.

    `class_words` maps each known concept to its class words. Raises UnknownConceptError for a name it lacks.
    """
    check_known(named_concepts(prompt), class_words)
    text, mentions, end = "", [], 0
    for match in MENTION.finditer(prompt):
        words = " ".join(class_words[match[1]].split())
        text += prompt[end : match.start()]
        mentions.append(Mention(match[1], words, len(_occurrences(text, words))))
        text += words
        end = match.end()
    return Prompt(text + prompt[end:], tuple(mentions))


def mention_rows(pieces: Sequence[str], mention: Mention) -> tuple[int, ...]:
    """Rows of the context that hold a mention's class words.

    `pieces` are the SentencePiece pieces of the whole prompt, one per context row. Raises CCVDError when the encoder
    cut the words off or spells them otherwise.
    """
    text, starts = "", []
    for piece in pieces:
        starts.append(len(text))
        text += piece.replace(SPACE, " ")
    found = _occurrences(text, mention.class_words)
    if mention.occurrence >= len(found):
        raise CCVDError(
            f"The class words {mention.class_words!r} of <{mention.concept}> were not found in what the text encoder "
            f"reads ({text.strip()!r}). Use class words that the tokenizer keeps as they are, or shorten the prompt."
        )
    first = found[mention.occurrence]
    last = first + len(mention.class_words)
    return tuple(
        row
        for row, start in enumerate(starts)
        if start < last and start + len(pieces[row]) > first and pieces[row].strip(SPACE)
    )


def _occurrences(text: str, words: str) -> list[int]:
    """Positions at which the words stand in the text as whole words, spaces counting as one."""
    spaced = r"\s+".join(re.escape(word) for word in words.split())
    return [match.start() for match in re.finditer(rf"(?<!\w){spaced}(?!\w)", text)]
