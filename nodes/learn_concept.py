"""Learn Concept: the training node's inputs and outputs; `host/lesson.py` does the work."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ccvd_core.concepts.kinds import KINDS
from ..ccvd_core.learning.clips import WINDOWS
from ..ccvd_core.learning.retention import FORMS
from .host.lesson import Lesson
from .host.libraries import LibraryType, TrainingOptionsType
from .host.made_here import vanished
from .host.search_words import SEARCH_WORDS

LISTS = ("images", "video", "captions", "masks")
"""Inputs of which a list is meant: one item per picture or clip."""


class LearnConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_LearnConcept",
            display_name="Learn Concept",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_LearnConcept"],
            description=(
                "Teach the model one new concept from a few pictures or clips: a subject, a motion or a style. It is "
                "kept as a small file in a concept library; write <name> in a prompt to use it."
            ),
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The base model. It is not changed."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.String.Input(
                    "name",
                    default="rex",
                    tooltip="How you will write it in prompts: <rex>. Letters a-z, digits, - and _.",
                ),
                io.String.Input(
                    "class_words",
                    default="dog",
                    tooltip="What kind of thing it is, in words the model knows: dog, car, moving up, style.",
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="subject",
                    tooltip="subject and style learn from pictures or clips; motion learns only how clips move.",
                ),
                io.String.Input(
                    "library",
                    default="my_concepts",
                    tooltip="The library to add it to: a folder inside ComfyUI/models/ccvd.",
                ),
                io.Int.Input(
                    "steps", default=0, min=0, max=100000, tooltip="Training steps. 0: what suits this base model."
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Size of the adapters. 0: what suits this base model. More can learn finer detail and "
                    "makes larger files.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    round=False,
                    tooltip="0: what suits this base model. Lower it when the loss jumps or becomes NaN.",
                ),
                io.Float.Input(
                    "retention",
                    default=0.01,
                    min=0.0,
                    max=1000.0,
                    step=0.001,
                    round=False,
                    tooltip="How strongly the new concept is kept apart from those learned before; 0 switches it off.",
                ),
                io.Combo.Input(
                    "retention_form",
                    options=list(FORMS),
                    default="subspace",
                    tooltip="subspace: overlap of the adapters' directions. trace: the formula printed in the paper.",
                    advanced=True,
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Same inputs, same file.",
                ),
                io.Int.Input(
                    "megapixels_percent",
                    default=0,
                    min=0,
                    max=400,
                    tooltip="Size to train at, in hundredths of a megapixel; never larger than the pictures. "
                    "25 is 500 x 500. 0: what suits this base model.",
                    advanced=True,
                ),
                io.Int.Input(
                    "length",
                    default=0,
                    min=0,
                    max=129,
                    tooltip="Frames to take from a clip at once (4k + 1), at the base model's own frame rate. 0: what "
                    "suits this base model, 33 on Wan (2 seconds).",
                    advanced=True,
                ),
                io.Int.Input(
                    "still_frames",
                    default=0,
                    min=0,
                    max=129,
                    tooltip="Every picture is learned as a still clip of so many frames too (4k + 1), so that the "
                    "likeness lasts through the video. 1: as a single frame only, which needs least memory. 0: what "
                    "suits this base model.",
                    advanced=True,
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=10000,
                    tooltip="Show a preview every so many steps; 0: none.",
                ),
                io.Float.Input(
                    "noise_from",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    round=False,
                    tooltip="Learn only where clips are at least this noisy, 0 to 1. For Wan 2.2's high noise model: "
                    "0.875, image-to-video 0.9.",
                    advanced=True,
                ),
                io.Float.Input(
                    "noise_to",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    round=False,
                    tooltip="Learn only where clips are at most this noisy, 0 to 1. For Wan 2.2's low noise model: "
                    "0.875, image-to-video 0.9.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "windows",
                    options=list(WINDOWS),
                    default="first",
                    tooltip="What to take of a longer clip: its first `length` frames, up to four parts spread over it "
                    "(uniform), or all of it, in parts.",
                    advanced=True,
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures, a batch or a list, of any size. For a motion: the frames of one clip, at the "
                    "base model's own frame rate.",
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="Clips: one video, or a list of them. They are learned at their own speed.",
                ),
                io.String.Input(
                    "captions",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="One line per picture or clip, with <name> in it: `a <rex> on green grass`. "
                    "Say what is not the concept, and that pictures are `still`. Empty: `<name>` alone.",
                ),
                LibraryType.Input(
                    "after",
                    optional=True,
                    tooltip="Connect another Learn Concept here to learn one after the other in one queue.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="For Wan 2.1 image-to-video models only: reads each clip's first frame, as in your videos.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="One for each picture or clip, white where the concept is: the rest then counts less. "
                    "Painted by hand, or from a segmentation node.",
                ),
                TrainingOptionsType.Input(
                    "options",
                    optional=True,
                    tooltip="From Training Options: optimizer, batch, caption dropout and more.",
                ),
                io.String.Input(
                    "sample_prompts",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="Up to two prompts with <name> in them, one a line, drawn instead of the preview every "
                    "`preview_every` steps: one picture with a row for each, a column for each time.",
                ),
                io.String.Input(
                    "go_on_from",
                    optional=True,
                    default="",
                    tooltip="Name of a concept of the library to teach further with these pictures. It stays as it is: "
                    "the new version is kept under `name`, or as <name_2> if that is the same. Empty: learn afresh.",
                ),
            ],
            outputs=[
                LibraryType.Output("library_out", display_name="library"),
                io.Image.Output("loss_picture"),
                io.String.Output("report"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, library: Any, name: Any, **_: Any) -> str:
        return vanished(library, name)

    @classmethod
    def execute(cls, **lists: Any) -> io.NodeOutput:
        inputs = {key: values[0] if key not in LISTS and values else values for key, values in lists.items()}
        return Lesson(cls.hidden.unique_id, **inputs).run()
