"""Entropy-constrained product quantization with EMA codebooks.

A position's latent vector is cut into consecutive sub-vectors, one per codebook. Each codebook in
turn chooses argmin(squared distance + lmbda * bits), where the bits come from a rate model that
sees the context of the position and the code vectors chosen before.

Source: codebook updates by exponential moving averages, van den Oord et al. 2017, appendix A.1;
entropy-constrained choice, Chou et al. 1989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec.models.layers import ListOf, zero_linear


@dataclass
class Choice:
    """Result of a quantization.

    Attributes:
        indices: int64 [B, H, W, G].
        vectors: Code vectors, float32 [B, H, W, sum of D]; no gradient.
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
        codebooks: (num_embeddings K, embedding_dim D) in coding order.
        context_channels: C of the context.
        rate_channels: Hidden width R of the rate model, per codebook.
    """

    def __init__(
        self,
        codebooks: Sequence[tuple[int, int]],
        context_channels: int,
        rate_channels: int,
    ) -> None:
        super().__init__()
        self.dims = [dim for _, dim in codebooks]
        self.rate_channels = rate_channels
        self.codebooks = ListOf[Codebook](Codebook(k, d) for k, d in codebooks)
        count = len(self.codebooks)
        self.rate_context = nn.Linear(context_channels, rate_channels * count)
        self.rate_earlier = ListOf[nn.Linear](
            nn.Linear(dim, rate_channels * (count - 1 - g), bias=False)
            for g, dim in enumerate(self.dims[:-1])
        )
        self.rate_logits = ListOf[nn.Linear](zero_linear(rate_channels, k) for k, _ in codebooks)

    def forward(self, latents: Tensor, context: Tensor, lmbda: Tensor, scale: Tensor) -> Choice:
        """Chooses an index of every codebook for every position.

        In training mode the codebooks move towards their latents.

        Args:
            latents: float32 [B, H, W, sum of D].
            context: [B, H, W, C].
            lmbda: Weight of one bit against squared distance, float32 [B].
            scale: Typical size of each latent, float32 [sum of D].
        """
        shape = latents.shape[:-1]
        hidden = self.rate_context(context).flatten(0, 2)
        flat = latents.detach().float().flatten(0, 2)
        weight = lmbda[:, None, None].expand(shape).reshape(-1, 1)
        indices, vectors, bits = [], [], []
        start = 0
        for g, codebook in enumerate(self.codebooks):
            dim = self.dims[g]
            mine = hidden[:, : self.rate_channels]
            hidden = hidden[:, self.rate_channels :]
            logits = self.rate_logits[g](torch.relu(mine)).float()
            log_p = F.log_softmax(logits, -1)
            target = flat[:, start : start + dim]
            # In float32 always: bfloat16 would blur which code is the nearest.
            with torch.autocast(target.device.type, enabled=False):
                distance = codebook.vectors.square().sum(1) - 2 * target @ codebook.vectors.T
                cost = torch.addcmul(distance, weight, log_p.detach(), value=-1 / math.log(2))
                chosen = cost.argmin(1)
                vector = F.embedding(chosen, codebook.vectors)
                if self.training:
                    one_hot = F.one_hot(chosen, len(codebook.vectors)).float()
                    codebook.update(target, one_hot)
            indices.append(chosen)
            vectors.append(vector)
            bits.append(-log_p.gather(1, chosen[:, None]).squeeze(1) / math.log(2))
            if g < len(self.codebooks) - 1:
                hidden = hidden + self.rate_earlier[g](vector / scale[start : start + dim])
            start += dim
        return Choice(
            torch.stack(indices, -1).view(*shape, -1),
            torch.cat(vectors, -1).view(*shape, -1),
            torch.stack(bits, -1).view(*shape, -1),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """int64 [..., G] to code vectors, float32 [..., sum of D]."""
        return torch.cat(
            [F.embedding(indices[..., g], book.vectors) for g, book in enumerate(self.codebooks)],
            -1,
        )

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
