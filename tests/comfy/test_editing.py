"""Edit in Regions in the real ComfyUI: what is outside stays, what is inside becomes what its region says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from .graphs import Graph, Node, put_clip, run
from .test_regions import KIT, PARK, sampler, scene

if TYPE_CHECKING:
    from comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("scenes_library")
BOX = (0.25, 0.25, 0.5, 0.5)


def frames_of(graph: Graph, file: str) -> Node:
    video = graph.add("LoadVideo", file=file)
    return graph.add("GetVideoComponents", video=video.out())


def shown(server: ComfyServer, paths: list[Path]) -> np.ndarray:
    """[frames, height, width, 3] in 0..1."""
    return np.stack([np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in paths])


def test_only_what_is_inside_a_region_changes(server: ComfyServer, tmp_path: Path) -> None:
    put_clip(server, tmp_path, "", "clip.mp4", "libx264", frames=6)
    graph = Graph()
    frames = frames_of(graph, "clip.mp4")
    used = scene(graph, PARK, ("kit", KIT, BOX))
    regions = graph.nodes[used.id]["inputs"]["regions"]
    edited = graph.add("CCVD_EditRegions", images=frames.out(), vae=graph.vae, regions=regions, grow=0)
    drawn = sampler(graph, used, latent_image=edited.out())
    decoded = graph.add("VAEDecode", samples=drawn.out(), vae=graph.vae)
    through_vae = graph.add("VAEDecode", samples=edited.out(), vae=graph.vae)
    cut = graph.add("ImageFromBatch", image=frames.out(), batch_index=0, length=5)
    pasted = graph.add(
        "ImageCompositeMasked",
        destination=cut.out(),
        source=decoded.out(),
        mask=edited.out(1),
        x=0,
        y=0,
        resize_source=False,
    )
    mask = graph.add("MaskToImage", mask=edited.out(1))
    kinds = {
        name: graph.add("PreviewImage", images=node.out())
        for name, node in {"clip": cut, "vae": through_vae, "edited": decoded, "pasted": pasted, "mask": mask}.items()
    }
    done = run(server, graph)
    clip, vae, ours, laid, mask_seen = (shown(server, done.pictures(server, kinds[name])) for name in kinds)
    assert done.texts(edited) == ["The model makes a multiple of 4 frames and one more: the last 1 of 6 are left out."]
    assert clip.shape == vae.shape == ours.shape == (5, 48, 64, 3)
    inside = mask_seen[..., 0] > 0.5
    assert inside[:, 12:36, 16:48].all() and inside.sum() == 5 * 24 * 32
    far = np.ones((48, 64), bool)
    far[4:44, 8:56] = False  # a latent's edge, and what the VAE's kernels carry over it
    assert np.abs(ours - vae)[:, far].mean() < 0.02 < np.abs(ours - vae)[inside].mean()
    assert np.array_equal(laid[~inside], clip[~inside])
    assert np.abs(laid - clip)[inside].mean() > 0.02


def test_what_cannot_be_edited_says_why(server: ComfyServer, tmp_path: Path) -> None:
    from .test_bad_input import refused

    put_clip(server, tmp_path, "", "short.mp4", "libx264", frames=5)
    graph = Graph()
    frames = frames_of(graph, "short.mp4")
    empty = graph.add(
        "CCVD_RegionMask", layout="{}", width=64, height=48, length=5, mask_batch="regions", mask_prompts=""
    )
    edited = graph.add("CCVD_EditRegions", images=frames.out(), vae=graph.vae, regions=empty.out(), grow=0)
    graph.save(edited)
    refused(server, graph, "There is no region to edit in")


def test_regions_become_a_layout_video_and_tracks_that_stock_nodes_take(server: ComfyServer) -> None:
    graph = Graph()
    used = scene(graph, PARK, ("kit", KIT, BOX))
    regions = graph.nodes[used.id]["inputs"]["regions"]
    layout = graph.add("CCVD_RegionLayoutVideo", regions=regions, length=5)
    shows = graph.add("PreviewImage", images=layout.out())
    drawn = graph.add(
        "WanMoveVisualizeTracks", images=layout.out(), tracks=layout.out(1), line_resolution=8, circle_size=4,
        opacity=0.75, line_width=4,
    )  # fmt: skip
    tracks = graph.add("PreviewImage", images=drawn.out())
    done = run(server, graph)
    outlines, paths = (shown(server, done.pictures(server, node)) for node in (shows, tracks))
    assert outlines.shape == paths.shape == (5, 64, 64, 3)
    assert (outlines[0] < 0.5).any() and not np.array_equal(outlines, paths)
