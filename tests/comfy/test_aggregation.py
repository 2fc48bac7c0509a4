"""Aggregate Adapters in the real ComfyUI, with stock samplers and stock conditioning nodes around it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from .graphs import Graph, Node, concept_file, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = "zoo"
NAMED = "a <rex> on green grass"
PLAIN = "a dog on green grass"
"""What the text encoder reads of `NAMED`."""

OF_ANOTHER_BASE = """
import sys
from dataclasses import replace
from pathlib import Path
from ccvd_core.concepts.concept import BaseFingerprint
from ccvd_core.concepts.file import load_concept, save_concept
source, target = map(Path, sys.argv[1:3])
concept = load_concept(source)
other = BaseFingerprint("Wan of 30 layers", concept.base.signature)
if "wider" in sys.argv:
    tokens, keys = (t.repeat_interleave(2, -1) for t in (concept.tokens, concept.keys))
    concept = replace(concept, tokens=tokens, keys=keys, class_keys=keys)
if "adapters" in sys.argv:
    a = {site: replace(lora, a=lora.a.repeat_interleave(2, 1)) for site, lora in concept.adapters.items()}
    concept = replace(concept, adapters=a)
save_concept(replace(concept, name=target.stem, base=other), target)
"""


@pytest.fixture(scope="module", autouse=True)
def library(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library with the concepts <rex>, a dog, and <kit>, a cat."""
    put_pictures(server, tmp_path_factory.mktemp("zoo"), "zoo", [(64, 64), (64, 64)])
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="zoo").out()
    first = graph.learn(images=images, library=LIBRARY)
    graph.learn(images=images, library=LIBRARY, name="kit", class_words="cat", seed=1, after=first.out())
    run(server, graph)
    return LIBRARY


def sampled(server: ComfyServer, graph: Graph, *samples: Node) -> list[Tensor]:
    """The latents of some nodes of a graph, after one run."""
    saved = [graph.save(node) for node in samples]
    done = run(server, graph)
    return [done.latent(server, node) for node in saved]


def test_a_prompt_that_names_nothing_gives_the_base_models_video(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), PLAIN)
    ours, stock = sampled(
        server,
        graph,
        graph.sample(used.out(0), used.out(1)),
        graph.sample(graph.model, graph.encode(PLAIN).out()),
    )
    assert torch.equal(ours, stock)


def test_an_empty_library_passes_everything_through(server: ComfyServer) -> None:
    graph = Graph()
    shelf = graph.library("nothing_yet")
    used = graph.aggregate(shelf, PLAIN)
    listing, table = graph.show(shelf.out(1)), graph.show(used.out(3))
    saved = [
        graph.save(graph.sample(used.out(0), used.out(1))),
        graph.save(graph.sample(graph.model, graph.encode(PLAIN).out())),
    ]
    done = run(server, graph)
    assert torch.equal(*(done.latent(server, node) for node in saved))
    assert "is empty" in done.text(listing) and "is empty" in done.text(table)


def test_a_named_concept_acts_and_the_base_comes_back_unharmed(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED)
    stock = graph.encode(PLAIN).out()
    latent = graph.empty_latent()
    repeated = graph.add("RepeatLatentBatch", samples=latent.out(), amount=1)
    before = graph.sample(graph.model, stock, latent_image=latent.out())
    named = graph.sample(used.out(0), used.out(1), latent_image=latent.out())
    # On the patched MODEL, a stock prompt is plain.
    plain = graph.sample(used.out(0), stock, latent_image=latent.out())
    after = graph.sample(graph.model, stock, latent_image=repeated.out())
    before, named, plain, after = sampled(server, graph, before, named, plain, after)
    assert (named - before).abs().max() > 1e-3
    assert torch.equal(plain, before) and torch.equal(after, before)


def test_strength_zero_and_switching_off(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = Graph()
    stock = graph.sample(graph.model, graph.encode(PLAIN).out())
    none = graph.aggregate(graph.library(LIBRARY, "rex 0"), NAMED)
    half = graph.aggregate(graph.library(LIBRARY, "<rex> = 0.5"), NAMED)
    full = graph.aggregate(graph.library(LIBRARY, "kit off"), NAMED)
    stock, none, half, full = sampled(
        server, graph, stock, *(graph.sample(used.out(0), used.out(1)) for used in (none, half, full))
    )
    assert torch.allclose(none, stock, atol=1e-5)
    assert 0 < (half - stock).norm() < (full - stock).norm()
    graph = Graph()
    graph.show(graph.aggregate(graph.library(LIBRARY, "rex off"), NAMED).out(3))
    with pytest.raises(ComfyError, match=r"<rex>, which is switched off .*Known concepts: <kit>"):
        run(server, graph)


def advanced(graph: Graph, model: list[Any], positive: list[Any]) -> Node:
    return graph.add(
        "KSamplerAdvanced",
        model=model,
        positive=positive,
        negative=graph.encode("").out(),
        latent_image=graph.empty_latent().out(),
        add_noise="enable",
        noise_seed=1,
        steps=2,
        cfg=3.0,
        sampler_name="euler",
        scheduler="simple",
        start_at_step=0,
        end_at_step=10000,
        return_with_leftover_noise="disable",
    )


def custom(graph: Graph, model: list[Any], positive: list[Any]) -> Node:
    guider = graph.add("CFGGuider", model=model, positive=positive, negative=graph.encode("").out(), cfg=3.0)
    return graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=1).out(),
        guider=guider.out(),
        sampler=graph.add("KSamplerSelect", sampler_name="euler").out(),
        sigmas=graph.add("BasicScheduler", model=model, scheduler="simple", steps=2, denoise=1.0).out(),
        latent_image=graph.empty_latent().out(),
    )


