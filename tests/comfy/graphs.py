"""Graphs in ComfyUI's API format, pictures and clips to put in, and what comes out."""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from comfy_server import ComfyServer

DEMO_MODEL = Path(__file__).resolve().parents[2] / "demo" / "weights" / "ccvd_demo_model.safetensors"


@dataclass(frozen=True)
class Node:
    """A node of a graph; `node.out(1)` is a link from its second output."""

    id: str

    def out(self, output: int = 0) -> list[Any]:
        return [self.id, output]


class Graph:
    """A graph under construction, with the demo model in it."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.base = self.add("CCVD_DemoModel", shift=3.0)
        self.model, self.clip, self.vae = (self.base.out(index) for index in range(3))

    def add(self, class_type: str, **inputs: Any) -> Node:
        node = Node(str(len(self.nodes) + 1))
        self.nodes[node.id] = {"class_type": class_type, "inputs": inputs}
        return node

    def learn(self, **changes: Any) -> Node:
        """Learn Concept on the demo model, quickly; `changes` are inputs that differ."""
        usual = {
            "model": self.model,
            "clip": self.clip,
            "vae": self.vae,
            "name": "rex",
            "class_words": "dog",
            "kind": "subject",
            "library": "lib",
            "steps": 6,
            "rank": 0,
            "learning_rate": 0.0,
            "retention": 0.01,
            "retention_form": "subspace",
            "seed": 0,
            "megapixels_percent": 0,
            "length": 0,
            "still_frames": 0,
            "preview_every": 0,
            "noise_from": 0.0,
            "noise_to": 1.0,
            "windows": "first",
        }
        return self.add("CCVD_LearnConcept", **{**usual, **changes})

    def library(self, name: str, adjust: str = "") -> Node:
        return self.add("CCVD_ConceptLibrary", library=name, adjust=adjust)

    def aggregate(self, library: Node, prompt: str, **changes: Any) -> Node:
        usual = {
            "model": self.model,
            "clip": self.clip,
            "library": library.out(),
            "prompt": prompt,
            "sharpness": 4.0,
            "top_k": 0,
            "participants": "named",
            "pinned": True,
            "own_words_only": True,
        }
        return self.add("CCVD_AggregateAdapters", **{**usual, **changes})

    def encode(self, text: str) -> Node:
        return self.add("CLIPTextEncode", clip=self.clip, text=text)

    def empty_latent(self, batch_size: int = 1) -> Node:
        return self.add("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=batch_size)

    def sample(self, model: list[Any], positive: list[Any], **changes: Any) -> Node:
        """KSampler with few steps on a small clip."""
        usual = {
            "model": model,
            "positive": positive,
            "negative": changes.pop("negative", None) or self.encode("").out(),
            "latent_image": changes.pop("latent_image", None) or self.empty_latent().out(),
            "seed": 1,
            "steps": 2,
            "cfg": 3.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        }
        return self.add("KSampler", **{**usual, **changes})

    def load(self, weight_dtype: str) -> Node:
        """The demo model through the stock loader, where `put_demo_model` has put it."""
        return self.add("UNETLoader", unet_name=DEMO_MODEL.name, weight_dtype=weight_dtype)

    def save(self, samples: Node) -> Node:
        return self.add("SaveLatent", samples=samples.out(), filename_prefix="latents/test")

    def show(self, text: list[Any]) -> Node:
        return self.add("PreviewAny", source=text)


@dataclass
class Run:
    """One execution of a graph: what it showed at the end and what it sent meanwhile."""

    history: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def steps(self, node: Node) -> list[int]:
        """Values of a node's progress bar, in order."""
        return [data["value"] for kind, data in self.events if kind == "progress" and data["node"] == node.id]

    def texts(self, node: Node) -> list[str]:
        """Lines that appeared under a node, as the page shows them: it reads them as HTML."""
        return [html.unescape(text) for text in self.raw_texts(node)]

    def raw_texts(self, node: Node) -> list[str]:
        """The same as they were sent."""
        return [data["text"] for kind, data in self.events if kind == "progress_text" and data["node"] == node.id]

    def previews(self) -> list[bytes]:
        return [data["picture"] for kind, data in self.events if kind == "preview"]

    def cached(self) -> set[str]:
        """Ids of the nodes that did not run because nothing had changed."""
        return {node for kind, data in self.events if kind == "execution_cached" for node in data["nodes"]}

    def text(self, node: Node) -> str:
        """What a PreviewAny node shows."""
        return self.history["outputs"][node.id]["text"][0]

    def pictures(self, server: ComfyServer, node: Node) -> list[Path]:
        return [server.output_path(entry) for entry in self.history["outputs"][node.id]["images"]]

    def latent(self, server: ComfyServer, node: Node) -> Tensor:
        """What a SaveLatent node has saved."""
        (entry,) = self.history["outputs"][node.id]["latents"]
        return safetensors.torch.load_file(server.output_path(entry))["latent_tensor"]


def run(server: ComfyServer, graph: Graph, into: Run | None = None) -> Run:
    """Run a graph to its end. `into` keeps the events of a run that fails."""
    result = into or Run()
    result.history = server.run(graph.nodes, lambda kind, data: result.events.append((kind, data)))
    return result


def nodes_of(prompt: Mapping[str, Any], class_type: str) -> list[str]:
    """Ids of the nodes of a class, in the order of the workflow."""
    return [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]


def concept_file(server: ComfyServer, library: str, name: str) -> Path:
    return server.base / "models" / "ccvd" / library / f"{name}.safetensors"


def put_demo_model(server: ComfyServer) -> None:
    """Put the demo model's file where Load Diffusion Model finds it."""
    models = server.base / "models" / "diffusion_models"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DEMO_MODEL, models / DEMO_MODEL.name)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its contents."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Coarse coloured noise, (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def put_pictures(server: ComfyServer, tmp_path: Path, folder: str, sizes: list[tuple[int, int]]) -> list[int]:
    """Put pictures of these sizes into a folder of ComfyUI's inputs; the order in which ComfyUI will load them."""
    import os

    for index, size in enumerate(sizes):
        picture(size, index).save(tmp_path / f"{index}.png")
        server.put_input(tmp_path / f"{index}.png", folder)
    return [int(Path(name).stem) for name in os.listdir(server.base / "input" / folder)]


def put_clip(
    server: ComfyServer, tmp_path: Path, folder: str, name: str, codec: str, frames: int = 12, rate: int = 8
) -> None:
    """Put a clip, 64 x 48, with a square that moves right, into a folder of ComfyUI's inputs."""
    import av

    with av.open(tmp_path / name, "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 80, np.uint8)
            pixels[16:32, number % 12 * 4 : number % 12 * 4 + 16] = (250, 200, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    server.put_input(tmp_path / name, folder)
