"""Class pictures on the demo base: a lesson changes less of what the model says of the class words alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from base import WEIGHTS

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.model_folders import load_whole_model
from ccvd_core.headless.lesson import encoded
from ccvd_core.headless.media_folder import ReadingSettings, read_media_folder
from ccvd_core.learning.class_pictures import ClassPictures
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.regions.regional_prompt import predict_prompts

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


def test_class_pictures_hold_the_model_to_what_it_knew():
    model = load_whole_model(WEIGHTS, torch.device("cpu"))
    backbone = model.backbone
    folder = WEIGHTS.parent / "pictures" / "fox"
    media = read_media_folder(folder, "subject", backbone.video, model.multiple, ReadingSettings(area=64 * 64))
    examples = encoded(model, media.items, media.written("fox"), 1, lambda text: None)
    found = {}
    for weight in (0.0, 1.0):
        usual = replace(usual_settings(backbone, "subject"), steps=STEPS, batch=2, still_frames=1)
        settings = replace(usual, class_weight=weight)
        made = ConceptLearner(backbone, examples, "fox", "subject", "dog", settings)
        with Attachment(backbone, [made.live_adapters()]) as attachment:
            for _ in range(STEPS):
                made.step(attachment)
        found[weight] = drift(backbone, made, settings)
    assert found[1.0] < 0.8 * found[0.0], found
