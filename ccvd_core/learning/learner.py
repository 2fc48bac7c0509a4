"""Learning one concept: adapters, concept tokens, retention and motion loss over any backbone (DESIGN 2.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.concept import Concept, LowRank, check_name
from ..concepts.file import check_words_fit
from ..concepts.kinds import Kind
from ..errors import LearningError
from ..prompts.aggregate import row_gates
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.concept_tokens import PlacedTokens, encoder_for, own_rows
from ..regions.regional_prompt import predict_prompts, rows_of_one_length
from .example import Example, ReadExample, concept_keys, loss_weights, read_example
from .learner_state import pack_state, unpack_state
from .losses import video_loss
from .optimizers import OPTIMIZERS, new_optimizer
from .plan import check_lesson
from .processes import ALONE, Processes
from .retention import remember_all
from .step import LearningSettings, draw_step, new_adapters, rate_share

FORWARDS_PER_STEP = 4.0
"""A training step in forward passes: forward, recomputation, and a backward pass of about two."""
ENCODER_PASSES_PER_STEP = 3.0
"""The same of the text encoder, where tokens are learned before it; nothing of it is recomputed."""


@dataclass(frozen=True)
class StepReport:
    """What one step did: `loss` on the video, `retention` penalty (before lambda)."""

    step: int
    loss: float
    retention: float


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
        processes: Processes = ALONE,
    ) -> None:
        if not examples:
            raise LearningError("There is nothing to learn from: connect at least one picture or clip.")
        processes.check_batch(settings.batch)
        self.backbone, self._settings, self._processes = backbone, settings, processes
        self._name, self._class_words = check_name(name), class_words
        self._kind: Kind = kind
        self._device = device or examples[0].latents.device
        if settings.tokens and settings.token_injection == "encoder":
            encoder_for(backbone, name)
        check_lesson(backbone.video, kind, settings, [example.latents.shape[1] for example in examples])
        self._examples = [read_example(example, backbone, name, class_words, self._device) for example in examples]
        self._name_alone: dict[int, ReadExample] = {}
        if settings.caption_dropout:
            bare = [replace(example, caption=f"<{name}>") for example in examples]
            read = (read_example(example, backbone, name, class_words, self._device) for example in bare)
            self._name_alone = dict(enumerate(read))
        self._adapters = {
            site: (nn.Parameter(lora.a.to(self._device)), nn.Parameter(lora.b.to(self._device)))
            for site, lora in new_adapters(backbone, kind, settings).items()
        }
        words = self._examples[0].word_rows
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
        self._optimizer = new_optimizer(settings.optimizer, groups, settings.weight_decay)
        self._means = [value.detach().clone() for value in self._parameters()] if settings.ema else []
        self._retention = remember_all(
            settings.retention_form,
            ({site: lora.b for site, lora in concept.adapters.items() if site in self._adapters} for concept in earlier)
            if settings.retention
            else (),
        ).to(self._device)
        self.done = 0

    def use_backbone(self, backbone: Backbone) -> None:
        """Go on with the same model after it was loaded anew."""
        self.backbone = backbone

    @property
    def latent_shape(self) -> torch.Size:
        """Shape of the first example's latents."""
        return self._examples[0].latents.shape

    def preview_prompts(self, negative: Float[Tensor, "rows width"]) -> tuple[ConceptPrompt, ConceptPrompt]:
        """The first caption with the concept as it is now, and a plain prompt of this context."""
        return self.prompt(self._examples[0]), self._plain(negative, self._examples[0])

    def _plain(self, context: Float[Tensor, "rows width"], example: ReadExample) -> ConceptPrompt:
        """A prompt in which the concept takes no part, shown what the example is shown."""
        nothing = torch.zeros(self.backbone.layers, 1, device=self._device)
        context = context.to(self._device, torch.float32)
        return ConceptPrompt(context, (), nothing, torch.zeros(len(context), 1, device=self._device), example.shown)

    def live_adapters(self) -> dict[str, LowRank]:
        """The adapters being learned, with their gradients."""
        return {site: LowRank(a, b) for site, (a, b) in self._adapters.items()}

    def prompt(self, example: ReadExample) -> ConceptPrompt:
        """An example's prompt with this concept alone at full weight, its text adapters on its own rows."""
        placed = example.place(self.backbone, self._name, self._tokens, self._settings.token_injection)
        return ConceptPrompt(
            example.context,
            placed,
            torch.ones(self.backbone.layers, 1, device=self._device),
            self._own_rows(example, placed),
            example.shown,
        )

    def _own_rows(self, example: ReadExample, placed: Sequence[PlacedTokens]) -> Float[Tensor, "rows one"]:
        only_own = self._settings.own_words_only
        return row_gates(len(example.context), own_rows(placed), [self._name], only_own).to(self._device)

    @torch.no_grad()
    def estimate_seconds(self) -> float:
        """How long the remaining steps will take, from one forward pass of the largest example, which is run here."""
        example = max(self._examples, key=lambda example: example.latents.numel())
        clean = example.latents.expand(self._settings.batch, *example.latents.shape)
        t = self.backbone.noise_path.level(torch.full((len(clean),), 0.5, device=self._device))
        plain = self._plain(example.context, example)
        began = time.perf_counter()
        predict_prompts(self.backbone, clean, t, [plain] * len(clean)).sum().item()
        model = FORWARDS_PER_STEP * (time.perf_counter() - began)
        reading = 0.0
        if self._settings.tokens and self._settings.token_injection == "encoder":
            began = time.perf_counter()
            self.prompt(example)
            reading = ENCODER_PASSES_PER_STEP * (time.perf_counter() - began) * self._settings.batch
        return (model + reading) * (self._settings.steps - self.done)

    def step(self, attachment: Attachment) -> StepReport:
        """One optimizer step. `attachment` must be attached to the backbone."""
        settings = self._settings
        drawn = draw_step([example.latents.shape for example in self._examples], settings, self.done)
        mine = list(self._processes.share(len(drawn.rows)))
        examples = [
            self._name_alone[drawn.rows[at]] if drawn.name_alone[at] else self._examples[drawn.rows[at]] for at in mine
        ]
        weight = loss_weights(examples, settings.unmasked)
        clean = torch.stack([example.latents for example in examples])
        path, noise = self.backbone.noise_path, drawn.noise[mine].to(clean)
        level = path.level(drawn.times[mine].to(clean))
        noisy, target = path.mix(clean, noise, level), path.target(clean, noise, level)
        loss = torch.zeros((), device=clean.device)
        everyone = [self.prompt(example) for example in examples]
        for rows in rows_of_one_length(everyone):
            attachment.set_adapters([self.live_adapters()])
            prompts = [everyone[row] for row in rows]
            with attachment.activate(prompts, clean.device):
                prediction = predict_prompts(self.backbone, noisy[rows], level[rows], prompts).float()
                counts = None if weight is None else weight[rows]
                part = video_loss(prediction, target[rows], self._kind, settings, counts) * (len(rows) / len(examples))
                # Inside `activate`: recomputed blocks read the attachment's state again.
                part.backward()
            loss += part.detach()
        self._processes.average([*(p.grad for p in self._parameters() if p.grad is not None), loss])
        apart = self._retention.loss({site: b for site, (_, b) in self._adapters.items()}).to(loss)
        if apart.requires_grad:
            (settings.retention * apart).backward()
        self._update(loss + settings.retention * apart.detach())
        self.done += 1
        return StepReport(self.done, loss.item(), apart.item())

    def _parameters(self) -> list[nn.Parameter]:
        return [p for ab in self._adapters.values() for p in ab] + [self._tokens]

    def _update(self, total: Tensor) -> None:
        norm = nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        if not (torch.isfinite(total) and torch.isfinite(norm)):
            self._optimizer.zero_grad()
            became = "too steep to follow" if torch.isfinite(total) else total.item()
            raise LearningError(
                f"The loss became {became} at step {self.done + 1}. Lower the learning rate (a third of it is a good "
                "next try), or look for damaged pictures."
            )
        share = rate_share(self.done, self._settings.steps)
        own_rate = OPTIMIZERS[self._settings.optimizer].own_rate
        rates = (1.0, 1.0) if own_rate else (self._settings.lr, self._settings.token_lr)
        for group, lr in zip(self._optimizer.param_groups, rates, strict=False):
            group["lr"] = lr * share
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._means:
            # Early on the mean of few steps: a decay of 0.99 would remember the start for hundreds.
            kept = min(self._settings.ema, (self.done + 1) / (self.done + 10))
            torch._foreach_lerp_(self._means, [value.detach() for value in self._parameters()], 1 - kept)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, as plain tensors (safetensors can hold it)."""
        return pack_state(self.done, self._tokens, self._adapters, self._optimizer, self._means)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner built with the same arguments. Raises LearningError if it does not fit."""
        self.done = unpack_state(state, self._tokens, self._adapters, self._optimizer, self._means)

    @torch.no_grad()
    def concept(self, preview: bytes | None = None) -> Concept:
        """The concept as learned so far: of the running mean, where there is one."""
        *values, tokens = self._means or self._parameters()
        adapters = dict(zip(self._adapters, zip(values[::2], values[1::2], strict=True), strict=True))
        keys, class_keys = concept_keys(
            self.backbone, self._examples, self._name, tokens.detach(), self._settings.token_injection
        )
        return Concept(
            self._name,
            self._kind,
            self._class_words,
            {
                site: LowRank(a.detach().float().cpu().clone(), b.detach().float().cpu().clone())
                for site, (a, b) in adapters.items()
            },
            tokens.detach().float().cpu().clone(),
            keys.cpu(),
            class_keys.cpu(),
            self.backbone.fingerprint,
            settings={**asdict(self._settings), "steps_done": self.done},
            preview=preview,
            token_injection=self._settings.token_injection,
        )
