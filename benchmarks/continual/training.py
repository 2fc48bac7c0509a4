"""The training loop that all rivals share, and what a rival may change in it.

Same data, rank, steps, optimizer and random numbers as `ccvd_core.learning.ConceptLearner` without concept tokens and
retention (a test compares the two), so that a rival differs from our rows in its own idea only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from bases import Base
from jaxtyping import Float
from lessons import LessonPlan
from tasks import class_caption, identified_caption
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import LowRank
from ccvd_core.concepts.kinds import Kind
from ccvd_core.learning.example import Example
from ccvd_core.learning.losses import video_loss
from ccvd_core.learning.step import LearningSettings, draw_step, new_adapters, rate_share
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts

Adapters = Mapping[str, LowRank]
"""One LoRA by Linear id."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees. `captions` have the task's identifier, `class_captions` the class words alone."""

    noisy: Float[Tensor, "batch channels frames height width"]
    t: Float[Tensor, " batch"]
    target: Float[Tensor, "batch channels frames height width"]
    captions: tuple[str, ...]
    class_captions: tuple[str, ...]

    def half(self) -> Batch:
        """The first half of the rows, at least one: distillation on it costs half as much."""
        n = max(1, len(self.captions) // 2)
        return Batch(self.noisy[:n], self.t[:n], self.target[:n], self.captions[:n], self.class_captions[:n])


@dataclass(frozen=True)
class TaskData:
    """The pictures or clips of one task with their captions."""

    kind: Kind
    latents: tuple[Float[Tensor, "channels frames height width"], ...]
    captions: tuple[str, ...]
    class_captions: tuple[str, ...]

    def batch(self, backbone: Backbone, settings: LearningSettings, step: int) -> Batch:
        """The batch of a step: the rows, noise and times that ConceptLearner draws."""
        drawn = draw_step([latents.shape for latents in self.latents], settings, step)
        rows, t = drawn.rows, drawn.times
        clean, path = torch.stack([self.latents[row] for row in rows]), backbone.noise_path
        noisy, target = path.mix(clean, drawn.noise, t), path.target(clean, drawn.noise, t)
        return Batch(
            noisy, t, target, tuple(self.captions[r] for r in rows), tuple(self.class_captions[r] for r in rows)
        )


def task_data(base: Base, task: LessonPlan, settings: LearningSettings) -> TaskData:
    """A task's examples with captions that rivals can read."""
    examples = encoded_examples(base, task, settings.still_frames)
    return TaskData(
        task.kind,
        tuple(example.latents for example in examples),
        tuple(identified_caption(base, task, example.caption) for example in examples),
        tuple(class_caption(task, example.caption) for example in examples),
    )


@cache
def encoded_examples(base: Base, task: LessonPlan, still_frames: int) -> tuple[Example, ...]:
    """A task's examples, passed through the VAE once for all methods and seeds."""
    return tuple(task.examples(base, still_frames))


class Model:
    """The base with LoRAs that act on every word at full strength."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._contexts: dict[str, Tensor] = {}

    def prompt(self, text: str, count: int) -> ConceptPrompt:
        """A plain text on which `count` adapters act at weight 1."""
        if text not in self._contexts:
            self._contexts[text] = self.backbone.encode(text).context.float()
        context = self._contexts[text]
        return ConceptPrompt(context, (), torch.ones(self.backbone.layers, count), torch.ones(len(context), count))

    def predict(self, noisy: Tensor, t: Tensor, captions: Sequence[str], adapters: Sequence[Adapters]) -> Tensor:
        """The model's prediction with the sum of `adapters`, shape of `noisy`."""
        prompts = [self.prompt(caption, len(adapters)) for caption in captions]
        with Attachment(self.backbone, adapters) as attachment, attachment.activate(prompts, noisy.device):
            return predict_prompts(self.backbone, noisy, t, prompts).float()


class Rival(ABC):
    """A continual method: where a task's weights start, what joins the loss, what is kept, what acts afterwards."""

    def __init__(self, model: Model, strength: float) -> None:
        """`strength` is the one setting that each method searches over (see its file)."""
        self.model, self.strength = model, strength

    @abstractmethod
    def start(self, fresh: Adapters) -> Adapters:
        """The LoRA to begin a task with; `fresh` is a new one (A random, B zero) on the task's Linears."""

    @abstractmethod
    def acting(self, live: Adapters) -> Sequence[Adapters]:
        """What acts while `live` is trained."""

    def extra(self, batch: Batch, live: Adapters) -> Float[Tensor, ""]:
        """What joins the loss; nothing, unless the method says so."""
        return torch.zeros(())

    @abstractmethod
    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        """The task is learned: keep what the next one needs. No pictures, clips or latents may be kept."""

    @abstractmethod
    def adapters(self, method: str) -> Sequence[Adapters]:
        """What acts, at weight 1 on every word, in use. `method` is the row's name, where one training has several."""


class OneLora(Rival):
    """A rival that trains one and the same LoRA on all tasks."""

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__(model, strength)
        self.weights: dict[str, LowRank] = {}

    def start(self, fresh: Adapters) -> Adapters:
        return {site: self.weights.get(site, lora) for site, lora in fresh.items()}

    def acting(self, live: Adapters) -> Sequence[Adapters]:
        # Text adapters stay on while a motion is learned, and the other way round: it is one LoRA.
        return [{**self.weights, **live}]

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        self.weights.update(frozen(live))

    def distilled(self, batch: Batch, captions: Sequence[str], live: Adapters) -> Float[Tensor, ""]:
        """|eps_{u-1}(x_t, c) - eps_u(x_t, c)|^2: how far the LoRA has moved from where the last task left it."""
        with torch.no_grad():
            before = self.model.predict(batch.noisy, batch.t, captions, [self.weights])
        return F.mse_loss(self.model.predict(batch.noisy, batch.t, captions, self.acting(live)), before)

    def adapters(self, method: str) -> Sequence[Adapters]:
        return [self.weights]


def trainable(adapters: Adapters) -> dict[str, LowRank]:
    """Copies that gradients reach."""
    return {
        site: replace(lora, a=lora.a.detach().clone().requires_grad_(), b=lora.b.detach().clone().requires_grad_())
        for site, lora in adapters.items()
    }


def frozen(adapters: Adapters) -> dict[str, LowRank]:
    """Copies that gradients do not reach."""
    return {
        site: replace(lora, a=lora.a.detach().clone(), b=lora.b.detach().clone()) for site, lora in adapters.items()
    }


def parameters(adapters: Adapters) -> list[Tensor]:
    """A and B of every Linear, in order."""
    return [part for lora in adapters.values() for part in (lora.a, lora.b)]


def learn_task(rival: Rival, data: TaskData, settings: LearningSettings) -> list[float]:
    """Let a rival learn one task; the loss of every step."""
    backbone = rival.model.backbone
    live = trainable(rival.start(new_adapters(backbone, data.kind, settings)))
    weights = parameters(live)
    optimizer = torch.optim.AdamW(weights, settings.lr, betas=(0.9, 0.99), weight_decay=1e-2)
    losses = []
    for step in range(settings.steps):
        batch = data.batch(backbone, settings, step)
        prediction = rival.model.predict(batch.noisy, batch.t, batch.captions, rival.acting(live))
        loss = video_loss(prediction, batch.target, data.kind, settings)
        (loss + rival.extra(batch, live)).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate_share(step, settings.steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    rival.finish(live, data, settings)
    return losses
