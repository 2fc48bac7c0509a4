"""The steps of one lesson inside ComfyUI: progress bar, Cancel, previews, and progress saved now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ...ccvd_core.attaching.attachment import Attachment
from ...ccvd_core.concepts.kinds import KINDS, Kind
from ...ccvd_core.learning.example import ReadExample
from ...ccvd_core.learning.learner import ConceptLearner, StepReport
from ...ccvd_core.learning.lesson_loop import LessonLoop
from ...ccvd_core.learning.progress_file import ProgressFile
from ...ccvd_core.learning.step import LearningSettings
from ...ccvd_core.learning.thumbnails import clip_bytes, picture_bytes
from ...ccvd_core.learning.trained import Learned
from ...ccvd_core.sampling import sample
from ...ccvd_core.sheet import spread, strip
from .sample_strip import SampleStrip

PREVIEW_STEPS = 10
STRIP = 4
"""Frames of what moves that a preview shows side by side while it is learned."""


class LearningLoop:
    """Trains a learner to its end. `say` shows a line under the node."""

    def __init__(
        self,
        model: Any,
        vae: Any,
        learner: ConceptLearner,
        kind: Kind,
        settings: LearningSettings,
        negative: Tensor,
        progress: ProgressFile,
        preview_every: int,
        node_id: str | None,
        say: Callable[[str], None],
        samples: Mapping[str, ReadExample] | None = None,
    ) -> None:
        """`samples` are drawn instead of the first caption, each under its own text."""
        self._model, self._vae, self._learner, self._settings = model, vae, learner, settings
        self._negative, self._preview_every = negative, preview_every
        self._moves = KINDS[kind].moves
        self._samples, self.strip = samples or {}, SampleStrip()
        self._attachment = Attachment(learner.backbone, [learner.live_adapters()])
        self._loop = LessonLoop(
            learner, settings, self._attachment, progress, say, memory.throw_exception_if_processing_interrupted
        )
        self._bar = comfy.utils.ProgressBar(settings.steps, node_id=node_id)

    def take_up(self, name: str) -> None:
        """Go on where this job was left, if it was, and say so."""
        self._loop.take_up(name)

    def run(self) -> None:
        """Every step that is left."""
        self._loop.run(self._after_step)

    def keep(self) -> bool:
        """Save progress if there is any; whether it could be."""
        return self._loop.keep()

    def _after_step(self, report: StepReport) -> None:
        total = self._settings.steps
        self._bar.update_absolute(report.step, total)
        if self._preview_every and report.step % self._preview_every == 0 and report.step < total:
            self._show(self._learner.current())

    def preview(self, learned: Learned, drawn: ReadExample | None = None) -> Tensor:
        """The concept on a sample or on its first caption: frames [frames, height, width, 3] in 0..1."""
        positive, negative = self._learner.preview_prompts(self._negative, learned, drawn)
        generator = torch.Generator().manual_seed(self._settings.seed)
        noise = torch.randn(1, *self._learner.latent_shape, generator=generator).to(self._model.load_device)
        attachment, attached = self._attachment, self._attachment.is_attached
        attachment.set_adapters([learned.adapters])
        if not attached:
            attachment.attach()
        try:
            latents = sample(
                self._learner.backbone,
                attachment,
                [positive],
                negative,
                noise,
                PREVIEW_STEPS,
                on_step=memory.throw_exception_if_processing_interrupted,
            )
        finally:
            if not attached:
                attachment.detach()
        with torch.inference_mode():  # as every stock node decodes; the VAE's weights may be inference tensors
            frames = self._vae.decode(self._model.model.process_latent_out(latents).float())
        # The VAE may have pushed the model out of the GPU.
        memory.load_models_gpu([self._model])
        return frames.flatten(0, -4).float().clamp(0, 1).cpu()

    def finished(self) -> bytes:
        """The finished concept's thumbnail as WebP: a picture, or a short clip of what moves."""
        learned = self._learner.kept()
        if self._preview_every and self._samples:
            self._draw_samples(learned)
        frames = self.preview(learned)
        if self._moves:
            return clip_bytes(frames, self._learner.backbone.video.rate)
        return picture_bytes(frames[-1])

    def _show(self, learned: Learned) -> None:
        if self._samples:
            self._draw_samples(learned)
            self._send(self.strip.picture(), 1536)
        else:
            self._send(self._picture(self.preview(learned)), 1024 if self._moves else 512)

    def _draw_samples(self, learned: Learned) -> None:
        pictures = {text: self._picture(self.preview(learned, drawn)) for text, drawn in self._samples.items()}
        self.strip.add(self._learner.done, pictures)

    def _picture(self, frames: Tensor) -> Image.Image:
        """A frame, or some side by side of what moves."""
        if self._moves:
            return strip([to_picture(frames[index]) for index in spread(len(frames), STRIP)])
        return to_picture(frames[-1])

    def _send(self, picture: Image.Image, max_side: int) -> None:
        self._bar.update_absolute(self._learner.done, self._settings.steps, ("JPEG", picture, max_side))


def to_picture(frame: Tensor) -> Image.Image:
    return Image.fromarray((frame * 255).byte().numpy())
