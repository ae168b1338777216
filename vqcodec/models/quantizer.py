"""Entropy-constrained product quantization with EMA codebooks.

Each codebook codes a slice of a position's latent vector: the slice after the one before, or, for a
refinement, what earlier codebooks left of some slice. In turn they choose
argmin(squared distance + lmbda * bits), where the bits come from a rate model that sees the context
of the position and the code vectors chosen before. Codebooks of one group don't see each other, so
that a decoder can take them at once; low qualities leave the last groups out.

Source: codebook updates by exponential moving averages, van den Oord et al. 2017, appendix A.1;
entropy-constrained choice, Chou et al. 1989.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec.models.layers import ListOf, ZeroLinear


class CodebookConfig(NamedTuple):
    """One codebook.

    Attributes:
        num_embeddings: K.
        embedding_dim: D.
        start: First latent of its slice; None for the one after all slices before.
        share: Of the range of qualities, 0 to 1, from where on it is used; below, its index is 0,
            its vector zero, and nothing is coded. Never less than that of the codebook before.
        grouped: Whether it is of the same group as the codebook before.
    """

    num_embeddings: int
    embedding_dim: int
    start: int | None = None
    share: float = 0.0
    grouped: bool = False


def slices(codebooks: Sequence[CodebookConfig]) -> list[slice]:
    """The latents that each codebook codes."""
    found: list[slice] = []
    end = 0
    for codebook in codebooks:
        start = end if codebook.start is None else codebook.start
        found.append(slice(start, start + codebook.embedding_dim))
        end = max(end, found[-1].stop)
    return found


def groups(codebooks: Sequence[CodebookConfig]) -> list[range]:
    """The codebooks of each group, by number, in coding order."""
    starts = [g for g, codebook in enumerate(codebooks) if not codebook.grouped or g == 0]
    return [range(*ends) for ends in zip(starts, [*starts[1:], len(codebooks)], strict=True)]


@dataclass
class Choice:
    """Result of a quantization.

    Attributes:
        indices: int64 [B, H, W, G].
        vectors: What they stand for, the sum of the code vectors of every slice, float32
            [B, H, W, size]; no gradient.
        bits: Bits of each index under the rate model, float32 [B, H, W, G].
    """

    indices: Tensor
    vectors: Tensor
    bits: Tensor


class Codebook(nn.Module):
    """K code vectors of dimension D, moved by exponential moving averages.

    The averages are over all processes of a data-parallel training.
    """

    vectors: Tensor
    counts: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        vectors = torch.randn(num_embeddings, embedding_dim)
        vectors[0] = 0.0
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.ones(num_embeddings))

    def update(self, latents: Tensor, one_hot: Tensor) -> None:
        """Moves the code vectors towards the mean of what chose them.

        Args:
            latents: float32 [P, D].
            one_hot: float32 [P, K], the choices.
        """
        counts = one_hot.sum(0)
        sums = one_hot.T @ latents
        if dist.is_initialized():
            both = torch.cat([counts[:, None], sums], 1)
            dist.all_reduce(both)
            counts, sums = both[:, 0], both[:, 1:]
        weight = 1 - self.decay
        new_counts = self.counts * self.decay + counts * weight
        moved = self.vectors * (self.counts * self.decay)[:, None] + sums * weight
        used = new_counts > 1e-6
        self.vectors.copy_(torch.where(used[:, None], moved / new_counts[:, None], self.vectors))
        self.counts.copy_(new_counts)


class ProductQuantizer(nn.Module):
    """The codebooks of one level and their rate model.

    Args:
        codebooks: In coding order.
        context_channels: C of the context.
        rate_channels: Hidden width R of the rate model, per codebook.
    """

    def __init__(
        self,
        codebooks: Sequence[CodebookConfig],
        context_channels: int,
        rate_channels: int,
    ) -> None:
        super().__init__()
        self.configs = list(codebooks)
        self.slices = slices(codebooks)
        self.latent_size = max(part.stop for part in self.slices)
        self.rate_channels = rate_channels
        self.codebooks = ListOf[Codebook](
            Codebook(each.num_embeddings, each.embedding_dim) for each in codebooks
        )
        count = len(codebooks)
        self.rate_context = nn.Linear(context_channels, rate_channels * count)
        self.groups = groups(codebooks)
        # Codebooks that see it: those of later groups.
        self.later = [count - group.stop for group in self.groups for _ in group]
        self.rate_earlier = ListOf[nn.Linear](
            nn.Linear(each.embedding_dim, rate_channels * later, bias=False)
            for each, later in zip(codebooks, self.later, strict=True)
            if later
        )
        self.rate_logits = ListOf[nn.Linear](
            ZeroLinear(rate_channels, each.num_embeddings) for each in codebooks
        )

    def used(self, codebook: int, share: Tensor) -> Tensor:
        """Whether a codebook is used, by the share of the range of qualities: bool [B]."""
        return share >= self.configs[codebook].share

    def forward(
        self, latents: Tensor, context: Tensor, lmbda: Tensor, scale: Tensor, share: Tensor
    ) -> Choice:
        """Chooses an index of every codebook for every position.

        In training mode the codebooks move towards their latents.

        Args:
            latents: float32 [B, H, W, size].
            context: [B, H, W, C].
            lmbda: Weight of one bit against squared distance, float32 [B].
            scale: Typical size of each latent, float32 [size].
            share: Where in the range of qualities each image is, 0 to 1: float32 [B].
        """
        b, h, w, _ = latents.shape
        contexts = self._rate_contexts(context.view(b, h * w, -1), share)
        wanted = latents.detach().float().view(b, h * w, -1)
        # Images drop out at the first group that they don't use; `rows` are those still there.
        rows = torch.arange(b, device=latents.device)
        coded = torch.zeros_like(wanted)
        vectors = coded.clone()
        earlier: list[Tensor] = []
        indices, bits = [], []
        for group, inputs in zip(self.groups, contexts, strict=True):
            used = self.used(group.start, share[rows])
            if not bool(used.all()):
                vectors[rows] = coded
                rows, wanted, coded = rows[used], wanted[used], coded[used]
                earlier = [each[used] for each in earlier]
            if len(rows) < b:
                inputs = inputs[rows]
            if earlier:
                inputs = inputs + F.linear(torch.cat(earlier, -1), self._earlier_weight(group))
            for g, mine in zip(group, inputs.chunk(len(group), -1), strict=True):
                part = self.slices[g]
                log_p = F.log_softmax(self.rate_logits[g](torch.relu(mine)).float(), -1)
                target = wanted[..., part] - coded[..., part]
                chosen, vector = self._choose(g, target, log_p, lmbda[rows])
                coded[..., part] += vector
                earlier.append(vector / scale[part])
                spent = -log_p.gather(2, chosen[..., None]).squeeze(2) / math.log(2)
                indices.append(chosen.new_zeros(b, h * w).index_copy(0, rows, chosen))
                bits.append(spent.new_zeros(b, h * w).index_copy(0, rows, spent))
        vectors[rows] = coded
        return Choice(
            torch.stack(indices, -1).view(b, h, w, -1),
            vectors.view(b, h, w, -1),
            torch.stack(bits, -1).view(b, h, w, -1),
        )

    def _rate_contexts(self, context: Tensor, share: Tensor) -> list[Tensor]:
        """What each group's rate models make of [B, P, C]; nothing for groups that no image has."""
        has = [bool(self.used(group.start, share).any()) for group in self.groups]
        sizes = [len(group) * self.rate_channels for group in self.groups]
        wanted = list(itertools.compress(sizes, has))
        weight, bias = self.rate_context.weight, self.rate_context.bias
        found = F.linear(context, weight[: sum(wanted)], bias[: sum(wanted)])
        none = found.new_zeros(*found.shape[:2], 1)
        left_out = [none.expand(-1, -1, size) for size in sizes[len(wanted) :]]
        return [*found.split(wanted, -1), *left_out]

    def _earlier_weight(self, group: range) -> Tensor:
        """From the vectors of all codebooks of earlier groups to a group's rate models."""
        size = self.rate_channels
        firsts = [len(self.codebooks) - later for later in self.later[: group.start]]
        return torch.cat(
            [
                earlier.weight[(group.start - first) * size : (group.stop - first) * size]
                for first, earlier in zip(firsts, self.rate_earlier, strict=False)
            ],
            1,
        )

    def _choose(
        self, codebook: int, target: Tensor, log_p: Tensor, lmbda: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Indices int64 [B, P] and their vectors [B, P, D] for [B, P, D] and [B, P, K]."""
        book = self.codebooks[codebook]
        # In float32 always: bfloat16 would blur which code is the nearest.
        with torch.autocast(target.device.type, enabled=False):
            distance = book.vectors.square().sum(1) - 2 * target @ book.vectors.T
            weight = lmbda[:, None, None]
            cost = torch.addcmul(distance, weight, log_p.detach(), value=-1 / math.log(2))
            chosen = cost.argmin(2)
            vector = F.embedding(chosen, book.vectors)  # before it moves
            if self.training:
                one_hot = F.one_hot(chosen.flatten(), len(book.vectors)).float()
                book.update(target.flatten(0, 1), one_hot)
            return chosen, vector

    def lookup(self, indices: Tensor, share: Tensor) -> Tensor:
        """int64 [B, H, W, G] and float32 [B] to what they stand for, float32 [B, H, W, size]."""
        coded = torch.zeros(*indices.shape[:-1], self.latent_size, device=indices.device)
        for g, book in enumerate(self.codebooks):
            vector = F.embedding(indices[..., g], book.vectors)
            coded[..., self.slices[g]] += vector * self.used(g, share)[:, None, None, None]
        return coded

    @torch.no_grad()
    def restart_unused(self, codebook: int, candidates: Tensor, threshold: float) -> int:
        """Gives codes chosen by fewer than `threshold` of the positions a new start.

        Args:
            codebook: Which one.
            candidates: Badly coded sub-vectors, float32 [N, D].
            threshold: Share of all choices.

        Returns:
            How many codes were moved.
        """
        book = self.codebooks[codebook]
        share = book.counts / book.counts.sum()
        unused = torch.nonzero(share < threshold).squeeze(1)[: len(candidates)]
        if len(unused):
            book.vectors[unused] = candidates[: len(unused)]
            book.counts[unused] = book.counts.sum() * threshold * 4
            # The rate model has learnt that these are never chosen; let it start afresh.
            head = self.rate_logits[codebook]
            head.weight[unused] = 0.0
            head.bias[unused] = head.bias.mean()
        return len(unused)
