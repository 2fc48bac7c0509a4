"""Learning one concept: adapters, concept tokens, retention and motion loss over any backbone (DESIGN 2.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.concept import Concept, Kind, LowRank, check_name
from ..concepts.file import check_words_fit
from ..errors import LearningError
from ..prompts.aggregate import row_gates
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.concept_tokens import PlacedTokens, layer_contexts, place_tokens
from ..prompts.mentions import Prompt, mention_rows, named_concepts, parse_prompt
from ..regions.regional_prompt import predict_prompts, rows_of_one_length
from .retention import remember_all
from .step import LearningSettings, draw_step, new_adapters, rate_share, video_loss

FORWARDS_PER_STEP = 4.0
"""A training step in forward passes: forward, recomputation, and a backward pass of about two."""


@dataclass(frozen=True)
class Example:
    """One picture or clip to learn from: latents as the model wants them, its caption with `<name>` in it, and what the
    model is shown with it (see `ConceptPrompt`)."""

    latents: Float[Tensor, "channels frames height width"]
    caption: str
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """What one step did: `loss` on the video, `retention` penalty (before lambda)."""

    step: int
    loss: float
    retention: float


@dataclass(frozen=True)
class _Lesson:
    """An example with its caption encoded once."""

    latents: Tensor
    context: Float[Tensor, "rows width"]
    prompt: Prompt
    pieces: tuple[str, ...]
    shown: Mapping[str, Any]


class ConceptLearner:
    """Learns one concept step by step; its whole state can be saved after any step and taken up again.

    Raises CCVDError on bad input and LearningError when the loss stops being a number; the parameters are then those
    of the last good step.
    """

    def __init__(
        self,
        backbone: Backbone,
        examples: Sequence[Example],
        name: str,
        kind: Kind,
        class_words: str,
        settings: LearningSettings,
        earlier: Sequence[Concept] = (),
        device: torch.device | None = None,
    ) -> None:
        if not examples:
            raise LearningError("There is nothing to learn from: connect at least one picture or clip.")
        self.backbone, self._settings = backbone, settings
        self._name, self._class_words = check_name(name), class_words
        self._kind: Kind = kind
        self._device = device or examples[0].latents.device
        if kind == "motion" and any(example.latents.shape[1] < 2 for example in examples):
            raise LearningError("A motion is learned from clips of at least 5 frames; got single pictures.")
        self._lessons = [self._prepare(example) for example in examples]
        self._adapters = {
            site: (nn.Parameter(lora.a.to(self._device)), nn.Parameter(lora.b.to(self._device)))
            for site, lora in new_adapters(backbone, kind, settings).items()
        }
        words = self._word_rows()
        check_words_fit(name, backbone.layers, words, backbone.text_width)
        self._tokens = nn.Parameter(
            torch.zeros(backbone.layers, words, backbone.text_width, device=self._device),
            requires_grad=settings.tokens,
        )
        groups: list[dict[str, Any]] = [
            {"params": [p for ab in self._adapters.values() for p in ab], "lr": settings.lr}
        ]
        if settings.tokens:
            groups.append({"params": [self._tokens], "lr": settings.token_lr, "weight_decay": 0.0})
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-2)
        self._retention = remember_all(
            settings.retention_form,
            ({site: lora.b for site, lora in concept.adapters.items() if site in self._adapters} for concept in earlier)
            if settings.retention
            else (),
        ).to(self._device)
        self.done = 0

    def _prepare(self, example: Example) -> _Lesson:
        caption = example.caption.strip() or f"<{self._name}>"
        if self._name not in named_concepts(caption):
            raise LearningError(
                f"The caption {caption!r} does not say where the concept is: write <{self._name}> in it, "
                f"for example 'a <{self._name}> on grass'."
            )
        prompt = parse_prompt(caption, {self._name: self._class_words})
        encoded = self.backbone.encode(prompt.text)
        return _Lesson(
            self._kept(example.latents),
            self._kept(encoded.context),
            prompt,
            encoded.pieces,
            {key: self._kept(value) if torch.is_tensor(value) else value for key, value in example.shown.items()},
        )

    def _kept(self, tensor: Tensor) -> Tensor:
        """A copy to learn from, on the learner's device."""
        return tensor.detach().to(self._device, torch.float32).clone()

    def _word_rows(self) -> int:
        lesson = self._lessons[0]
        return len(mention_rows(lesson.pieces, lesson.prompt.mentions[0]))

    def use_backbone(self, backbone: Backbone) -> None:
        """Go on with the same model after it was loaded anew."""
        self.backbone = backbone

    @property
    def latent_shape(self) -> torch.Size:
        """Shape of the first example's latents."""
        return self._lessons[0].latents.shape

    def preview_prompts(self, negative: Float[Tensor, "rows width"]) -> tuple[ConceptPrompt, ConceptPrompt]:
        """The first caption with the concept as it is now, and a plain prompt of this context."""
        return self.prompt(self._lessons[0]), self._plain(negative, self._lessons[0])

    def _plain(self, context: Float[Tensor, "rows width"], lesson: _Lesson) -> ConceptPrompt:
        """A prompt in which the concept takes no part, shown what the lesson is shown."""
        nothing = torch.zeros(self.backbone.layers, 1, device=self._device)
        context = context.to(self._device, torch.float32)
        return ConceptPrompt(context, (), nothing, torch.zeros(len(context), 1, device=self._device), lesson.shown)

    def live_adapters(self) -> dict[str, LowRank]:
        """The adapters being learned, with their gradients."""
        return {site: LowRank(a, b) for site, (a, b) in self._adapters.items()}

    def prompt(self, lesson: _Lesson) -> ConceptPrompt:
        """A lesson's prompt with this concept alone at full weight, its text adapters on its own rows."""
        placed = place_tokens(lesson.prompt, lesson.pieces, {self._name: self._tokens})
        return ConceptPrompt(
            lesson.context,
            placed,
            torch.ones(self.backbone.layers, 1, device=self._device),
            self._own_rows(lesson, placed),
            lesson.shown,
        )

    def _own_rows(self, lesson: _Lesson, placed: Sequence[PlacedTokens]) -> Float[Tensor, "rows one"]:
        rows = {self._name: [row for tokens in placed for row in tokens.rows]}
        return row_gates(len(lesson.context), rows, [self._name], self._settings.own_words_only).to(self._device)

    @torch.no_grad()
    def estimate_seconds(self) -> float:
        """How long the remaining steps will take, from one forward pass of the largest example, which is run here."""
        lesson = max(self._lessons, key=lambda lesson: lesson.latents.numel())
        clean = lesson.latents.expand(self._settings.batch, *lesson.latents.shape)
        t = self.backbone.noise_path.level(torch.full((len(clean),), 0.5, device=self._device))
        plain = self._plain(lesson.context, lesson)
        began = time.perf_counter()
        predict_prompts(self.backbone, clean, t, [plain] * len(clean)).sum().item()
        return FORWARDS_PER_STEP * (time.perf_counter() - began) * (self._settings.steps - self.done)

    def step(self, attachment: Attachment) -> StepReport:
        """One optimizer step. `attachment` must be attached to the backbone."""
        settings = self._settings
        drawn = draw_step([lesson.latents.shape for lesson in self._lessons], settings, self.done)
        lessons = [self._lessons[row] for row in drawn.rows]
        clean = torch.stack([lesson.latents for lesson in lessons])
        path, noise = self.backbone.noise_path, drawn.noise.to(clean)
        level = path.level(drawn.times.to(clean))
        noisy, target = path.mix(clean, noise, level), path.target(clean, noise, level)
        loss = torch.zeros((), device=clean.device)
        for rows in rows_of_one_length([self.prompt(lesson) for lesson in lessons]):
            attachment.set_adapters([self.live_adapters()])
            prompts = [self.prompt(lessons[row]) for row in rows]
            with attachment.activate(prompts, clean.device):
                prediction = predict_prompts(self.backbone, noisy[rows], level[rows], prompts).float()
                part = video_loss(prediction, target[rows], self._kind, settings) * (len(rows) / len(lessons))
                # Inside `activate`: recomputed blocks read the attachment's state again.
                part.backward()
            loss += part.detach()
        apart = self._retention.loss({site: b for site, (_, b) in self._adapters.items()}).to(loss)
        if apart.requires_grad:
            (settings.retention * apart).backward()
        self._update(loss + settings.retention * apart.detach())
        self.done += 1
        return StepReport(self.done, loss.item(), apart.item())

    def _update(self, total: Tensor) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if not (torch.isfinite(total) and torch.isfinite(norm)):
            self._optimizer.zero_grad()
            became = "too steep to follow" if torch.isfinite(total) else total.item()
            raise LearningError(
                f"The loss became {became} at step {self.done + 1}. Lower the learning rate (a third of it is a good "
                "next try), or look for damaged pictures."
            )
        share = rate_share(self.done, self._settings.steps)
        for group, lr in zip(self._optimizer.param_groups, (self._settings.lr, self._settings.token_lr), strict=False):
            group["lr"] = lr * share
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, as plain tensors (safetensors can hold it)."""
        state = {"done": torch.tensor(self.done), "tokens": self._tokens.detach()}
        for site, (a, b) in self._adapters.items():
            state[f"{site}.a"], state[f"{site}.b"] = a.detach(), b.detach()
        for index, values in self._optimizer.state_dict()["state"].items():
            for key, value in values.items():
                state[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
        return {key: value.contiguous() for key, value in state.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner built with the same arguments. Raises LearningError if it does not fit."""
        mine = {key: value.shape for key, value in self.state().items() if not key.startswith("optimizer.")}
        theirs = {key: value.shape for key, value in state.items() if not key.startswith("optimizer.")}
        if mine != theirs:
            differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
            raise LearningError(
                f"The saved progress does not fit these settings ({', '.join(differ[:3])}); start afresh."
            )
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                optimizer["state"].setdefault(int(index), {})[name] = value
        for site, (a, b) in self._adapters.items():
            a.copy_(state[f"{site}.a"])
            b.copy_(state[f"{site}.b"])
        self._tokens.copy_(state["tokens"])
        self._optimizer.load_state_dict(optimizer)
        self.done = int(state["done"])

    @torch.no_grad()
    def concept(self, preview: bytes | None = None) -> Concept:
        """The concept as learned so far."""
        keys, class_keys = self._keys()
        return Concept(
            self._name,
            self._kind,
            self._class_words,
            {
                site: LowRank(a.detach().float().cpu().clone(), b.detach().float().cpu().clone())
                for site, (a, b) in self._adapters.items()
            },
            self._tokens.detach().float().cpu().clone(),
            keys.cpu(),
            class_keys.cpu(),
            self.backbone.fingerprint,
            settings={**asdict(self._settings), "steps_done": self.done},
            preview=preview,
        )

    def _keys(self) -> tuple[Float[Tensor, "layers width"], Float[Tensor, "layers width"]]:
        """h and its class-words twin: mean over the concept's rows on its training prompts, unit norm (DESIGN 2.2)."""
        own, bare = [], []
        for lesson in self._lessons:
            placed = place_tokens(lesson.prompt, lesson.pieces, {self._name: self._tokens.detach()})
            rows = sorted({row for tokens in placed for row in tokens.rows})
            own.append(layer_contexts(lesson.context, self.backbone.layers, placed)[:, rows])
            bare.append(lesson.context[rows].expand(self.backbone.layers, -1, -1))
        return tuple(F.normalize(torch.cat(parts, 1).mean(1), dim=-1) for parts in (own, bare))  # type: ignore[return-value]
