from __future__ import annotations

import json

import pytest

from vqcodec.spec.prior import PriorConfig

BOOKS = ((8, 1), (16, 2), (5, 3))


def test_configs_survive_json() -> None:
    config = PriorConfig(
        codebooks=((8, 1), (8, 2), (8, 2)),
        coarser=(((16, 2),), ((4, 1), (8, 2))),
        factors=(2, 2),
        groups=((1, 1), (2, 4)),
        qualities=7,
    )
    assert PriorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_groups_that_are_not_named_are_single_codebooks() -> None:
    config = PriorConfig(BOOKS)
    assert [*map(tuple, config.codebook_groups)] == [(range(n, n + 1), 1) for n in range(3)]
    assert config.first_qualities == [1, 1, 1]


def test_groups_have_their_codebooks_and_first_qualities() -> None:
    config = PriorConfig(((8, 1), (8, 2), (8, 2)), groups=((1, 1), (2, 4)), qualities=7)
    assert [*map(tuple, config.codebook_groups)] == [(range(1), 1), (range(1, 3), 4)]
    assert config.first_qualities == [1, 4, 4]


def test_attention_fits_the_blocks_and_the_channels() -> None:
    sizes = {"codebooks": BOOKS, "channels": 16, "blocks": 3}
    places = PriorConfig(**sizes, attention_heads=2, attention_layers=3).attention_places
    assert len(set(places)) == 3
    PriorConfig(**sizes, attention_heads=0, attention_layers=4)  # no heads, no attention
    with pytest.raises(ValueError, match="4 layers of attention do not fit between 3 blocks"):
        PriorConfig(**sizes, attention_heads=2, attention_layers=4)
    with pytest.raises(ValueError, match="16 channels cannot be shared by 3 attention heads"):
        PriorConfig(**sizes, attention_heads=3)
