"""Learning one concept: adapters, concept tokens, retention and motion loss over any backbone (DESIGN 2.1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.concept import Concept, LowRank, check_name
from ..concepts.file import check_words_fit
from ..concepts.kinds import Kind
from ..errors import LearningError
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.concept_tokens import encoder_for
from .batch_loss import batch_loss
from .class_pictures import CLASS_STEPS, ClassPictures
from .clock import ENCODER_PASSES_PER_STEP, FORWARDS_PER_STEP, forward_seconds
from .example import Example, ReadExample, concept_keys, read_example
from .go_on import WENT_ON_FROM, lineage, started
from .lesson_prompts import plain_prompt, taught_prompt
from .plan import check_lesson
from .processes import ALONE, Processes
from .retention import remember_all
from .step import LearningSettings, draw_step, new_adapters
from .trained import Learned, Trained
from .validation import Validation, split


@dataclass(frozen=True)
class StepReport:
    """What one step did: `loss` on the video, `retention` penalty (before lambda), `class_loss` (before its weight)."""

    step: int
    loss: float
    retention: float
    class_loss: float = 0.0


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
        start: Concept | None = None,
    ) -> None:
        """`start` is the concept that the lesson goes on from."""
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
        examples, held = split(examples) if settings.keep == "best" else (examples, [])
        self._examples, out = (
            [read_example(example, backbone, name, class_words, self._device) for example in some]
            for some in (examples, held)
        )
        self._name_alone: dict[int, ReadExample] = {}
        if settings.caption_dropout:
            bare = [replace(example, caption=f"<{name}>") for example in examples]
            read = (read_example(example, backbone, name, class_words, self._device) for example in bare)
            self._name_alone = dict(enumerate(read))
        words = self._examples[0].word_rows
        check_words_fit(name, backbone.layers, words, backbone.text_width)
        tokens = torch.zeros(backbone.layers, words, backbone.text_width)
        fresh, self._before = Learned(new_adapters(backbone, kind, settings), tokens), lineage(start)
        self._trained = Trained(started(fresh, start), settings, self._device)
        self._class_pictures = None
        if settings.class_weight:
            self._class_pictures = ClassPictures(backbone, class_words, kind, self._examples, settings)
        sites = self._trained.adapters
        self._validation = None
        if settings.keep == "best":
            self._validation = Validation(self._examples, out, kind, settings, self._trained.current())
        self._retention = remember_all(
            settings.retention_form,
            ({site: lora.b for site, lora in concept.adapters.items() if site in sites} for concept in earlier)
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

    def current(self) -> Learned:
        """The concept as it would be after this step: of the running mean, where there is one."""
        return self._trained.named(self._trained.current())

    def kept(self) -> Learned:
        """The concept as it is kept: of the best step so far, where that was asked for; else of this one."""
        best = None if self._validation is None else self._validation.best()
        if best is None:
            return self.current()
        return self._trained.named([value.to(self._device) for value in best])

    def read_sample(self, prompt: str) -> ReadExample:
        """A prompt to be drawn while learning, at the size of the first example and shown what that is shown.

        Raises LearningError if it does not name the concept.
        """
        first = self._examples[0]
        example = Example(first.latents, prompt, first.shown)
        return read_example(example, self.backbone, self._name, self._class_words, self._device)

    def preview_prompts(
        self, negative: Float[Tensor, "rows width"], learned: Learned, sample: ReadExample | None = None
    ) -> tuple[ConceptPrompt, ConceptPrompt]:
        """A sample or the first caption, with the concept as it is in `learned`, and a plain prompt of this context."""
        example = sample or self._examples[0]
        negative = negative.to(self._device, torch.float32)
        return self.prompt(example, learned.tokens), plain_prompt(self.backbone, negative, example.shown)

    def live_adapters(self) -> dict[str, LowRank]:
        """The adapters being learned, with their gradients."""
        return dict(self._trained.live().adapters)

    def prompt(self, example: ReadExample, tokens: Tensor | None = None) -> ConceptPrompt:
        """An example's prompt with this concept alone at full weight, its text adapters on its own rows.

        `tokens` are the concept's; None: those that are being learned.
        """
        tokens = self._trained.tokens if tokens is None else tokens
        return taught_prompt(self.backbone, example, self._name, tokens, self._settings)

    @torch.no_grad()
    def estimate_seconds(self) -> float:
        """How long the remaining steps will take, from one forward pass of the largest example, which is run here."""
        example = max(self._examples, key=lambda example: example.latents.numel())
        forward = forward_seconds(self.backbone, example, self._settings.batch)
        model, making = FORWARDS_PER_STEP * forward, 0.0
        if self._class_pictures is not None:
            model *= 2
            making = 0.0 if self._class_pictures.made else CLASS_STEPS * self._settings.class_pictures * forward
        if self._validation is not None:
            model += self._validation.passes * forward / self._settings.validate_every
        reading = 0.0
        if self._settings.tokens and self._settings.token_injection == "encoder":
            began = time.perf_counter()
            self.prompt(example)
            reading = ENCODER_PASSES_PER_STEP * (time.perf_counter() - began) * self._settings.batch
        return making + (model + reading) * (self._settings.steps - self.done)

    def prepare(
        self,
        attachment: Attachment,
        say: Callable[[str], None] = lambda text: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """What comes before the first step: class pictures, where they are wanted. `tick` may raise to stop."""
        if self._class_pictures is not None:
            self._class_pictures.make(self.backbone, attachment, say, tick)

    def step(self, attachment: Attachment) -> StepReport:
        """One optimizer step. `attachment` must be attached to the backbone."""
        self.prepare(attachment)
        settings = self._settings
        drawn = draw_step([example.latents.shape for example in self._examples], settings, self.done)
        drawn = drawn.part(self._processes.share(len(drawn.rows)))
        examples = [
            self._name_alone[row] if alone else self._examples[row]
            for row, alone in zip(drawn.rows, drawn.name_alone, strict=True)
        ]
        learned = self._trained.live()
        prompts = [self.prompt(example) for example in examples]
        loss = batch_loss(self.backbone, attachment, learned, examples, prompts, drawn, self._kind, settings)
        kept = torch.zeros_like(loss)
        if self._class_pictures is not None:
            kept = self._class_pictures.loss(self.backbone, attachment, learned, self.done, self._processes)
        self._processes.average([*self._trained.gradients(), loss, kept])
        apart = self._retention.loss({site: low_rank.b for site, low_rank in learned.adapters.items()}).to(loss)
        if apart.requires_grad:
            (settings.retention * apart).backward()
        total = loss + settings.class_weight * kept + settings.retention * apart.detach()
        self._trained.update(total, self.done)
        self.done += 1
        self._validate(attachment)
        return StepReport(self.done, loss.item(), apart.item(), kept.item())

    def _validate(self, attachment: Attachment) -> None:
        if self._validation is not None and self._validation.due(self.done):
            values = self._trained.current()
            learned = self._trained.named(values)
            self._validation.look(self.backbone, attachment, learned, values, self.prompt, self.done)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, as plain tensors (safetensors can hold it)."""
        return self._trained.state(self.done, self._beside())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner built with the same arguments. Raises LearningError if it does not fit."""
        self.done = self._trained.load(state, self._beside())
        if self._class_pictures is not None:
            self._class_pictures.made = self.done > 0

    def _beside(self) -> dict[str, Tensor]:
        parts = (self._class_pictures, self._validation)
        return {key: value for part in parts if part is not None for key, value in part.tensors().items()}

    @torch.no_grad()
    def concept(self, preview: bytes | None = None) -> Concept:
        """The concept as it is kept so far."""
        learned = self.kept()
        keys, class_keys = concept_keys(
            self.backbone, self._examples, self._name, learned.tokens, self._settings.token_injection
        )
        learned, told = learned.copied(), {} if self._validation is None else self._validation.told()
        return Concept(
            self._name,
            self._kind,
            self._class_words,
            learned.adapters,
            learned.tokens,
            keys.cpu(),
            class_keys.cpu(),
            self.backbone.fingerprint,
            settings={**asdict(self._settings), "steps_done": self.done, WENT_ON_FROM: self._before, **told},
            preview=preview,
            token_injection=self._settings.token_injection,
        )
