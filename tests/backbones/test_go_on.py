"""A concept taught further, as a new version of it; on a tiny random model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.concepts.kinds import Kind, Layers
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.errors import CCVDError, LearningError, UnknownConceptError
from ccvd_core.learning.example import Example
from ccvd_core.learning.go_on import lineage, load_start, start_settings, strangers
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_job import LessonJob, lesson_job
from ccvd_core.learning.step import LearningSettings
from ccvd_core.learning.versions import as_version, contents, renamed

SETTINGS = LearningSettings(steps=8, rank=2, lr=1e-2, token_lr=1e-2)


@pytest.fixture
def model(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def learner(
    model: Backbone, name: str, start: Concept | None = None, earlier: tuple[Concept, ...] = (), **changes: Any
) -> ConceptLearner:
    latents = torch.randn(2, 4, 2, 4, 6, generator=torch.Generator().manual_seed(3))
    media, settings = [Example(clip, f"a <{name}>") for clip in latents], replace(SETTINGS, **changes)
    return ConceptLearner(model, media, name, "subject", "dog", settings, earlier, start=start)


def run(made: ConceptLearner, steps: int) -> list[tuple[float, float]]:
    with Attachment(made.backbone, [made.live_adapters()]) as attachment:
        reports = [made.step(attachment) for _ in range(steps)]
    return [(report.loss, report.retention) for report in reports]


def learned(model: Backbone, name: str = "rex", start: Concept | None = None, **changes: Any) -> Concept:
    made = learner(model, name, start, **changes)
    run(made, 4)
    return made.concept()


def test_it_begins_with_what_the_earlier_version_has_learned(model: Backbone):
    rex = learned(model)
    halved = replace(rex, adapters={site: replace(lora, scale=0.5) for site, lora in rex.adapters.items()})
    for start, share in ((rex, 1.0), (halved, 0.5)):
        begun = learner(model, "rex_2", start).concept()
        assert torch.equal(begun.tokens, rex.tokens) and begun.tokens.any()
        for site, lora in begun.adapters.items():
            torch.testing.assert_close(lora.b @ lora.a, share * rex.adapters[site].b @ rex.adapters[site].a)
    before = {site: lora.b.clone() for site, lora in rex.adapters.items()}
    made = learner(model, "rex_2", rex)
    run(made, 4)
    assert all(torch.equal(rex.adapters[site].b, b) for site, b in before.items()), "the earlier one is not changed"
    assert not torch.equal(made.concept().tokens, rex.tokens)
    assert made.concept().settings["went_on_from"] == ["rex"]
    assert rex.settings["went_on_from"] == []
    assert learned(model, "rex_3", made.concept()).settings["went_on_from"] == ["rex_2", "rex"]


def test_it_is_kept_apart_from_others_but_not_from_its_versions(model: Backbone):
    rex, cab = learned(model), learned(model, "cab", seed=1)
    second = learned(model, "rex_2", rex)
    third = learned(model, "rex_3", second)
    everyone = [rex, cab, second, third]
    assert [concept.name for concept in strangers(everyone, None)] == ["rex", "cab", "rex_2", "rex_3"]
    for start in (rex, second, third):
        assert [concept.name for concept in strangers(everyone, start)] == ["cab"]
    assert [concept.name for concept in strangers(everyone, cab)] == ["rex", "rex_2", "rex_3"]
    apart = {
        names: run(learner(model, "rex_4", rex, tuple(c for c in everyone if c.name in names)), 1)[0][1]
        for names in (("cab",), ("rex",), ("rex", "cab"))
    }
    assert 0 < apart["cab",] < apart["rex",] < apart["rex", "cab"], "its own versions would cost most"


@pytest.mark.parametrize("said", [None, "rex", 7, {"rex": 1}, ["old", 5, None, ["x"]]])
def test_what_a_file_says_of_its_versions_is_not_believed(model: Backbone, said: Any):
    rex = replace(learner(model, "rex").concept(), settings={"went_on_from": said})
    assert lineage(rex) == (["rex", "old"] if isinstance(said, list) else ["rex"]) and lineage(None) == []


def test_a_stopped_lesson_goes_on_as_if_it_had_not_been(model: Backbone):
    rex = learned(model)
    whole, half, rest = (learner(model, "rex_2", rex) for _ in range(3))
    run(whole, 6)
    run(half, 3)
    rest.load_state({key: value.clone() for key, value in half.state().items()})
    run(rest, 3)
    assert all(torch.equal(value, whole.state()[key]) for key, value in rest.state().items())


@pytest.mark.parametrize(
    ("before", "now", "fits"),
    [("usual", "all", True), ("all", "all", True), ("text attention", "usual", True), ("all", "usual", False),
     ("usual", "queries and keys", False)],
)  # fmt: skip
def test_more_layers_may_be_trained_than_before_but_not_fewer(model: Backbone, before: Layers, now: Layers, fits: bool):
    rex = learned(model, layers=before)
    assert start_settings(rex) == {"rank": 2, "token_injection": "output", "layers": before}
    if not fits:
        with pytest.raises(LearningError, match=rf"on more layers than are chosen now. Set `layers`.*to {before}"):
            learner(model, "rex_2", rex, layers=now)
        return
    begun = learner(model, "rex_2", rex, layers=now)
    assert set(begun.live_adapters()) == set(model.site_ids("subject", now)) >= set(rex.adapters)
    fresh = set(begun.live_adapters()) - set(rex.adapters)
    assert all(not begun.live_adapters()[site].b.any() for site in fresh)


def test_a_concept_of_other_settings_is_not_gone_on_from(model: Backbone, tmp_path: Path):
    library = ConceptLibrary(tmp_path)
    rex = library.add(learned(model))
    lora = replace(rex, name="lora", kind="lora", tokens=rex.tokens[:, :0])
    library.add(lora)

    def start(name: str = "rex", kind: Kind = "subject", words: str = "dog", rank: int = 0) -> Concept | None:
        return load_start(library, name, kind, words, rank, model)

    assert start("") is None and start_settings(None) == {} and contents(None) == {}
    found = start()
    assert found is not None and torch.equal(found.tokens, rex.tokens)
    assert start(rank=2) is not None
    with pytest.raises(LearningError, match=r"keeps its kind: expected 'subject'; got 'motion'"):
        start(kind="motion")
    with pytest.raises(LearningError, match=r"keeps its class_words: expected 'dog'; got 'cat'. Set `class_words` so"):
        start(words="cat")
    with pytest.raises(LearningError, match=r"keeps its rank: expected 2; got 16"):
        start(rank=16)
    with pytest.raises(LearningError, match=r"<lora> was made by another tool"):
        start("lora")
    with pytest.raises(UnknownConceptError, match=r"has no <rx>. Did you mean <rex>\?"):
        start("rx")
    wide = replace(rex, tokens=torch.zeros(rex.tokens.shape[0], 2, rex.tokens.shape[2]))
    with pytest.raises(CCVDError, match=r"tokens for 2 text rows.*gives 1"):
        learner(model, "rex_2", wide)


def test_a_new_version_has_the_first_free_name_and_finds_itself_again(model: Backbone, tmp_path: Path):
    library, rex = ConceptLibrary(tmp_path), learned(model)
    library.add(rex)

    def job(name: str, start: Concept | None, seed: int = 0) -> LessonJob:
        settings, pixels = replace(SETTINGS, seed=seed), [torch.zeros(1)]
        words = ["a <rex>"]
        return lesson_job(name, "subject", "dog", words, settings, model.fingerprint, pixels, **contents(start))

    def keep(made: LessonJob) -> None:
        library.add(replace(rex, name=made.name, settings={"job": made.digest()}))

    assert as_version(job("rex", None), library, None).name == "rex"
    assert as_version(job("max", rex), library, rex).name == "max"
    second = as_version(job("rex", rex), library, rex)
    assert second.name == "rex_2" and second.digest() != job("rex", rex).digest()
    keep(second)
    assert as_version(job("rex", rex), library, rex).digest() == second.digest(), "the same lesson is there already"
    third = as_version(job("rex", rex, seed=1), library, rex)
    assert third.name == "rex_3"
    keep(third)
    assert as_version(job("rex", rex), library, rex).name == "rex_2"
    start = library.load("rex_2")
    assert as_version(job("rex_2", start), library, start).name == "rex_4"
    (tmp_path / "rex_4.safetensors").write_bytes(b"broken")
    assert as_version(job("rex_2", start), library, start).name == "rex_5"
    other = replace(rex, tokens=rex.tokens + 1)
    assert contents(rex) != contents(other), "what it begins with belongs to the lesson"


def test_captions_name_the_new_version():
    captions = ["a <rex> and <Rex>", "<rex_2>", "rex <rexy>"]
    assert renamed(captions, "rex", "rex_3") == ["a <rex_3> and <rex_3>", "<rex_2>", "rex <rexy>"]
