"""One concept from a folder into a library: as Learn Concept does it, on a whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base_match import check_fits_base
from ..backbones.whole_model import WholeModel
from ..concepts.concept import Concept, check_class_words, check_name
from ..concepts.kinds import Kind
from ..concepts.library import ConceptLibrary
from ..errors import LearningError, LibraryError
from ..learning.example import Example
from ..learning.go_on import strangers
from ..learning.learner import ConceptLearner, StepReport
from ..learning.lesson_items import LessonItem, pieces
from ..learning.lesson_job import lesson_job
from ..learning.lesson_loop import LessonLoop, mean, thinned
from ..learning.lesson_plan import after_failure, need_summary, reserve
from ..learning.media import to_floats
from ..learning.plan import bytes_to_write, check_fits, learning_need
from ..learning.processes import ALONE, Processes
from ..learning.step import LearningSettings
from ..learning.validation import kept_note
from ..learning.versions import as_version, contents, renamed

Say = Callable[[str], None]


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: the name, what it is, and the pictures or clips with their captions."""

    name: str
    kind: Kind
    class_words: str
    items: Sequence[LessonItem]
    captions: Sequence[str]
    start: Concept | None = None
    """The concept that it goes on from."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_class_words(self.class_words)


def teach(
    model: WholeModel,
    library: ConceptLibrary,
    lesson: Lesson,
    settings: LearningSettings,
    say: Say,
    on_step: Callable[[StepReport], None] = lambda report: None,
    processes: Processes = ALONE,
) -> Concept:
    """Learn a concept and keep it; one that this very lesson made before is only read.

    Of several `processes` only the first one writes.

    An interrupted lesson goes on when it is asked for again. Raises CCVDError, before anything is learned, for what
    cannot be learned, kept, or held in memory.
    """
    backbone, kind, start = model.backbone, lesson.kind, lesson.start
    pixels = [part for item in lesson.items for part in item.pieces]
    job = lesson_job(
        lesson.name,
        kind,
        lesson.class_words,
        lesson.captions,
        settings,
        backbone.fingerprint,
        pixels,
        **contents(start),
    )
    job = as_version(job, library, start)
    name = job.name
    if name in library.names():
        known = library.load(name)
        if known.settings.get("job") != job.digest():
            raise LibraryError(
                f"The library {library.folder} already has a concept <{name}>, learned from other pictures or with "
                "other settings. Choose another name, or delete its file to learn it again."
            )
        say(f"<{name}> was learned before from the same pictures: nothing to do")
        return known
    library.check_can_add(name)
    earlier, left_out = library.load_usable(library.names())
    for problem in (*library.problems(), *left_out.values()):
        say(f"Not kept apart from: {problem}")
    check_fits_base(earlier, backbone)
    earlier = strangers(earlier, start)
    captions = lesson.captions if start is None else renamed(lesson.captions, start.name, lesson.name)
    captions = renamed(captions, lesson.name, name)
    examples = encoded(model, lesson.items, captions, settings.still_frames, say)
    shape = max((example.latents for example in examples), key=Tensor.numel).shape
    need = learning_need(backbone, kind, settings.rank, shape, settings.batch, backbone.dtype.itemsize, settings.layers)
    if model.device.type == "cuda":
        check_fits(need, torch.cuda.mem_get_info(model.device)[0])
    learner = ConceptLearner(
        backbone, examples, name, kind, lesson.class_words, settings, earlier, model.device, processes, start
    )
    progress = job.progress(library.folder, [concept.name for concept in earlier])
    loop = LessonLoop(
        learner, settings, Attachment(backbone, [learner.live_adapters()]), progress, say, writes=processes.first
    )
    loop.take_up(name)
    say(f"Learning <{name}>: {need_summary(need, settings.steps, learner.estimate_seconds())}")
    if not processes.first:
        loop.run(on_step)
        return learner.concept()
    space = reserve(library.folder, name, bytes_to_write(backbone, kind, settings))
    try:
        loop.run(on_step)
        kept: dict[str, Any] = {"job": job.digest(), "losses": thinned(progress.losses)}
        concept = learner.concept()
        space.release()
        concept = library.add(replace(concept, settings={**concept.settings, **kept}))
    except LearningError as error:
        space.release()
        raise LearningError(f"{error} {after_failure(learner.done, loop.keep())}") from error
    except BaseException:
        # Ctrl-C arrives as a BaseException.
        space.release()
        loop.keep()
        raise
    progress.remove()
    losses, note = progress.losses, kept_note(concept.settings)
    say(f"Learned <{name}> in {learner.done} steps, loss {mean(losses[:20]):.4f} -> {mean(losses[-20:]):.4f}")
    if note:
        say(note)
    return concept


def encoded(
    model: WholeModel, items: Sequence[LessonItem], captions: Sequence[str], still_frames: int, say: Say
) -> list[Example]:
    """Pictures and clips as the latents that the model learns from."""
    media, examples = list(pieces(items, captions, still_frames)), []
    for number, piece in enumerate(media, 1):
        say(f"Encoding {number} of {len(media)}")
        examples.append(Example(model.to_latents(to_floats(piece.pixels)), piece.caption, item=piece.item))
    return examples
