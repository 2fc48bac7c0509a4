"""One execution of Learn Concept: gather the pictures, say what it needs, train, keep the concept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ..ccvd_core.backbones.attachment import Attachment
from ..ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ..ccvd_core.base_match import check_fits_base, sibling_notes
from ..ccvd_core.concept import Concept, Kind, check_class_words, check_name
from ..ccvd_core.errors import CCVDError, LibraryError, MediaError
from ..ccvd_core.learning import ConceptLearner, Example
from ..ccvd_core.learning_plan import GIB, LearningNeed, check_fits, learning_need, preset, usual_area
from ..ccvd_core.learning_step import LearningSettings
from ..ccvd_core.media import check_media, picture_bytes, prepare_clip, prepare_pictures, still_clip, training_size
from ..ccvd_core.sampling import sample
from .demo_world import notes_on_media
from .model_conditions import ModelConditions
from .pictures import loss_picture
from .text_encoder import PromptReader
from .training import CHECKPOINT_SECONDS, Checkpoint, Clock, job_digest, minutes, training_mode
from .types import LibrarySelection, open_library

PREVIEW_STEPS = 10
LEARNED_HERE: set[tuple[str, str]] = set()
"""(library, name) learned or found by this process: if such a file is gone, a cached result must not hide it."""


def written_name(text: str) -> str:
    """A name as artists write it, with or without its angle brackets."""
    return text.strip().removeprefix("<").removesuffix(">").lower()


class Lesson:
    """One execution of Learn Concept."""

    def __init__(
        self,
        node: type[io.ComfyNode],
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
        frames: int,
        still_frames: int,
        preview_every: int,
        noise_from: float,
        noise_to: float,
        images: Sequence[Tensor] = (),
        video: Sequence[Any] = (),
        captions: Sequence[str] = (),
        after: LibrarySelection | None = None,
        clip_vision: Any = None,
    ) -> None:
        self._node, self._node_id, self._preview_every = node, node_id, preview_every
        self._model, self._vae = model.clone(), vae
        self._name = check_name(written_name(name))
        self._kind: Kind = kind
        self._class_words = check_class_words(class_words)
        self._shelf_name, self._shelf = library, open_library(library)
        self._reader = PromptReader(clip)
        self._backbone = self._backbone_of(model.model.diffusion_model)
        self._conditions = ModelConditions(model.model, vae, clip_vision)
        self._settings = replace(
            self._chosen(steps, rank, learning_rate, retention, retention_form, seed, still_frames),
            noise_from=noise_from,
            noise_to=noise_to,
        )
        self._pixels = self._gather(list(images or ()), list(video or ()), megapixels_percent, frames)
        for pixels in self._pixels:
            self._conditions.variant.check_frames(pixels.shape[2])
        self._captions = self._spread(captions)

    def _backbone_of(self, diffusion_model: torch.nn.Module) -> ComfyWanBackbone:
        return ComfyWanBackbone(diffusion_model, self._reader, self._model.model.get_dtype_inference())

    def _chosen(
        self, steps: int, rank: int, lr: float, retention: float, form: Any, seed: int, still_frames: int
    ) -> LearningSettings:
        """The preset for this base with what the artist set."""
        usual = preset(self._backbone, self._kind)
        return replace(
            usual,
            steps=steps or usual.steps,
            rank=rank or usual.rank,
            lr=lr or usual.lr,
            token_lr=min(1.0, usual.token_lr * (lr / usual.lr if lr else 1.0)),
            retention=retention,
            retention_form=form,
            seed=seed,
            still_frames=still_frames or usual.still_frames,
        )

    def _gather(self, images: list[Tensor], videos: list[Any], percent: int, frames: int) -> list[Tensor]:
        """Pictures and clips as [1, 3, frames, height, width] in 0..1."""
        area = percent * 10_000 or usual_area(self._backbone)
        pixels: list[Tensor] = []
        if images and self._kind != "motion":
            for batch in images:
                check_media(batch)
                for picture in batch:
                    size = fitting_size(picture, area, self._conditions.multiple)
                    pixels.append(prepare_pictures(picture[None], size))
            images = []
        clips = [*images, *(clip.get_components().images for clip in videos)]
        for clip in clips:
            check_media(clip)
            size = fitting_size(clip[0], area, self._conditions.multiple)
            pixels.append(prepare_clip(clip, size, frames))
        if not pixels:
            raise MediaError("There is nothing to learn from: connect pictures to `images` or clips to `video`.")
        return pixels

    def _spread(self, captions: Sequence[str]) -> list[str]:
        """One caption per picture or clip: the lines of one text, or the items of a list (empty ones count)."""
        if len(captions) > 1:
            lines = [" ".join(item.split()) or f"<{self._name}>" for item in captions]
        else:
            lines = [line.strip() for line in "".join(captions).splitlines() if line.strip()]
        if lines and len(lines) != len(self._pixels):
            raise CCVDError(
                f"There are {len(lines)} captions for {len(self._pixels)} pictures or clips: write one line for each, "
                "in the same order, or leave the captions empty."
            )
        return lines or [f"<{self._name}>"] * len(self._pixels)

    def run(self) -> io.NodeOutput:
        job = self._job()
        if self._name in self._shelf.names():
            return self._already_there(job)
        self._shelf.check_can_add(self._name)
        earlier, unread = self._earlier()
        self._notes = [
            *self._conditions.notes,
            *unread,
            *sibling_notes(earlier, self._backbone),
            *notes_on_media(self._backbone, self._pixels),
        ]
        media = [self._example(pixels, caption) for pixels, caption in self._media()]
        need = self._check_memory([example.latents for example in media])
        # The retention loss depends on what was learned before: progress beside other concepts is not taken up.
        progress = job_digest({"job": job, "earlier": [concept.name for concept in earlier]}, [])
        checkpoint = Checkpoint(self._shelf.folder / ".progress" / f"{self._name}.safetensors", progress)
        # Text contexts are made now, while the text encoder may have the memory.
        with torch.inference_mode(False):
            learner = ConceptLearner(
                self._backbone,
                media,
                self._name,
                self._kind,
                self._class_words,
                self._settings,
                earlier,
                self._model.load_device,
            )
            self._negative = self._reader("").context.clone()
        with training_mode(self._model, need.total_bytes) as diffusion_model:
            # Loading may have replaced modules: look them up again.
            learner.use_backbone(self._backbone_of(diffusion_model))
            summary = self._announce(learner, need)
            self._learn(learner, checkpoint)
            preview = self._preview(learner, Attachment(learner.backbone, [learner.live_adapters()]))
            concept = learner.concept(picture_bytes(preview))
        concept = replace(concept, settings={**concept.settings, "job": job})
        self._shelf.add(concept)
        checkpoint.remove()
        LEARNED_HERE.add((self._shelf_name, self._name))
        picture = loss_picture(checkpoint.losses, f"<{self._name}>: loss")
        report = (
            f"Learned <{self._name}> ({self._kind}, {self._class_words!r}) in {learner.done} steps, "
            f"{summary}. Loss {mean(checkpoint.losses[:20]):.4f} -> {mean(checkpoint.losses[-20:]):.4f}.\n"
            f"Write <{self._name}> in a prompt of Aggregate Adapters to use it."
        )
        report = "\n".join([report, *self._notes])
        return io.NodeOutput(
            LibrarySelection(self._shelf), picture, report, ui=ui.PreviewImage(picture, cls=self._node)
        )

    def _job(self) -> str:
        """Identifies these pictures, captions and settings on this base."""
        description = {
            "name": self._name,
            "kind": self._kind,
            "class_words": self._class_words,
            "captions": self._captions,
            "settings": asdict(self._settings),
            "clip_vision": self._conditions.clip_vision is not None,
            "base": asdict(self._backbone.fingerprint),
        }
        return job_digest(description, self._pixels)

    def _media(self) -> Iterator[tuple[Tensor, str]]:
        """Pixels and caption of every example: a picture is one as it is, and one as a still clip."""
        still_frames = self._settings.still_frames
        for pixels, caption in zip(self._pixels, self._captions, strict=True):
            yield pixels, caption
            if pixels.shape[2] == 1 and still_frames > 1:
                yield still_clip(pixels, still_frames), caption

    def _example(self, pixels: Tensor, caption: str) -> Example:
        """Pixels [1, 3, frames, height, width] as model latents, with what the model is shown beside them."""
        frames = pixels[0].permute(1, 2, 3, 0)
        latents = self._model.model.process_latent_in(self._vae.encode(frames)).float().cpu()[0]
        return Example(latents, caption, self._conditions.shown(pixels, latents))

    def _earlier(self) -> tuple[list[Concept], list[str]]:
        """What to stay apart from, and a warning for each that cannot be read. All of a library fit the same models."""
        earlier, left_out = self._shelf.load_usable(self._shelf.names())
        check_fits_base(earlier, self._backbone)
        unread = [f"Not kept apart from: {problem}" for problem in (*self._shelf.problems(), *left_out.values())]
        for warning in unread:
            logging.warning("CCVD: learning <%s>: %s", self._name, warning)
        return earlier, unread

    def _already_there(self, job: str) -> io.NodeOutput:
        """The name is taken: fine if by this very job, never overwritten otherwise."""
        concept = self._shelf.load(self._name)
        if concept.settings.get("job") != job:
            raise LibraryError(
                f"The library {self._shelf_name!r} already has a concept <{self._name}>, learned with other pictures "
                "or settings. Choose another name, or delete its file in ComfyUI/models/ccvd to learn it again."
            )
        LEARNED_HERE.add((self._shelf_name, self._name))
        picture = loss_picture([], f"<{self._name}> was learned before with the same inputs")
        report = f"<{self._name}> was learned before with the same inputs: nothing to do."
        return io.NodeOutput(
            LibrarySelection(self._shelf), picture, report, ui=ui.PreviewImage(picture, cls=self._node)
        )

    def _check_memory(self, latents: Sequence[Tensor]) -> LearningNeed:
        """What learning needs beside the model; refuses when it cannot fit."""
        device = self._model.load_device
        need = learning_need(
            self._backbone,
            self._kind,
            self._settings.rank,
            max(latents, key=Tensor.numel).shape,
            self._settings.batch,
            self._backbone.dtype.itemsize,
        )
        memory.free_memory(need.total_bytes + self._model.model_size(), device)
        free: Any = memory.get_free_memory(device)
        check_fits(need, free)
        if need.total_bytes + self._model.model_size() - self._model.loaded_size() > free:
            logging.warning(
                "CCVD: the model does not fit into the GPU beside learning: it is partly offloaded, and slower"
            )
        return need

    def _announce(self, learner: ConceptLearner, need: LearningNeed) -> str:
        """Say before the first step what is going to happen and how long it will take."""
        seconds = learner.estimate_seconds()
        summary = (
            f"{need.parameters / 1e6:.2f} million parameters, {self._settings.steps} steps, about "
            f"{need.total_bytes / GIB:.2f} GB beside the model and {minutes(seconds)}"
        )
        logging.info("CCVD: learning <%s>: %s", self._name, summary)
        self._say(" ".join([f"Learning <{self._name}>: {summary}.", *self._notes]))
        return summary

    def _learn(self, learner: ConceptLearner, checkpoint: Checkpoint) -> None:
        if checkpoint.restore(learner):
            self._say(f"Going on with <{self._name}> from step {learner.done}")
        total, saved = self._settings.steps, time.monotonic()
        bar, clock = comfy.utils.ProgressBar(total, node_id=self._node_id), Clock(learner.done, total)
        attachment = Attachment(learner.backbone, [learner.live_adapters()])
        try:
            with attachment, learner.backbone.checkpointing():
                while learner.done < total:
                    memory.throw_exception_if_processing_interrupted()
                    report = learner.step(attachment)
                    checkpoint.losses.append(report.loss)
                    bar.update_absolute(report.step, total)
                    if report.step % 5 == 0 or report.step == 1:
                        loss = mean(checkpoint.losses[-20:])
                        self._say(
                            f"step {report.step}/{total}  loss {loss:.4f}  {minutes(clock.left(report.step))} left"
                        )
                    if self._preview_every and report.step % self._preview_every == 0 and report.step < total:
                        self._show(bar, report.step, self._preview(learner, attachment))
                    if time.monotonic() - saved > CHECKPOINT_SECONDS:
                        checkpoint.save(learner)
                        saved = time.monotonic()
        except BaseException:
            # Cancel arrives as a BaseException: whatever stopped the loop, the work so far is kept.
            checkpoint.save(learner)
            raise

    def _preview(self, learner: ConceptLearner, attachment: Attachment) -> Tensor:
        """The concept as it looks now, on its first caption: one frame [height, width, 3] in 0..1."""
        positive, negative = learner.preview_prompts(self._negative)
        generator = torch.Generator().manual_seed(self._settings.seed)
        noise = torch.randn(1, *learner.latent_shape, generator=generator).to(self._model.load_device)
        attached = attachment.is_attached
        if not attached:
            attachment.attach()
        try:
            latents = sample(
                learner.backbone,
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
        return frames.flatten(0, -4)[-1].float().clamp(0, 1).cpu()

    def _show(self, bar: comfy.utils.ProgressBar, step: int, frame: Tensor) -> None:
        picture = Image.fromarray((frame * 255).byte().numpy())
        bar.update_absolute(step, self._settings.steps, ("JPEG", picture, 512))

    def _say(self, text: str) -> None:
        """Show a line under the node."""
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)


def fitting_size(picture: Tensor, area: int, multiple: int) -> tuple[int, int]:
    """Training size of a picture [height, width, channels]: never more pixels than it has, but one cell at least."""
    height, width = picture.shape[:2]
    return training_size(height, width, area=max(multiple**2, min(area, height * width)), multiple=multiple)


def mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
