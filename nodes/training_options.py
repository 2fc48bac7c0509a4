"""Training Options: what trainers let their users set, for Learn Concept."""

from __future__ import annotations

from comfy_api.latest import io

from ..ccvd_core.concepts.kinds import LAYERS
from ..ccvd_core.learning.optimizers import OPTIMIZERS
from ..ccvd_core.learning.step import KEEPS, TIMESTEPS
from .host.libraries import TrainingOptionsType
from .host.search_words import SEARCH_WORDS


class TrainingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_TrainingOptions",
            display_name="Training Options",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_TrainingOptions"],
            description=(
                "What other trainers let you set. Learn Concept does without: it has what suits the base model. "
                "Connect it to options."
            ),
            inputs=[
                io.Combo.Input(
                    "optimizer",
                    options=list(OPTIMIZERS),
                    default="adamw",
                    tooltip="adamw8bit takes a quarter of the memory (package bitsandbytes); adafactor takes even "
                    "less; prodigy finds its learning rate itself (package prodigyopt).",
                ),
                io.Int.Input(
                    "batch",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Pictures or clips per step; memory grows with it. 0: what suits this base model.",
                ),
                io.Float.Input(
                    "weight_decay",
                    default=0.01,
                    min=0.0,
                    max=0.99,
                    step=0.001,
                    round=False,
                    tooltip="How strongly the adapters are pulled towards nothing.",
                ),
                io.Combo.Input(
                    "timesteps",
                    options=list(TIMESTEPS),
                    default="usual",
                    tooltip="Which levels of noise are learned most: usual is what suits this base model; shift and "
                    "high noise learn layout and motion more, uniform and sigmoid learn detail more.",
                ),
                io.Float.Input(
                    "caption_dropout",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="Share of the steps that see the concept's name without the rest of the caption.",
                ),
                io.Float.Input(
                    "ema",
                    default=0.0,
                    min=0.0,
                    max=0.9999,
                    step=0.0001,
                    round=False,
                    tooltip="Keep a running mean of the adapters instead of the last step: 0.99 is a mean of about a "
                    "hundred steps. 0 switches it off.",
                ),
                io.Float.Input(
                    "frame_offset",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="Offset noise, anew for each frame: a motion then takes on less of its clips' colours. "
                    "0.1 is usual; 0 switches it off.",
                ),
                io.Float.Input(
                    "unmasked",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="How much what is outside the masks of Learn Concept counts. 1: as much as what is inside.",
                ),
                io.Combo.Input(
                    "layers",
                    options=list(LAYERS),
                    default="usual",
                    tooltip="Which layers are trained: usual is what suits the kind; text attention, who and how it "
                    "looks; all, text attention, self-attention and feed-forward; queries and keys, half of the kind's "
                    "attention, for motions that take on the look of their clips.",
                ),
                io.Float.Input(
                    "class_weight",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=False,
                    tooltip="Weight of the loss on class pictures, which the model itself makes of the class words "
                    "before the first step: they hold the model to what it knew (prior preservation). 1 is usual, and "
                    "makes each step take about twice as long; 0 switches it off.",
                ),
                io.Int.Input(
                    "class_pictures",
                    default=8,
                    min=1,
                    max=100,
                    tooltip="How many class pictures are made, at the sizes of your own; each takes 20 sampling steps. "
                    "Only with class_weight.",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(KEEPS),
                    default="last",
                    tooltip="Which step becomes the concept: the last, or the best by a validation loss, on one in ten "
                    "pictures or clips held out of ten or more, on a lesson's own otherwise.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=50,
                    min=1,
                    max=100000,
                    tooltip="Steps between two validation losses; each costs as much as four steps at most. Only with "
                    "keep best.",
                ),
            ],
            outputs=[TrainingOptionsType.Output("options")],
        )

    @classmethod
    def execute(
        cls,
        optimizer: str,
        batch: int,
        weight_decay: float,
        timesteps: str,
        caption_dropout: float,
        ema: float,
        frame_offset: float,
        unmasked: float,
        layers: str,
        class_weight: float,
        class_pictures: int,
        keep: str,
        validate_every: int,
    ) -> io.NodeOutput:
        chosen = {
            "optimizer": optimizer,
            "weight_decay": weight_decay,
            "caption_dropout": caption_dropout,
            "ema": ema,
            "frame_offset": frame_offset,
            "unmasked": unmasked,
            "layers": layers,
            "class_weight": class_weight,
            "class_pictures": class_pictures,
            "keep": keep,
            "validate_every": validate_every,
            **TIMESTEPS[timesteps],
        }
        return io.NodeOutput({**chosen, "batch": batch} if batch else chosen)
