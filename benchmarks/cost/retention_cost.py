"""Does a learning step grow slower with every concept learned before?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch
from base import LATENT_SHAPE, DemoBase
from timing import Row, median_ratio, seconds_of, take_turns
from torch import Tensor
from wan_shapes import WAN, WanSize, random_concept

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.retention import Subspaces, remember_all, unit_columns

EARLIER, RANK, STEP_TURNS, PENALTY_TURNS = (0, 8, 34), 16, 11, 3


class RetentionLoop:
    """The slow reference: every step visits every Linear of every earlier concept, as the sibling's released code does.

    Kept fair: the earlier subspaces are normalised once, here, and the new ones once per step.
    """

    def __init__(self, earlier: Sequence[Subspaces]) -> None:
        self._earlier = [{site: unit_columns(b) for site, b in concept.items()} for concept in earlier]

    def loss(self, subspaces: Subspaces) -> Tensor:
        """sum_j sum_l |R_j^T R_u|_F^2 / (r_j r_u)."""
        new = {site: unit_columns(b) for site, b in subspaces.items()}
        total = torch.zeros(())
        for concept in self._earlier:
            for site, known in concept.items():
                shared = known.mT @ new[site]
                total = total + shared.square().sum() / shared.numel()
        return total


def learner_after(backbone: Backbone, count: int, loop: bool = False) -> ConceptLearner:
    """A learner of random clips with so many random concepts before it."""
    generator = torch.Generator().manual_seed(0)
    examples = [Example(torch.randn(LATENT_SHAPE, generator=generator), "a <new> still on grass") for _ in range(4)]
    earlier = [random_concept(backbone, f"c{index}", index, RANK) for index in range(count)]
    learner = ConceptLearner(
        backbone, examples, "new", "subject", "dog", usual_settings(backbone, "subject"), () if loop else earlier
    )
    if loop:
        learner._retention = RetentionLoop([{s: lora.b for s, lora in c.adapters.items()} for c in earlier])  # type: ignore[assignment]
    return learner


def timed_step(learner: ConceptLearner) -> Callable[[], float]:
    attachment = Attachment(learner.backbone, [learner.live_adapters()])

    def call() -> float:
        with attachment:
            return seconds_of(lambda: learner.step(attachment))

    return call


def step_rows(base: DemoBase) -> Iterator[Row]:
    """A whole learning step on the demo base, as a ratio to the step of the first concept."""
    backbone = base.backbone()
    calls = {f"step_after_{count}": timed_step(learner_after(backbone, count)) for count in EARLIER}
    calls["step_after_34_loop"] = timed_step(learner_after(backbone, EARLIER[-1], loop=True))
    seconds = take_turns(calls, STEP_TURNS)
    yield "step_after_0", "seconds", median(seconds["step_after_0"])
    for name in list(calls)[1:]:
        yield name, "step_after_0", median_ratio(seconds[name], seconds["step_after_0"])


def subspaces_of(size: WanSize, seed: int, learned: bool = False) -> dict[str, Tensor]:
    """B of a random concept of this size, by Linear."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{layer}.{part}": (torch.randn(size.hidden, RANK, generator=generator) * 0.01).requires_grad_(learned)
        for layer in range(size.layers)
        for part in "qkvo"
    }


def penalty_rows() -> Iterator[Row]:
    """The penalty and its gradient alone at Wan 1.3B's shapes, folded against the loop over concepts."""
    size = WAN["wan13b"]
    new = subspaces_of(size, 1000, learned=True)
    for count in EARLIER[1:]:
        earlier = [subspaces_of(size, index) for index in range(count)]
        folded, loop = remember_all("subspace", earlier), RetentionLoop(earlier)
        torch.testing.assert_close(folded.loss(new), loop.loss(new), rtol=1e-4, atol=1e-6)
        seconds = take_turns(
            {
                "folded": lambda folded=folded: seconds_of(lambda: folded.loss(new).backward()),
                "loop": lambda loop=loop: seconds_of(lambda: loop.loss(new).backward()),
            },
            PENALTY_TURNS,
        )
        what = f"retention_wan13b_after_{count}"
        yield what, "seconds", median(seconds["folded"])
        yield what, "loop_over_concepts", median_ratio(seconds["folded"], seconds["loop"])