def test_every_stock_sampler_gives_the_same_video(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED)
    model, positive = used.out(0), used.out(1)
    one, two, three = sampled(
        server,
        graph,
        graph.sample(model, positive),
        advanced(graph, model, positive),
        custom(graph, model, positive),
    )
    assert torch.equal(one, two) and torch.equal(one, three)


def test_two_videos_in_one_batch(server: ComfyServer) -> None:
    """Every row of the batch is the video that the row gives alone, up to the rounding of larger matrix products."""
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED)
    # A latent with a batch index has noise that does not depend on the size of the batch.
    alone = graph.add("LatentFromBatch", samples=graph.empty_latent().out(), batch_index=0, length=1)
    pair = graph.add("RepeatLatentBatch", samples=alone.out(), amount=2)
    alone, pair, stock = sampled(
        server,
        graph,
        graph.sample(used.out(0), used.out(1), latent_image=alone.out()),
        graph.sample(used.out(0), used.out(1), latent_image=pair.out()),
        graph.sample(graph.model, graph.encode(PLAIN).out(), latent_image=pair.out()),
    )
    assert pair.shape[0] == 2
    assert torch.allclose(pair[:1], alone, atol=1e-4)
    assert all((row - plain).abs().max() > 1e-3 for row, plain in zip(pair, stock, strict=True))


def test_cfg_1_and_combined_conditionings(server: ComfyServer) -> None:
    """With one step and cfg 1 the result is linear in the prediction, so two combined prompts give their mean."""
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED)
    other = graph.encode("a cat on blue sky").out()
    both = graph.add("ConditioningCombine", conditioning_1=used.out(1), conditioning_2=other).out()
    once = {"cfg": 1.0, "steps": 1}
    concept, stock, both, plain = sampled(
        server,
        graph,
        graph.sample(used.out(0), used.out(1), **once),
        graph.sample(used.out(0), other, **once),
        graph.sample(used.out(0), both, **once),
        graph.sample(graph.model, graph.encode(PLAIN).out(), **once),
    )
    assert (concept - plain).abs().max() > 1e-3
    assert torch.allclose(both, (concept + stock) / 2, atol=1e-4)


def test_a_prompt_longer_than_the_negative_one(server: ComfyServer) -> None:
    """The demo's text encoder pads to 32 rows: the longer prompt has more, and cannot share a batch."""
    words = " and on green grass" * 10
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), f"{NAMED}{words}")
    named, plain = sampled(
        server,
        graph,
        graph.sample(used.out(0), used.out(1)),
        graph.sample(graph.model, graph.encode(f"{PLAIN}{words}").out()),
    )
    assert (named - plain).abs().max() > 1e-4


def test_two_aggregations_on_one_model(server: ComfyServer) -> None:
    """Each conditioning brings its own concepts, whichever others the MODEL carries."""
    graph = Graph()
    shelf = graph.library(LIBRARY)
    rex = graph.aggregate(shelf, NAMED)
    kit = graph.aggregate(shelf, "a <kit> on blue sky")
    then_kit = graph.aggregate(shelf, "a <kit> on blue sky", model=rex.out(0))
    rex_alone, kit_alone, rex_on_both, kit_on_both, opposed = sampled(
        server,
        graph,
        graph.sample(rex.out(0), rex.out(1)),
        graph.sample(kit.out(0), kit.out(1)),
        graph.sample(then_kit.out(0), rex.out(1)),
        graph.sample(then_kit.out(0), then_kit.out(1)),
        graph.sample(then_kit.out(0), then_kit.out(1), negative=rex.out(1)),
    )
    # The second concept's adapters add exact zeros, in matrix products of another size.
    assert torch.allclose(rex_on_both, rex_alone, atol=1e-4)
    assert torch.allclose(kit_on_both, kit_alone, atol=1e-4)
    assert (opposed - kit_alone).abs().max() > 1e-3


def test_two_concepts_in_one_prompt_both_act(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), "a <rex> and a <kit> on green grass")
    without_kit = graph.aggregate(graph.library(LIBRARY), "a <rex> and a cat on green grass")
    table = graph.show(used.out(3))
    saved = [graph.save(graph.sample(node.out(0), node.out(1))) for node in (used, without_kit)]
    done = run(server, graph)
    both, one = (done.latent(server, node) for node in saved)
    assert (both - one).abs().max() > 1e-4
    mean = next(line for line in done.text(table).splitlines() if line.startswith("mean"))
    assert mean.split()[1::2] == ["1.00", "1.00"]


