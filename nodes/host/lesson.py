"""One execution of Learn Concept: gather the pictures, say what it needs, train, keep the concept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...ccvd_core.backbones.base_match import check_fits_base, sibling_notes
from ...ccvd_core.concepts.concept import Concept, check_class_words
from ...ccvd_core.concepts.kinds import KINDS, Kind
from ...ccvd_core.concepts.whole_files import ReservedSpace
from ...ccvd_core.errors import LearningError
from ...ccvd_core.learning.go_on import load_start, start_settings, strangers
from ...ccvd_core.learning.learner import ConceptLearner
from ...ccvd_core.learning.lesson_items import clip_cut, clips_summary, pieces, spread_captions, spread_masks
from ...ccvd_core.learning.lesson_job import LessonJob, lesson_job
from ...ccvd_core.learning.lesson_loop import mean, thinned
from ...ccvd_core.learning.lesson_plan import after_failure, chosen_settings, need_summary, reserve
from ...ccvd_core.learning.media import to_floats
from ...ccvd_core.learning.plan import LearningNeed, bytes_to_write
from ...ccvd_core.learning.validation import kept_note
from ...ccvd_core.learning.versions import as_version, contents, renamed
from .backbone import backbone_of, family_of
from .demo_world import notes_on_media
from .lesson_loop import LearningLoop
from .lesson_media import MediaReader, encoded_examples
from .lesson_need import check_memory
from .lesson_results import already_there, results
from .libraries import LibrarySelection, concept_name, open_library, written_name
from .made_here import MADE_HERE
from .patched_base import patch_identity, patch_notes
from .progress_text import send_progress_text
from .sample_strip import sample_lines
from .text_encoder import PromptReader
from .training import largest_weights, training_mode


class Lesson:
    """One execution of Learn Concept."""

    def __init__(
        self,
        node_id: str | None,
        model: Any,
        clip: Any,
        vae: Any,
        name: str,
        class_words: str,
        kind: Kind,
        library: str,
        steps: int,
        rank: int,
        learning_rate: float,
        retention: float,
        retention_form: Any,
        seed: int,
        megapixels_percent: int,
        length: int,
        still_frames: int,
        preview_every: int,
        noise_from: float,
        noise_to: float,
        windows: str,
        images: Sequence[Tensor] = (),
        video: Sequence[Any] = (),
        captions: Sequence[str] = (),
        after: LibrarySelection | None = None,
        clip_vision: Any = None,
        masks: Sequence[Tensor] = (),
        options: Mapping[str, Any] | None = None,
        sample_prompts: str = "",
        go_on_from: str = "",
    ) -> None:
        self._node_id, self._preview_every = node_id, preview_every
        self._model, self._vae = model.clone(), vae
        self._name = concept_name(name)
        self._kind: Kind = kind
        self._samples = list(sample_lines(sample_prompts, self._name))
        self._class_words = check_class_words(class_words)
        self._shelf_name, self._shelf = library, open_library(library)
        family = family_of(model)
        self._reader = PromptReader(clip, family.encoder)
        self._backbone = backbone_of(model, self._reader)
        self._conditions = family.conditions(model.model, vae, clip_vision)
        start = written_name(go_on_from)
        self._start = load_start(self._shelf, start, kind, self._class_words, rank, self._backbone)
        taken_over = start_settings(self._start)
        self._settings = chosen_settings(
            self._backbone,
            kind,
            steps,
            taken_over.pop("rank", rank),
            learning_rate,
            still_frames,
            retention=retention,
            retention_form=retention_form,
            seed=seed,
            noise_from=noise_from,
            noise_to=noise_to,
            **{**taken_over, **(options or {})},
        )
        self._cut = clip_cut(KINDS[kind], self._backbone.video, length, windows)
        area = megapixels_percent * 10_000 or self._backbone.video.area
        reader = MediaReader(KINDS[kind], self._cut, area, self._conditions.multiple, self._say)
        self._items = reader.read(images or (), video or ())
        for item in self._items:
            self._conditions.check_frames(item.pieces[0].shape[2])
        self._captions = spread_captions(captions, self._name, len(self._items))
        self._masks = spread_masks(masks or (), len(self._items))

    def run(self) -> io.NodeOutput:
        job = as_version(self._job(), self._shelf, self._start)
        self._call(job.name)
        if self._name in self._shelf.names():
            MADE_HERE.add((self._shelf_name, self._name))
            return already_there(self._shelf, self._name, job.digest())
        self._shelf.check_can_add(self._name)
        earlier, unread = self._earlier()
        first_frames = [to_floats(item.pieces[0][:, :, :1]) for item in self._items]
        self._notes = [
            *self._conditions.notes,
            *patch_notes(self._model),
            *unread,
            *sibling_notes(earlier, self._backbone),
            *notes_on_media(self._backbone, first_frames),
        ]
        space = reserve(self._shelf.folder, self._name, bytes_to_write(self._backbone, self._kind, self._settings))
        try:
            concept, report = self._learn(job, earlier, space)
        finally:
            space.release()
        MADE_HERE.add((self._shelf_name, self._name))
        return results(concept, LibrarySelection(self._shelf), "\n".join([report, *self._notes]), self._strip)

    def _job(self) -> LessonJob:
        return lesson_job(
            self._name,
            self._kind,
            self._class_words,
            self._captions,
            self._settings,
            self._backbone.fingerprint,
            [pixels for item in self._items for pixels in item.pieces] + [m for m in self._masks if m is not None],
            clip_vision=self._conditions.clip_vision is not None,
            **patch_identity(self._model),
            **contents(self._start),
        )

    def _call(self, name: str) -> None:
        """Let the concept, in its captions too, have the name of its version."""
        for one in [self._name] if self._start is None else [self._start.name, self._name]:
            self._captions = renamed(self._captions, one, name)
            self._samples = renamed(self._samples, one, name)
        self._name = name

    def _earlier(self) -> tuple[list[Concept], list[str]]:
        """What to stay apart from, and a warning for each that cannot be read. All of a library fit the same models."""
        earlier, left_out = self._shelf.load_usable(self._shelf.names())
        check_fits_base(earlier, self._backbone)
        unread = [f"Not kept apart from: {problem}" for problem in (*self._shelf.problems(), *left_out.values())]
        for warning in unread:
            logging.warning("CCVD: learning <%s>: %s", self._name, warning)
        return strangers(earlier, self._start), unread

    def _learn(self, job: LessonJob, earlier: Sequence[Concept], space: ReservedSpace) -> tuple[Concept, str]:
        """Train, and put the concept into the library. Whatever stops it, what was learned is kept."""
        progress = job.progress(self._shelf.folder, [concept.name for concept in earlier])
        media = list(pieces(self._items, self._captions, self._settings.still_frames, self._masks))
        examples = encoded_examples(media, self._model.model, self._vae, self._conditions, self._say)
        need = check_memory(
            self._model, self._backbone, self._kind, self._settings, [example.latents for example in examples]
        )
        # Text contexts are made now, while the text encoder may have the memory.
        self._say("Reading the captions")
        with torch.inference_mode(False):
            learner = ConceptLearner(
                self._backbone,
                examples,
                self._name,
                self._kind,
                self._class_words,
                self._settings,
                earlier,
                self._model.load_device,
                start=self._start,
            )
            negative = self._reader("").context.clone()
            samples = {text: learner.read_sample(text) for text in self._samples}
        self._say("Loading the model")
        with training_mode(self._model, need.total_bytes + largest_weights(self._backbone)):
            # Loading may have replaced modules: look them up again.
            learner.use_backbone(backbone_of(self._model, self._reader))
            loop = LearningLoop(
                self._model,
                self._vae,
                learner,
                self._kind,
                self._settings,
                negative,
                progress,
                self._preview_every,
                self._node_id,
                self._say,
                samples,
            )
            self._strip = loop.strip
            summary = self._announce(learner, need)
            loop.take_up(self._name)
            try:
                loop.run()
                kept = {"job": job.digest(), "losses": thinned(progress.losses)}
                if len(progress.rates) > 1:
                    kept["learning_rates"] = progress.rates
                concept = learner.concept(loop.finished())
                concept = replace(concept, settings={**concept.settings, **kept})
                space.release()
                concept = self._shelf.add(concept)
            except LearningError as error:
                space.release()
                raise LearningError(f"{error} {after_failure(learner.done, loop.keep())}") from error
            except BaseException:
                # Cancel arrives as a BaseException.
                space.release()
                loop.keep()
                raise
        progress.remove()
        report = (
            f"Learned <{self._name}> ({self._kind}, {self._class_words!r}) in {learner.done} steps, "
            f"{summary}. Loss {mean(progress.losses[:20]):.4f} -> {mean(progress.losses[-20:]):.4f}.\n"
            f"Write <{self._name}> in a prompt of Aggregate Adapters to use it."
        )
        return concept, "\n".join(line for line in (report, kept_note(concept.settings), progress.problem) if line)

    def _announce(self, learner: ConceptLearner, need: LearningNeed) -> str:
        """Say before the first step what is going to happen and how long it will take."""
        self._say("Measuring a step")
        needed = need_summary(need, self._settings.steps, learner.estimate_seconds())
        summary = needed + clips_summary(self._items, self._cut)
        logging.info("CCVD: learning <%s>: %s", self._name, summary)
        self._say(" ".join([f"Learning <{self._name}>: {summary}.", *self._notes]))
        return summary

    def _say(self, text: str) -> None:
        send_progress_text(text, self._node_id)
