"""What artists type to find a node besides its name; ComfyUI's node search reads it as `search_aliases`."""

from __future__ import annotations

CONCEPT = ["lora", "dreambooth", "concept", "character", "subject", "custom diffusion", "ccvd"]
REGION = ["regional prompt", "region", "attention couple", "multi character", "multi subject", "multidiffusion", "ccvd"]
TRAINING = ["train", "training", "trainer", "train lora", "textual inversion", "fine-tune", "finetune"]

SEARCH_WORDS: dict[str, list[str]] = {
    "CCVD_AggregateAdapters": [*CONCEPT, "apply lora", "load lora", "multi concept"],
    "CCVD_ConceptLibrary": [*CONCEPT, "lora stack", "lora loader", "strength"],
    "CCVD_DemoModel": ["checkpoint loader", "load checkpoint", "test model", "tiny model", "text to video", "ccvd"],
    "CCVD_DemoPictures": ["sample pictures", "example images", "dataset", "train"],
    "CCVD_EditRegions": [*REGION, "inpaint", "noise mask", "replace", "swap", "vae encode", "video to video"],
    "CCVD_EmptyTextToVideo": ["empty latent", "empty video", "modelscope", "zeroscope", "ccvd"],
    "CCVD_ImportLora": [*CONCEPT, "load lora", "lora loader", "lora per region", "peft"],
    "CCVD_LearnConcept": [*CONCEPT, *TRAINING, "face", "style", "motion", "motion lora"],
    "CCVD_LoadTextToVideo": ["diffusers loader", "load diffusers", "modelscope", "zeroscope", "dreamvideo", "ccvd"],
    "CCVD_RegionLayoutVideo": [*REGION, "vace", "tracks", "motion path", "trajectory", "control video"],
    "CCVD_RegionMask": [*REGION, "bounding box", "bbox", "mask editor", "area", "layout"],
    "CCVD_RegionSampling": [*REGION, "regional sampler"],
    "CCVD_TrainingOptions": [*TRAINING, "optimizer", "adamw8bit", "prodigy", "ema", "timestep sampling", "ccvd"],
    "CCVD_Sampler": [*REGION, "regional sampler", "ksampler"],
}
"""By node id."""
