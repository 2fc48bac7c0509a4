"""The pack's nodes: parse, call `ccvd_core`, wrap."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .aggregate_adapters import AggregateAdapters
from .ccvd_sampler import CCVDSampler
from .concept_library import ConceptLibraryNode
from .demo_model import DemoModel
from .demo_pictures import DemoPictures
from .edit_regions import EditRegions
from .empty_text_to_video import EmptyTextToVideo
from .host.libraries import register_model_folder
from .import_lora import ImportLora
from .learn_concept import LearnConcept
from .load_text_to_video import LoadTextToVideo
from .region_layout_video import RegionLayoutVideo
from .region_mask import RegionMask
from .region_sampling import RegionSampling
from .training_options import TrainingOptions


class CCVDExtension(ComfyExtension):
    """Everything that the pack adds to ComfyUI."""

    async def on_load(self) -> None:
        # Tests import the nodes without ComfyUI's server.
        from .host.routes import register_routes

        register_model_folder()
        register_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DemoModel,
            DemoPictures,
            LearnConcept,
            ImportLora,
            ConceptLibraryNode,
            AggregateAdapters,
            RegionMask,
            RegionSampling,
            CCVDSampler,
            EditRegions,
            RegionLayoutVideo,
            TrainingOptions,
            LoadTextToVideo,
            EmptyTextToVideo,
        ]
