"""A scene read as one sentence: whose words are whose."""

from __future__ import annotations

import pytest
import torch

from ccvd_core.prompts.concept_tokens import PlacedTokens
from ccvd_core.regions.region import RegionError
from ccvd_core.regions.scene_text import join_scene, keep_rows, row_owners


def test_the_regions_come_first_then_what_is_around_them():
    scene = join_scene(" on green grass ", ["a <rex> runs", " a <kit> "])
    assert scene.text == "a <rex> runs and a <kit> on green grass"
    assert list(zip(scene.parts, scene.owners, strict=True)) == [
        ("a <rex> runs", 1), ("and", 0), ("a <kit>", 2), ("on green grass", 0),
    ]  # fmt: skip
    assert join_scene("", ["a <rex>"]).text == "a <rex>"


def test_every_piece_belongs_to_the_part_it_spells():
    pieces = [" a", " do", "g", " and", " a", " cat", "s", " on", " gra", "ss"]
    owners = row_owners(pieces, ["a dog", "and", "a cats", "on grass"], [1, 0, 2, 0])
    assert owners == [1, 1, 1, 0, 2, 2, 2, 0, 0, 0]


def test_letters_count_as_the_tokenizer_normalises_them():
    # NFKC: the ligature is two letters, the ellipsis three dots; the encoder's pieces have them so.
    assert row_owners([" fi", "sh...", " sea"], ["ﬁsh…", "sea"], [1, 0]) == [1, 1, 0]


@pytest.mark.parametrize("pieces", [[" a", "<unk>", " on", " grass"], [" a", " dog"]])
def test_a_sentence_that_the_encoder_reads_otherwise_is_refused(pieces: list[str]):
    with pytest.raises(RegionError, match=r"Shorten the prompts .* set region_prompts to 'alone'"):
        row_owners(pieces, ["a dog", "on grass"], [1, 0])


def test_kept_rows_stand_in_front_and_mentions_move_with_them():
    context = torch.arange(1.0, 13.0).view(6, 2)
    values = torch.randn(3, 1, 2)
    placed = (PlacedTokens("rex", (1,), values), PlacedTokens("kit", (3,), values))
    shorter, moved = keep_rows(context, placed, [0, 3, 4])
    assert torch.equal(shorter, torch.cat([context[[0, 3, 4]], torch.zeros(3, 2)]))
    assert [(tokens.concept, tokens.rows) for tokens in moved] == [("kit", (1,))]
    assert torch.equal(moved[0].values, values)


def test_of_other_words_that_tokens_moved_those_in_kept_rows_stay_moved():
    values = torch.randn(3, 4, 2)
    around = PlacedTokens(None, (0, 2, 4, 5), values)
    rex = PlacedTokens("rex", (1, 3), values[:, :2])
    _, moved = keep_rows(torch.ones(6, 2), (around, rex), [1, 2, 5])
    assert [(tokens.concept, tokens.rows) for tokens in moved] == [(None, (1, 2))], "half of a mention is none"
    assert torch.equal(moved[0].values, values[:, [1, 3]])
    assert not keep_rows(torch.ones(6, 2), (around,), [1, 3])[1]
