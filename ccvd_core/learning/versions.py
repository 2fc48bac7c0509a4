"""Versions of a concept: `<rex>` taught further is `<rex_2>`, its lesson and its captions too."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..concepts.concept import Concept
from ..concepts.library import ConceptLibrary
from .lesson_job import LessonJob, job_digest

NUMBERED = re.compile(r"(.+)_[0-9]+")


def contents(start: Concept | None) -> Mapping[str, str]:
    """For a lesson's job: what it begins with; nothing of a lesson that begins afresh."""
    if start is None:
        return {}
    tensors = [start.tokens, *(part for lora in start.adapters.values() for part in (lora.a, lora.b))]
    return {"go_on_from": job_digest({"name": start.name}, tensors)}


def stem(name: str) -> str:
    """The name without a version's number: `rex` of `rex_2`."""
    numbered = NUMBERED.fullmatch(name)
    return numbered[1] if numbered else name


def as_version(job: LessonJob, library: ConceptLibrary, start: Concept | None) -> LessonJob:
    """The lesson under the name that it is kept by.

    That is its own, unless it has the name of the concept it goes on from: then `rex_2`, `rex_3`, ..., the first that
    is free or that this very lesson made before.
    """
    name = job.name
    if start is None or name != start.name:
        return job
    made = {header.name: header.settings.get("job") for header in library.headers()}
    broken = {path.stem for path, _ in library.broken()}
    for number in itertools.count(2):
        version = replace(job, description={**job.description, "name": f"{stem(name)}_{number}"})
        if version.name not in broken and made.get(version.name, version.digest()) == version.digest():
            return version
    raise AssertionError("numbers do not end")


def renamed(texts: Sequence[str], old: str, new: str) -> list[str]:
    """Captions and prompts with `<new>` where they have `<old>`."""
    return [re.sub(f"<{re.escape(old)}>", f"<{new}>", text, flags=re.IGNORECASE) for text in texts]
