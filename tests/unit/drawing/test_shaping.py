from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcodec.drawing.shaping import Shaping, draw_with
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CodecError
from vqcodec.spec.prior import TOTAL
from vqcodec.weights_file import load


@pytest.fixture(scope="module")
def prior(class_model: Path) -> Prior:
    return load(class_model).priors[0]


class TestGuidance:
    def test_extrapolates_in_integers(self) -> None:
        given = torch.tensor([[[16, -7, 3]]])
        without = torch.tensor([[[10, 5, 3]]])
        for weight, expected in ((0.0, without), (1.0, given), (2.0, 2 * given - without)):
            assert torch.equal(Shaping(guidance=weight).guide(given, without), expected)
        guided = Shaping(guidance=1.5).guide(given, without)
        assert guided.dtype == torch.int64
        assert guided.tolist() == [[[19, -13, 3]]]


class TestShaping:
    def logits(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(-60, 60, (2, 5, 8), generator=generator)

    def test_keeps_all_frequencies_unless_asked(self, prior: Prior) -> None:
        logits = self.logits()
        for shaping in (Shaping(), Shaping(top_k=8), Shaping(top_p=1.0)):
            found = shaping.frequencies(prior, logits)
            assert found.dtype == torch.int64
            assert torch.equal(found, prior.frequencies(logits))
            assert (found.sum(-1) == TOTAL).all()

    @pytest.mark.parametrize("k", [1, 3, 7])
    def test_top_k_keeps_the_k_likeliest(self, prior: Prior, k: int) -> None:
        everything = prior.frequencies(self.logits())
        found = Shaping(top_k=k).frequencies(prior, self.logits())
        assert ((found > 0).sum(-1) == k).all()
        assert ((found == 0) | (found == everything)).all()
        least = torch.where(found > 0, found, TOTAL).amin(-1)
        assert (least >= torch.where(found > 0, 0, everything).amax(-1)).all()

    def test_ties_go_to_the_smaller_index(self, prior: Prior) -> None:
        logits = torch.tensor([[[-3000, 5, 9, 5, 9, 9, 5, 5]]])
        kept = Shaping(top_k=2).frequencies(prior, logits)
        assert kept.nonzero()[:, -1].tolist() == [2, 4]
        kept = Shaping(top_k=5).frequencies(prior, logits)
        assert kept.nonzero()[:, -1].tolist() == [1, 2, 3, 4, 5]

    def test_top_p_keeps_the_fewest_that_reach_it(self, prior: Prior) -> None:
        everything = prior.frequencies(self.logits())
        before = torch.zeros(2, 5, dtype=torch.int64)
        for p in (1e-9, 0.2, 0.5, 0.9, 0.99, 1.0):
            found = Shaping(top_p=p).frequencies(prior, self.logits())
            assert ((found == 0) | (found == everything)).all()
            assert (found.sum(-1) >= round(p * TOTAL)).all()
            least = torch.where(found > 0, found, TOTAL).amin(-1)
            assert (found.sum(-1) - least < max(1, round(p * TOTAL))).all()
            kept = (found > 0).sum(-1)
            assert (kept >= before).all()
            before = kept
        assert (before == 8).all()

    def test_symbols_follow_the_kept_frequencies(self, prior: Prior) -> None:
        row = torch.tensor([0, 30, 20, -300, 25, 10, 27, 0])
        kept = Shaping(top_k=3).frequencies(prior, row.expand(1, 1, -1))[0, 0]
        choose = draw_with(prior, [np.random.PCG64(0)], Shaping(top_k=3))
        state = Mock(logits=lambda step, group: row.expand(1, 20_000, -1).double())
        symbols = choose(state, 0, 0)
        assert symbols.dtype == np.int32
        shares = torch.from_numpy(np.bincount(symbols.ravel(), minlength=8)) / symbols.size
        assert torch.allclose(shares, kept / kept.sum(), atol=0.015)
        assert shares[kept == 0].sum() == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0.0}, "cannot sample at temperature"),
            ({"temperature": -1.0}, "cannot sample at temperature"),
            ({"temperature": 101.0}, "cannot sample at temperature"),
            ({"temperature": math.nan}, "cannot sample at temperature"),
            ({"top_k": 0}, "cannot sample from the 0 likeliest"),
            ({"top_p": 0.0}, "cannot sample with top-p 0.0"),
            ({"top_p": 1.01}, "cannot sample with top-p 1.01"),
            ({"top_p": math.nan}, "cannot sample with top-p nan"),
            ({"guidance": -0.1}, "cannot sample with guidance -0.1"),
            ({"guidance": math.inf}, "cannot sample with guidance inf"),
        ],
    )
    def test_values_that_cannot_be(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(CodecError, match=message):
            Shaping(**options)
