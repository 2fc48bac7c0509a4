"""Class pictures on the demo base: a lesson changes less of what the model says of the class words alone.

Those that are made without guidance do that; made with it, they change more than the lesson itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from base import WEIGHTS
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.model_folders import load_whole_model
from ccvd_core.headless.lesson import encoded
from ccvd_core.headless.media_folder import ReadingSettings, read_media_folder
from ccvd_core.learning import class_pictures
from ccvd_core.learning.class_pictures import ClassPictures
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_prompts import plain_prompt
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.regions.regional_prompt import predict_prompts
from ccvd_core.sampling import sample

STEPS = 60
LEVELS = (0.3, 0.6, 0.9)


def drift(backbone: Backbone, made: ConceptLearner, settings: LearningSettings) -> float:
    """How far the concept moves the prediction on the class words, relative to the prediction, on other pictures."""
    others = ClassPictures(backbone, "dog", "subject", made._examples, replace(settings, class_pictures=6, seed=77))
    moved = whole = 0.0
    with torch.no_grad(), Attachment(backbone, [made.live_adapters()]) as attachment:
        others.make(backbone, attachment, lambda text: None, lambda: None)
        for number, picture in enumerate(others._pictures):
            prompt, clean = others.prompt(backbone, picture), picture.latents[None]
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
            for time in LEVELS:
                level = backbone.noise_path.level(torch.tensor([time]))
                noisy = backbone.noise_path.mix(clean, noise, level)
                plain = predict_prompts(backbone, noisy, level, [prompt])
                with attachment.activate([prompt], noisy.device):
                    acting = predict_prompts(backbone, noisy, level, [prompt])
                moved += float((acting - plain).square().mean())
                whole += float(plain.square().mean())
    return moved / whole


@pytest.mark.slow
def test_class_pictures_hold_the_model_to_what_it_knew(monkeypatch: pytest.MonkeyPatch):
    model = load_whole_model(WEIGHTS, torch.device("cpu"))
    backbone = model.backbone
    folder = WEIGHTS.parent / "pictures" / "fox"
    media = read_media_folder(folder, "subject", backbone.video, model.multiple, ReadingSettings(area=64 * 64))
    examples = encoded(model, media.items, media.written("fox"), 1, lambda text: None)
    usual = replace(usual_settings(backbone, "subject"), steps=STEPS, batch=2, still_frames=1)

    def under_guidance(
        backbone: Backbone, attachment: Attachment, prompts: Any, _: Any, *others: Any, **more: Any
    ) -> Tensor:
        empty, (noise, steps, _) = plain_prompt(backbone, backbone.encode("").context.float(), {}), others
        return sample(backbone, attachment, prompts, empty, noise, steps, 3.0, **more)

    def after_a_lesson(weight: float, pictures: int, how: Callable[..., Tensor] = sample) -> float:
        settings = replace(usual, class_weight=weight, class_pictures=pictures)
        made = ConceptLearner(backbone, examples, "fox", "subject", "dog", settings)
        with monkeypatch.context() as patch, Attachment(backbone, [made.live_adapters()]) as attachment:
            patch.setattr(class_pictures, "sample", how)
            for _ in range(STEPS):
                made.step(attachment)
        return drift(backbone, made, settings)

    without, few, many = after_a_lesson(0.0, 1), after_a_lesson(1.0, 4), after_a_lesson(1.0, 24)
    assert few < 0.8 * without and many < 0.5 * without, (without, few, many)
    guided = after_a_lesson(1.0, 4, under_guidance)
    assert guided > 1.5 * without, (without, guided)
