"""The paper's experiment from end to end: two tasks on the demo base, judged by small stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import study
import torch
from base import WEIGHTS
from judges import METRICS, Judges
from rows import read_rows
from sequence import read_sequence
from stand_ins import write_stand_ins

from ccvd_core.errors import CCVDError

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "demo" / "pictures"
SEQUENCE: dict[str, Any] = {
    "tasks": [
        {"folder": "fox", "name": "fox", "kind": "subject", "class_words": "dog", "caption": "a <fox> still"},
        {
            "folder": "hopping", "name": "hopping", "kind": "motion", "class_words": "moving up",
            "caption": "a cat <hopping>",
        },
    ],
    "prompts": {"subject": ["a {} still"], "motion": ["a dog {}"]},
}  # fmt: skip


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    clip, dino = write_stand_ins(tmp_path / "stand_ins")
    (tmp_path / "tasks.json").write_text(json.dumps(SEQUENCE))
    return [
        "--model", str(WEIGHTS), "--device", "cpu", "--data", str(PICTURES), "--tasks", str(tmp_path / "tasks.json"),
        "--clip", str(clip), "--dino", str(dino), "--out", str(tmp_path / "out"), "--steps", "2", "--draw-steps", "1",
        "--width", "32", "--height", "32", "--length", "5", "--area", "1024",
    ]  # fmt: skip


def test_all_tasks_are_learned_in_order_and_judged_after_each(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    drawn: list[str] = []
    usual: Callable[..., torch.Tensor] = study.draw_video

    def counted(model: Any, library: Any, prompt: str, *others: Any) -> torch.Tensor:
        drawn.append(prompt)
        return usual(model, library, prompt, *others)

    monkeypatch.setattr(study, "draw_video", counted)
    study.main(words)
    told = capsys.readouterr().out
    assert "2 tasks: learning about" in told and "GB beside the model" in told, "said before the first step"
    rows = read_rows(tmp_path / "out" / "results.csv")
    measured = {(row.method, row.task, row.after_task) for row in rows}
    steps = [("fox", 1), ("fox", 2), ("hopping", 2)]
    assert measured == {(method, *step) for method in ("ccvd", "paper") for step in steps}
    assert {row.metric for row in rows} == set(METRICS) and len(rows) == 2 * 3 * len(METRICS)
    ours = [row for row in rows if (row.method, row.task) == ("ccvd", "fox")]
    assert {row.metric: row.value for row in ours[:4]} == {row.metric: row.value for row in ours[4:]}
    assert drawn.count("a <fox> still") == 1 + 2, "by ours the fox stays the same and is not drawn again"
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000
    assert "| `ccvd` |" in (tmp_path / "out" / "table.md").read_text()
    drawn.clear()
    study.main(words)
    assert [prompt for prompt in drawn if "<" in prompt] == [], "a finished run only estimates and reports"
    assert read_rows(tmp_path / "out" / "results.csv") == rows


def test_metrics_are_the_means_that_they_say(tmp_path: Path):
    from external_encoders import ClipEncoder, DinoEncoder

    from ccvd_core.learning.lesson_items import LessonItem

    clip, dino = write_stand_ins(tmp_path)
    judges = Judges(ClipEncoder(clip), DinoEncoder(dino))
    generator = torch.Generator().manual_seed(1)
    items = [
        LessonItem((torch.randint(0, 256, (1, 3, n, 32, 32), generator=generator, dtype=torch.uint8),)) for n in (1, 3)
    ]
    references = judges.references(items)
    assert len(references.clip) == len(references.dino) == 4
    made = torch.rand(2, 32, 32, 3, generator=generator)
    values = judges.measure([made], ["a dog"], references)
    frames = judges.clip.embed_frames(made[None])[0]
    pairs = [float(a @ b) for a in frames for b in references.clip]
    assert values["clip_i"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    assert values["temporal_consistency"] == pytest.approx(float(frames[0] @ frames[1]), abs=1e-5)
    text = judges.clip.embed_texts(["a dog"])[0]
    mean = torch.nn.functional.normalize(frames.mean(0), dim=-1)
    assert values["clip_t"] == pytest.approx(float(mean @ text), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sound"}, "no sequence of tasks"),
        ({"caption": "a dog"}, "does not name it"),
        ({"folder": "nowhere"}, "has no folder nowhere"),
        ({"prompts": ["a dog"]}, "where the concept stands"),
        ({"name": "hopping", "caption": "a <hopping>"}, "two tasks of one name"),
    ],
)
def test_a_sequence_that_cannot_be_learned_is_refused_before_anything_is(tmp_path: Path, change: dict, message: str):
    first, second = SEQUENCE["tasks"]
    (tmp_path / "tasks.json").write_text(json.dumps({**SEQUENCE, "tasks": [{**first, **change}, second]}))
    with pytest.raises(CCVDError, match=message):
        read_sequence(tmp_path / "tasks.json", PICTURES)


def test_the_sequences_that_come_with_it_can_be_read():
    for name in ("tasks.json", "tasks_demo.json"):
        path = ROOT / "benchmarks" / "paper" / name
        folders = [task["folder"] for task in json.loads(path.read_text())["tasks"]]
        assert len(folders) == len(set(folders)) == 10
