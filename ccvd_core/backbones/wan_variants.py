"""The members of the Wan family in ComfyUI: what each is shown while it learns, or why it cannot learn here."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import LearningError

SIBLING = (
    "Learn it on the text-to-video model of the same size instead: a concept of that model works on this one too, and "
    "only a note says that it was learned elsewhere."
)


@dataclass(frozen=True)
class ShownImage:
    """Channels behind the noisy latents, as ComfyUI's conditioning nodes fill them: the clip's own first frame.

    `control`: the channels of a control video, left empty, come before those of the frame. `masked`: a mask says which
    frames are given. `grey`: the frames to be made are encoded in mid grey; else their latents are empty.
    """

    control: bool = False
    masked: bool = True
    grey: bool = True


@dataclass(frozen=True)
class WanVariant:
    """A kind of Wan model: `image` is shown beside the latents; `vace` adds a control video in grey, all to be made."""

    title: str
    image: ShownImage | None = None
    vace: bool = False
    refusal: str = ""
    """Why nothing can be learned on it; empty for models that learn."""

    def check_learns(self) -> None:
        """Raise LearningError for a model that cannot learn here."""
        if self.refusal:
            raise LearningError(f"{self.title} cannot learn a concept here: {self.refusal} {SIBLING}")

    def check_frames(self, frames: int) -> None:
        """Raise LearningError for a picture where the model is shown the first frame of what it learns."""
        if self.image is not None and frames < 2:
            raise LearningError(
                f"{self.title} is shown the first frame of every clip, so a single picture leaves nothing to learn: "
                f"connect clips to `video`. {SIBLING}"
            )


AUDIO = "it follows sound, which a lesson does not have."
POSE = "it follows a pose video and a reference picture, which a lesson does not have."

VARIANTS = {
    "WAN21": WanVariant("This Wan model"),
    "WAN22": WanVariant("This Wan 2.2 model"),
    "WAN21_Vace": WanVariant("Wan VACE", vace=True),
    "WAN21_Camera": WanVariant("Wan Fun Camera"),
    "WAN21_CausalAR": WanVariant("Wan Causal Forcing", refusal="it is distilled to make one frame after another."),
    "WAN21_HuMo": WanVariant("Wan HuMo", refusal=AUDIO),
    "WAN22_S2V": WanVariant("Wan Sound-to-Video", refusal=AUDIO),
    "WAN22_WanDancer": WanVariant("Wan Dancer", refusal=AUDIO),
    "WAN22_Animate": WanVariant("Wan Animate", refusal=POSE),
    "WAN21_SCAIL": WanVariant("Wan SCAIL", refusal=POSE),
    "WAN21_SCAIL2": WanVariant("Wan SCAIL-2", refusal=POSE),
    "WAN21_FlowRVS": WanVariant("Wan FlowRVS", refusal="it finds things in a video and makes none."),
}
"""By the name of ComfyUI's model class."""


def wan_variant(class_name: str, latent_channels: int, in_channels: int) -> WanVariant:
    """The variant of a loaded model: by ComfyUI's class and, within one class, by the channels behind the latents."""
    if class_name not in VARIANTS:
        return WanVariant(f"A model of the kind {class_name}", refusal="this pack does not know what to show it.")
    variant = VARIANTS[class_name]
    if variant.refusal:
        return variant
    camera = class_name == "WAN21_Camera"
    layouts = {
        0: (variant.title, None),
        latent_channels: (f"{variant.title} (with a start image)", ShownImage(masked=False, grey=False)),
        latent_channels + 4: ("Wan image-to-video" if not camera else variant.title, ShownImage(grey=not camera)),
        2 * latent_channels: ("Wan Fun Control", ShownImage(control=True, masked=False, grey=False)),
        2 * latent_channels + 4: ("Wan 2.2 Fun Control", ShownImage(control=True, grey=False)),
    }
    extra = in_channels - latent_channels
    if extra not in layouts:
        return WanVariant(variant.title, refusal=f"it takes {extra} channels behind the clip that CCVD does not know.")
    title, image = layouts[extra]
    return WanVariant(title, image, variant.vace)