def test_relevance_is_shown_as_a_picture_and_a_table(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED)
    table = graph.show(used.out(3))
    picture = graph.add("PreviewImage", images=used.out(2))
    done = run(server, graph)
    title, head, mean, *layers = done.text(table).splitlines()
    assert "Weight" in title and head.split() == ["layer", "rex", "kit"]
    assert mean.split()[1] == "1.00" and mean.split()[3] == "0.00"
    assert [line.split()[0] for line in layers] == [str(layer) for layer in range(len(layers))] and layers
    for node in (picture, used):
        pixels = np.asarray(Image.open(done.pictures(server, node)[0]).convert("RGB")).astype(int)
        cells = (pixels == (89, 195, 247)).all(-1)
        columns = np.flatnonzero(cells.any(0))
        assert 80 <= columns.min() < columns.max() < 172, "only <rex>, the first column, is bright"


def test_all_participants_and_no_pinning_run(server: ComfyServer) -> None:
    graph = Graph()
    used = graph.aggregate(graph.library(LIBRARY), NAMED, participants="all", pinned=False, sharpness=2.0, top_k=1)
    table = graph.show(used.out(3))
    saved = graph.save(graph.sample(used.out(0), used.out(1)))
    done = run(server, graph)
    assert done.latent(server, saved).isfinite().all()
    rows = [line.split() for line in done.text(table).splitlines()[3:]]
    # Shares of a layer, printed with two digits.
    assert all(abs(float(row[1]) + float(row[3]) - 1) < 0.011 for row in rows)


def test_a_concept_file_is_an_ordinary_lora(server: ComfyServer) -> None:
    loras = server.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(concept_file(server, LIBRARY, "rex"), loras / "rex.safetensors")
    graph = Graph()
    lora = graph.add("LoraLoaderModelOnly", model=graph.model, lora_name="rex.safetensors", strength_model=1.0)
    stock = graph.encode(PLAIN).out()
    with_lora, without = sampled(server, graph, graph.sample(lora.out(), stock), graph.sample(graph.model, stock))
    assert "lora key not loaded" not in server.log and "NOT LOADED" not in server.log
    assert (with_lora - without).abs().max() > 1e-3


def test_an_unknown_name_is_answered_with_the_known_ones(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = Graph()
    graph.show(graph.aggregate(graph.library(LIBRARY), "a <rexx> on green grass").out(3))
    with pytest.raises(
        ComfyError, match=r"<rexx>, .* 'zoo'\. Did you mean <rex>\? Known concepts: <kit>, <rex>"
    ) as error:
        run(server, graph)
    assert error.value.node_type == "CCVD_AggregateAdapters"


def foreign(server: ComfyServer, library: str, *changes: str) -> None:
    """A library with <rex> and with <alien>: the same, but learned on another model, and changed."""
    source = concept_file(server, LIBRARY, "rex")
    target = concept_file(server, library, "alien")
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target.with_name("rex.safetensors"))
    # Our packages cannot be imported here, beside ComfyUI's own `nodes`.
    subprocess.run([sys.executable, "-c", OF_ANOTHER_BASE, source, target, *changes], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize(
    ("change", "prompt", "why"),
    [
        ("wider", NAMED.replace("rex", "alien"), r"its tokens are \d+ wide, this model's text is \d+"),
        ("adapters", NAMED.replace("rex", "alien"), r"it adapts blocks\.0\.cross_attn\.\w from \d+ to \d+ numbers"),
    ],
)
def test_a_concept_that_does_not_fit_the_model_is_refused_by_name_until_it_is_off(
    server: ComfyServer, change: str, prompt: str, why: str
) -> None:
    from comfy_messages import ComfyError

    foreign(server, f"mixed_{change}", change)
    graph = Graph()
    graph.show(graph.aggregate(graph.library(f"mixed_{change}"), prompt).out(3))
    words = rf"<alien> was learned on another base model \(Wan of 30 layers\).*does not fit it: {why}"
    with pytest.raises(ComfyError, match=words):
        run(server, graph)
    graph = Graph()
    table = graph.show(graph.aggregate(graph.library(f"mixed_{change}", "alien off"), NAMED).out(3))
    assert "alien" not in run(server, graph).text(table)


def test_a_concept_of_a_sibling_model_works_and_says_so(server: ComfyServer) -> None:
    """The same adapters give the same video; only the text under the heat map, and the log, tell them apart."""
    foreign(server, "siblings")
    latents, texts = [], []
    for name in ("rex", "alien"):
        graph = Graph()
        used = graph.aggregate(graph.library("siblings"), NAMED.replace("rex", name))
        table, saved = graph.show(used.out(3)), graph.save(graph.sample(used.out(0), used.out(1)))
        done = run(server, graph)
        latents.append(done.latent(server, saved))
        texts.append(done.text(table))
    assert torch.equal(*latents)
    note = "Note: <alien> was learned on another model of this size (Wan of 30 layers"
    assert note not in texts[0] and texts[1].startswith(note)
    assert f"CCVD: {note}" in server.log
