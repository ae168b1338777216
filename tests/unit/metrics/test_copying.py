from __future__ import annotations

import pytest
import torch

from vqcodec.errors import CodecError
from vqcodec.metrics.copying import nearness


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def test_images_of_the_same_kind_are_as_near_as_unseen_ones() -> None:
    found = nearness(rows(200, 0), rows(2000, 1), rows(2000, 2))
    assert found.ratio == pytest.approx(1, abs=0.03)
    assert found.near == pytest.approx(0.05, abs=0.02)


def test_copies_are_nearer() -> None:
    training = rows(200, 0)
    copies = training[[3, 50, 7]] + 0.01
    found = nearness(training, torch.cat([copies, rows(1, 1)]), rows(100, 2))
    assert found.nearest[:3].tolist() == [3, 50, 7]
    assert found.distances[:3].tolist() == pytest.approx([0.01 * 8**0.5] * 3, rel=1e-3)
    assert found.near == pytest.approx(0.75, abs=0.26)
    assert found.ratio is not None
    assert found.ratio < 0.1


def test_without_unseen_images_nothing_is_said() -> None:
    found = nearness(rows(5, 0), rows(2, 1), rows(0, 2))
    assert (found.ratio, found.near) == (None, None)


@pytest.mark.parametrize(("training", "samples"), [(0, 3), (3, 0)])
def test_nothing_to_compare_is_an_error(training: int, samples: int) -> None:
    with pytest.raises(CodecError, match="give some of either"):
        nearness(rows(training, 0), rows(samples, 1), rows(2, 2))
