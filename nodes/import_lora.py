"""Import LoRA: an ordinary LoRA file becomes a concept of a library."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from .host.libraries import LibrarySelection, LibraryType, concept_name, open_library
from .host.lora_import import file_state, import_lora
from .host.made_here import vanished
from .host.search_words import SEARCH_WORDS


class ImportLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_ImportLora",
            display_name="Import LoRA",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_ImportLora"],
            description=(
                "Make a concept of an ordinary LoRA file, so that <name> in a prompt or a region uses it there and "
                "nowhere else. It is kept as a file of its own in a concept library."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The base model that the LoRA was made for. It is not changed."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Combo.Input(
                    "lora",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A LoRA file from ComfyUI/models/loras, or the adapter_model.safetensors of a PEFT folder "
                    "there.",
                ),
                io.String.Input(
                    "name",
                    default="rex",
                    tooltip="How you will write it in prompts: <rex>. Letters a-z, digits, - and _.",
                ),
                io.String.Input(
                    "trigger_words",
                    default="",
                    tooltip="What the model reads in place of <name>: the trigger words on the LoRA's page or, if it "
                    "has none, what it shows, such as `a woman` or `oil painting`.",
                ),
                io.String.Input(
                    "library",
                    default="my_concepts",
                    tooltip="The library to add it to: a folder inside ComfyUI/models/ccvd.",
                ),
            ],
            outputs=[LibraryType.Output("library_out", display_name="library"), io.String.Output("report")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, lora: Any = None, name: Any = None, library: Any = None, **_: Any) -> str:
        return vanished(library, name) or file_state(lora)

    @classmethod
    def execute(
        cls, model: ModelPatcher, clip: Any, lora: str, name: str, trigger_words: str, library: str
    ) -> io.NodeOutput:
        report = import_lora(model, clip, lora, concept_name(name), trigger_words, library)
        return io.NodeOutput(LibrarySelection(open_library(library)), report, ui=ui.PreviewText(report))
