"""Concept tokens before the text encoder, the paper's place: c^l = E(e + y^l), against the same one layer at a time."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.clip_text import ClipText, added_to_embeddings
from ccvd_core.backbones.diffusers_unet3d import DiffusersUNet3DBackbone
from ccvd_core.concepts.concept import Concept, TokenInjection
from ccvd_core.concepts.file import load_concept, save_concept
from ccvd_core.errors import CCVDError
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.prompts.concept_tokens import PlacedTokens, layer_contexts, read_tokens
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import AnyPrompt, predict_prompts
from ccvd_core.regions.scene import Reading, aggregate_scene
from tests.tiny_text_to_video import UNET, WIDTH, WORDS, tiny_clip, write_tokenizer

TEXT, DOG_ROW = "a dog runs on grass", 2
BOTH, BOTH_PLAIN, REX_ROW, KIT_ROW = "a <rex> runs on a red <kit>", "a dog runs on a red cat", 2, 7
INJECTIONS: tuple[TokenInjection, ...] = ("output", "encoder")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipText:
    from transformers import CLIPTokenizer

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("clip") / "tokenizer"
    write_tokenizer(folder, WORDS)
    return ClipText(tiny_clip(), CLIPTokenizer.from_pretrained(str(folder)))


@pytest.fixture(scope="module")
def unet(clip: ClipText) -> DiffusersUNet3DBackbone:
    from diffusers import UNet3DConditionModel

    torch.manual_seed(1)
    model = UNet3DConditionModel(**UNET, cross_attention_dim=WIDTH).eval().requires_grad_(False)
    return DiffusersUNet3DBackbone(model, clip.encode, encode_with=clip.encode_with)


@pytest.fixture
def precise(clip: ClipText) -> ClipText:
    """In float64."""
    return ClipText(copy.deepcopy(clip._model).double(), clip._tokenizer)


def concept(backbone: Backbone, name: str, seed: int, injection: TokenInjection = "encoder") -> Concept:
    words = {"rex": "dog", "kit": "cat"}[name]
    tokens = 0.3 * torch.randn(backbone.layers, 1, WIDTH, generator=torch.Generator().manual_seed(seed))
    keys = nn.functional.normalize(tokens[:, 0], dim=-1)
    made = Concept(name, "subject", words, {}, tokens, keys, keys, backbone.fingerprint)
    return replace(made, token_injection=injection)


def naively(clip: ClipText, text: str, added: dict[int, Tensor]) -> Tensor:
    """Contexts of all layers, one encoder pass after another over word embeddings looked up and changed by hand."""
    model = copy.deepcopy(clip._model)
    table, numbers = model.get_input_embeddings(), clip._numbers(text)
    plain, contexts = table.weight[numbers[0]], []
    for layer in range(len(next(iter(added.values())))):
        embedded = plain.clone()
        for row, values in added.items():
            embedded[row] += values[layer].to(plain)
        handle = table.register_forward_hook(lambda *_, embedded=embedded: embedded[None])
        contexts.append(model(numbers)[0][0])
        handle.remove()
    return torch.stack(contexts)


def contexts_of(backbone: Backbone, prompt: ConceptPrompt) -> Tensor:
    return layer_contexts(prompt.context, backbone.layers, prompt.placed)


def region(prompt: str, left: float, width: float, strength: float = 1.0) -> Region:
    return Region("", prompt, "#ffffff", strength, (Keyframe(0.0, (left, 0.0, width, 1.0)),))


@torch.no_grad()
def predicted(backbone: Backbone, prompt: AnyPrompt, latents: Tensor) -> Tensor:
    with Attachment(backbone, [{}] * prompt_columns(prompt)) as attachment:
        grid = backbone.grid(latents.shape[1:])
        with attachment.activate([prompt] * len(latents), latents.device, grid=grid):
            return predict_prompts(backbone, latents, torch.tensor([0.9, 0.3]), [prompt] * len(latents))


def prompt_columns(prompt: AnyPrompt) -> int:
    first = prompt if isinstance(prompt, ConceptPrompt) else prompt.prompts[0]
    return first.weights.shape[1]


def test_a_layer_reads_the_prompt_with_its_own_tokens(precise: ClipText):
    values = torch.randn(3, 2, WIDTH, generator=torch.Generator().manual_seed(0)).double()
    found = precise.encode_with(TEXT, (DOG_ROW, 5), values)
    expected = naively(precise, TEXT, {DOG_ROW: values[:, 0], 5: values[:, 1]})
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    plain = precise.encode(TEXT)
    assert torch.equal(found[:, :DOG_ROW], plain.context[:DOG_ROW].expand(3, -1, -1)), "CLIP reads from left to right"
    assert (found - plain.context)[:, DOG_ROW:].abs().amax(-1).gt(1e-6).all(), "and every row after it is moved"
    assert plain.pieces == ("", " a", " dog", " runs", " on", " grass")


def test_gradients_go_back_through_the_encoder(precise: ClipText, unet: DiffusersUNet3DBackbone):
    values = torch.randn(2, 1, WIDTH, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: precise.encode_with(TEXT, [DOG_ROW], y), values, fast_mode=True)
    context = precise.encode(TEXT).context
    twin = DiffusersUNet3DBackbone(unet._unet, precise.encode, encode_with=precise.encode_with)

    def read(y: Tensor) -> Tensor:
        placed = read_tokens(twin, TEXT, context, [PlacedTokens("rex", (DOG_ROW,), y, "encoder")])
        return layer_contexts(context, 2, placed).square().sum()

    zeros = torch.zeros_like(values).requires_grad_()
    assert torch.autograd.gradcheck(read, values, atol=1e-4) and torch.autograd.gradcheck(read, zeros, atol=1e-4)
    assert all(parameter.grad is None for parameter in precise._model.parameters())


def test_zero_tokens_are_the_plain_prompt_bit_for_bit(unet: DiffusersUNet3DBackbone):
    rex = concept(unet, "rex", 1)
    for none in (replace(rex, tokens=torch.zeros_like(rex.tokens)), rex):
        prompt = aggregate(unet, "a <rex> runs", [none], strengths={"rex": 0.0}).prompt
        assert torch.equal(contexts_of(unet, prompt), unet.encode("a dog runs").context.expand(unet.layers, -1, -1))
    assert aggregate(unet, "a dog runs", [rex]).prompt.is_plain


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_two_concepts_are_read_together(unet: DiffusersUNet3DBackbone, clip: ClipText, strength: float):
    rex, kit = concept(unet, "rex", 1), concept(unet, "kit", 2)
    prompt = aggregate(unet, BOTH, [rex, kit], strengths={"rex": strength}).prompt
    expected = naively(clip, BOTH_PLAIN, {REX_ROW: strength * rex.tokens[:, 0], KIT_ROW: kit.tokens[:, 0]})
    torch.testing.assert_close(contexts_of(unet, prompt), expected, atol=1e-5, rtol=1e-5)
    assert prompt.gates.sum(0).tolist() == [1.0, 1.0] and prompt.gates[REX_ROW, 0] == prompt.gates[KIT_ROW, 1] == 1
    assert [tokens.rows for tokens in prompt.placed if tokens.concept] == [(REX_ROW,), (KIT_ROW,)]


def test_a_concept_named_twice_is_placed_twice(unet: DiffusersUNet3DBackbone, clip: ClipText):
    rex = concept(unet, "rex", 1)
    prompt = aggregate(unet, "a <rex> on a <rex>", [rex]).prompt
    expected = naively(clip, "a dog on a dog", {2: rex.tokens[:, 0], 5: rex.tokens[:, 0]})
    torch.testing.assert_close(contexts_of(unet, prompt), expected, atol=1e-5, rtol=1e-5)


def test_one_concept_of_each_place(unet: DiffusersUNet3DBackbone, clip: ClipText):
    rex, kit = concept(unet, "rex", 1), concept(unet, "kit", 2, "output")
    prompt = aggregate(unet, BOTH, [rex, kit]).prompt
    expected = naively(clip, BOTH_PLAIN, {REX_ROW: rex.tokens[:, 0]})
    expected[:, KIT_ROW] += kit.tokens[:, 0]
    torch.testing.assert_close(contexts_of(unet, prompt), expected, atol=1e-5, rtol=1e-5)


def test_the_model_is_given_what_the_encoder_read(unet: DiffusersUNet3DBackbone, clip: ClipText, case: Any):
    rex = concept(unet, "rex", 1)
    rex = replace(rex, tokens=rex.tokens[:1].expand_as(rex.tokens))  # the same for all layers: one context is enough
    prompt = aggregate(unet, "a <rex> runs", [rex]).prompt
    (context,) = clip.encode_with("a dog runs", [DOG_ROW], rex.tokens[:1])
    with torch.no_grad():
        expected = unet.predict(case.latents, torch.tensor([0.9, 0.3]), context.expand(2, -1, -1))
    torch.testing.assert_close(predicted(unet, prompt, case.latents), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reading", ["alone", "together"])
def test_two_regions(unet: DiffusersUNet3DBackbone, clip: ClipText, case: Any, reading: Reading):
    concepts = [concept(unet, "rex", 1), concept(unet, "kit", 2)]
    parts = RegionSet(64, 64, (region("a <rex>", 0.0, 0.5, 0.5), region("red <kit>", 0.5, 0.5)))
    scene = aggregate_scene(unet, "on grass", parts, concepts, reading=reading).prompt
    rex, kit = (each.tokens[:, 0] for each in concepts)
    _, left, right = (contexts_of(unet, prompt) for prompt in scene.prompts)
    if reading == "alone":
        torch.testing.assert_close(left, naively(clip, "a dog", {2: 0.5 * rex}), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(right, naively(clip, "red cat", {2: kit}), atol=1e-5, rtol=1e-5)
    else:
        # start, a, dog, a-n-d, red, cat, on, grass, end
        read = naively(clip, "a dog and red cat on grass", {2: 0.5 * rex, 7: kit})
        torch.testing.assert_close(left[:, :9], read[:, [0, 1, 2, 3, 4, 5, 8, 9, 10]], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(right[:, :9], read[:, [0, 3, 4, 5, 6, 7, 8, 9, 10]], atol=1e-5, rtol=1e-5)
    assert predicted(unet, scene, case.latents).isfinite().all()


def test_a_region_over_the_whole_frame_is_its_prompt(unet: DiffusersUNet3DBackbone, case: Any):
    concepts = [concept(unet, "rex", 1), concept(unet, "kit", 2)]
    scene = aggregate_scene(unet, "grass", RegionSet(64, 64, (region(BOTH, 0.0, 1.0),)), concepts).prompt
    alone = predicted(unet, aggregate(unet, BOTH, concepts).prompt, case.latents)
    torch.testing.assert_close(predicted(unet, scene, case.latents), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_tokens_learn_and_the_encoder_does_not(
    unet: DiffusersUNet3DBackbone, clip: ClipText, case: Any, injection: TokenInjection, tmp_path: Path
):
    before = copy.deepcopy(clip._model.state_dict())
    # Adapters at a rate of nothing: what is learned, the tokens learn.
    settings = LearningSettings(steps=12, rank=1, lr=1e-9, token_lr=0.05, batch=2, token_injection=injection)
    examples = [Example(case.latents[0], "a <rex>"), Example(case.latents[1], "<rex> runs")]
    learner = ConceptLearner(unet, examples, "rex", "subject", "dog", settings)
    with Attachment(unet, [learner.live_adapters()]) as attachment:

        @torch.no_grad()
        def loss() -> float:
            noise = torch.randn(case.latents.shape, generator=torch.Generator().manual_seed(5))
            prompts, level = [learner.prompt(example) for example in learner._examples], torch.tensor([1.0, 3.0])
            noisy = unet.noise_path.mix(case.latents, noise, level)
            with attachment.activate(prompts, noisy.device):
                found = predict_prompts(unet, noisy, level, prompts)
            return (found - unet.noise_path.target(case.latents, noise, level)).square().mean().item()

        first = loss()
        while learner.done < settings.steps:
            learner.step(attachment)
        assert loss() < first - 1e-4
    assert all(torch.equal(value, before[key]) for key, value in clip._model.state_dict().items())
    assert all(parameter.grad is None for parameter in clip._model.parameters())
    learned = learner.concept()
    assert learned.token_injection == injection and learned.settings["token_injection"] == injection
    save_concept(learned, tmp_path / "rex.safetensors")
    assert load_concept(tmp_path / "rex.safetensors").token_injection == injection
    # The key is the mean of the rows as they are read with the tokens.
    one, other = (contexts_of(unet, aggregate(unet, text, [learned]).prompt) for text in ("a <rex>", "<rex> runs"))
    expected = nn.functional.normalize(one[:, 2] + other[:, 1], dim=-1)
    torch.testing.assert_close(learned.keys, expected, atol=1e-5, rtol=1e-4)


def test_the_encoder_is_as_it_was_after_an_error(clip: ClipText):
    before = clip.encode(TEXT).context
    with pytest.raises(RuntimeError):
        clip.encode_with(TEXT, [DOG_ROW], torch.zeros(1, 1, WIDTH + 1))
    with added_to_embeddings(clip._model.get_input_embeddings(), [1], torch.ones(1, 1, WIDTH)):
        assert not torch.equal(clip.encode(TEXT).context, before)
    assert torch.equal(clip.encode(TEXT).context, before)


def test_a_model_without_such_an_encoder_says_so(unet: DiffusersUNet3DBackbone, clip: ClipText, case: Any):
    without = DiffusersUNet3DBackbone(unet._unet, clip.encode)
    advice = r"tokens of <rex> are added before the text encoder.*unet3d-.*token_injection='output'"
    with pytest.raises(CCVDError, match=rf"(?is){advice}"):
        aggregate(without, "a <rex> runs", [concept(without, "rex", 1)])
    settings = LearningSettings(token_injection="encoder")
    example = Example(case.latents[0], "a <rex>")
    with pytest.raises(CCVDError, match=rf"(?is){advice}"):
        ConceptLearner(without, [example], "rex", "subject", "dog", settings)
    assert aggregate(without, "a dog runs", [concept(without, "rex", 1)]).prompt.is_plain
    ConceptLearner(without, [example], "rex", "subject", "dog", replace(settings, tokens=False))


def test_an_unknown_place_is_refused():
    with pytest.raises(CCVDError, match="token_injection must be one of output, encoder; got before"):
        LearningSettings(token_injection="before")  # type: ignore[arg-type]
