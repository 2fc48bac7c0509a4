"""The rows of the benchmark: what is learned once (a family), and the ways in which it is used."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from bases import Base
from jaxtyping import Float
from lessons import LessonPlan, learn_from
from rivals import c_lora, ewc, l2dm, lora_m, lwf, sequential
from tasks import class_caption, identified_caption
from torch import Tensor
from training import Model, Rival, encoded_examples, learn_task, task_data

from ccvd_core.concepts.concept import Concept, LowRank
from ccvd_core.concepts.kinds import Kind
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import PAPER_SETTINGS, AggregationSettings
from ccvd_core.prompts.concept_prompt import ConceptPrompt

When = Literal["every", "often", "ends", "once"]
"""Each task is measured right after learning, and again after every later task, after every fifth and the last, after
the last, or never."""


@dataclass(frozen=True)
class Request:
    """What is to be drawn: `prompts` over `adapters`, and how the concept asked for was routed."""

    adapters: Sequence[Mapping[str, LowRank]]
    prompts: Sequence[ConceptPrompt]
    negative: ConceptPrompt
    routing: float | None = None
    """Mean over captions and layers of the right concept's share of all weight."""

    def digest(self) -> str:
        """Equal for requests that draw the same clips from the same noise."""
        tensors: list[Tensor] = []
        for adapters in self.adapters:
            for site in sorted(adapters):
                lora = adapters[site]
                tensors += [torch.tensor(list(site.encode())), lora.a, lora.b, torch.tensor(lora.scale)]
        for prompt in (*self.prompts, self.negative):
            tensors += [prompt.context, prompt.weights, prompt.gates]
            for placed in prompt.placed:
                tensors += [torch.tensor(placed.rows), placed.values]
        found = hashlib.sha256()
        for tensor in tensors:
            found.update(str(tuple(tensor.shape)).encode())
            found.update(tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()


class Learner(ABC):
    """Learns tasks one after another and draws any of them."""

    def __init__(self, base: Base, steps: int, seed: int) -> None:
        self.base, self.backbone, self._steps, self._seed = base, base.backbone, steps, seed

    @abstractmethod
    def learn(self, task: LessonPlan) -> None:
        """Learn the next task."""

    @abstractmethod
    def request(self, method: str, task: LessonPlan, captions: Sequence[str]) -> Request:
        """What draws captions that name the task's concept `<name>`, as things are now."""

    def settings(self, kind: Kind) -> LearningSettings:
        """The preset of this kind with the benchmark's number of steps."""
        return replace(usual_settings(self.backbone, kind), steps=self._steps, seed=self._seed)


class RivalLearner(Learner):
    """A rival: captions with an unused word, LoRAs that act on all words, in the negative prompt too."""

    def __init__(self, base: Base, steps: int, seed: int, kind: type[Rival], strength: float) -> None:
        super().__init__(base, steps, seed)
        self._rival = kind(Model(self.backbone), strength)

    def learn(self, task: LessonPlan) -> None:
        settings = self.settings(task.kind)
        data = task_data(self.base, task, settings)
        with fast_autocast(cache_enabled=False):
            learn_task(self._rival, data, settings)

    def request(self, method: str, task: LessonPlan, captions: Sequence[str]) -> Request:
        adapters = self._rival.adapters(method)
        texts = [identified_caption(self.base, task, caption) for caption in captions]
        *prompts, negative = (self._rival.model.prompt(text, len(adapters)) for text in (*texts, ""))
        return Request(adapters, prompts, negative)


class BaseLearner(Learner):
    """The floor: the base model reads the class words and learns nothing."""

    def learn(self, task: LessonPlan) -> None:
        pass

    def request(self, method: str, task: LessonPlan, captions: Sequence[str]) -> Request:
        texts = [class_caption(task, caption) for caption in captions]
        *prompts, negative = (aggregate(self.backbone, text, ()).prompt for text in (*texts, ""))
        return Request((), prompts, negative)


OURS = AggregationSettings()
ALL = AggregationSettings(participants="all", pinned=False)


@dataclass(frozen=True)
class Use:
    """How a library of learned concepts is used for a prompt."""

    settings: AggregationSettings = OURS
    own_rows_only: bool = True
    equal: bool = False
    """No aggregation: every concept of the library at weight 1 / their number."""
    alone: bool = False
    """Only the concept asked for is in the library."""


USES = {
    "ccvd": Use(),
    "ccvd_paper": Use(PAPER_SETTINGS, own_rows_only=False),
    "own_adapter": Use(alone=True),
    "equal_weights": Use(ALL, equal=True),
    "sharpness_2": Use(replace(ALL, sharpness=2.0)),
    "sharpness_4": Use(replace(ALL, sharpness=4.0)),
    "top_k_1": Use(replace(ALL, top_k=1)),
    "pinned": Use(replace(ALL, pinned=True)),
    "no_tokens": Use(),
    "no_retention": Use(),
    "trace": Use(),
}
"""Row -> how its concepts are used. `ccvd` and the ablations of learning: the pack's defaults."""


class CCVDLearner(Learner):
    """This pack; `changed` are learning settings that differ from the preset."""

    def __init__(self, base: Base, steps: int, seed: int, changed: Mapping[str, Any]) -> None:
        super().__init__(base, steps, seed)
        self._changed = changed
        self.concepts: list[Concept] = []

    def learn(self, task: LessonPlan) -> None:
        settings = replace(self.settings(task.kind), **self._changed)
        examples = encoded_examples(self.base, task, settings.still_frames)
        with fast_autocast(cache_enabled=False):
            self.concepts.append(learn_from(self.base, task, examples, self.concepts, settings))

    def request(self, method: str, task: LessonPlan, captions: Sequence[str]) -> Request:
        use = USES[method]
        concepts = [c for c in self.concepts if not use.alone or c.name == task.name]
        results = [
            aggregate(self.backbone, text, concepts, use.settings, own_rows_only=use.own_rows_only)
            for text in (*captions, "")
        ]
        *prompts, negative = (result.prompt for result in results)
        if use.equal:
            prompts = [replace(p, weights=torch.full_like(p.weights, 1 / len(concepts))) for p in prompts]
        negative = replace(negative, weights=torch.zeros_like(negative.weights))
        routing = None
        if not use.alone:
            right = next(index for index, concept in enumerate(concepts) if concept.name == task.name)
            routing = float(torch.stack([share(prompt.weights, right) for prompt in prompts]).mean())
        # Concepts of weight 0 add exactly nothing: leaving them out draws the same clips faster.
        active = [i for i in range(len(concepts)) if any(bool(prompt.weights[:, i].any()) for prompt in prompts)]
        adapters = [concepts[index].adapters for index in active]
        return Request(adapters, [only(p, active) for p in prompts], only(negative, active), routing)


def share(weights: Float[Tensor, "layers concepts"], concept: int) -> Float[Tensor, ""]:
    """Mean over layers of a concept's weight after all weights of a layer are scaled to sum 1; 0 where all are 0."""
    return (weights[:, concept] / weights.sum(1).clamp_min(1e-30)).mean()


def only(prompt: ConceptPrompt, concepts: Sequence[int]) -> ConceptPrompt:
    """The prompt with the columns of some concepts."""
    return replace(prompt, weights=prompt.weights[:, list(concepts)], gates=prompt.gates[:, list(concepts)])


@dataclass(frozen=True)
class Family:
    """One training that all of `methods` (row -> when its tasks are measured) share.

    `search` are the values that `--tuning` tries and `strength` the one that the table uses.
    """

    methods: Mapping[str, When]
    learner: Callable[[Base, int, int, float], Learner]
    search: tuple[float, ...] = ()
    strength: float = 0.0


def rival(kind: type[Rival]) -> Callable[[Base, int, int, float], Learner]:
    return lambda base, steps, seed, strength: RivalLearner(base, steps, seed, kind, strength)


def ccvd(**changed: Any) -> Callable[[Base, int, int, float], Learner]:
    return lambda base, steps, seed, strength: CCVDLearner(base, steps, seed, changed)


FAMILIES = (
    Family(
        {
            "ccvd": "often",
            "ccvd_paper": "often",
            "own_adapter": "once",
            **dict.fromkeys(("equal_weights", "sharpness_2", "sharpness_4", "top_k_1", "pinned"), "ends"),
        },  # type: ignore[arg-type]
        ccvd(),
    ),
    Family({"base": "once"}, lambda base, steps, seed, strength: BaseLearner(base, steps, seed)),
    Family({"sequential": "often"}, rival(sequential.Sequential), sequential.SEARCH),
    Family({"ewc": "often"}, rival(ewc.EWC), ewc.SEARCH, ewc.DEFAULT),
    Family({"lwf": "often"}, rival(lwf.LwF), lwf.SEARCH, lwf.DEFAULT),
    Family(
        {"lora_m": "often", "lora_m_ties": "often", "lora_m_dare": "often"}, rival(lora_m.LoraM), lora_m.SEARCH, -1.0
    ),
    Family({"c_lora": "often"}, rival(c_lora.CLora), c_lora.SEARCH, c_lora.DEFAULT),
    Family({"l2dm": "often"}, rival(l2dm.L2DM), l2dm.SEARCH, l2dm.DEFAULT),
    Family({"no_tokens": "often"}, ccvd(tokens=False)),
    Family({"no_retention": "often"}, ccvd(retention=0.0)),
    Family({"trace": "often"}, ccvd(retention_form="trace")),
)
METHODS = tuple(method for family in FAMILIES for method in family.methods)
