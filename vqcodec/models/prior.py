"""The PixelSNAIL prior in float, as it is trained.

    coarser indices -> context stack (embedding, gated blocks, upsampling) -> context [B,H,W,C]
    own indices -> embedding -> cone convolution 5x5 -> + context
                -> gated residual blocks 3x3 (cone), attention between them if asked for
                -> one head per codebook, which sees the earlier codebooks of the position
                -> logits [B,H,W,K] each

Causal filters keep to the cone of `vqcodec.spec.cone`. Every tensor has the grid that its integer
counterpart in `vqcodec.entropy` has. With `mode = "quantized"` the values are rounded to these
grids (gradients pass straight through), so the float model then differs from the exported one by
requantization's last bit only.

Source: Chen et al. 2018 (PixelSNAIL), van den Oord et al. 2016 (gated blocks); the conditioning by
coarser levels is that of Razavi et al. 2019, section 3.2, on indices instead of features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec.models.layers import ListOf, depth_to_space, interpolation
from vqcodec.spec.cone import CONE3, CONE5, FULL3, POINT, Taps, step_of
from vqcodec.spec.prior import (
    ATTENTION_STEP,
    EMBEDDING_STEP,
    GATE_STEP,
    LOGIT_STEP,
    SIGMOID_STEP,
    TANH_STEP,
    WEIGHT_LIMIT,
    PriorConfig,
)


def round_to(x: Tensor, step: float | Tensor, low: int = -127, high: int = 127) -> Tensor:
    """Puts x on the grid of `step`, within [low, high] steps; gradients pass straight through."""
    return x + ((x.detach() / step).round().clamp_(low, high) * step - x.detach())


class Quantizable(nn.Module):
    """A module with a float, a calibrating and a quantized way to run."""

    mode = "float"

    @property
    def quantized(self) -> bool:
        """Whether values are rounded to the integer prior's grids."""
        return self.mode == "quantized"


def calibrated(module: nn.Module) -> bool:
    """Whether every `Activation` inside has found its step."""
    parts = [part for part in module.modules() if isinstance(part, Activation)]
    return all(int(part.exponent) != UNCALIBRATED for part in parts)


def set_mode(module: nn.Module, mode: str) -> None:
    """Sets every `Quantizable` inside to "float", "calibrate" or "quantized"."""
    for part in module.modules():
        if isinstance(part, Quantizable):
            part.mode = mode


UNCALIBRATED = -1


class Activation(Quantizable):
    """ELU from a residual stream to int8 with a step of 2**-exponent, found by calibration."""

    MIN_EXPONENT, MAX_EXPONENT = 1, 7
    KEPT_SHARE = 0.9995  # of the values stay inside the range

    exponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.tensor(UNCALIBRATED))

    def forward(self, x: Tensor) -> Tensor:
        """Stream [..., C] to [..., C]; calibrating, also sets the exponent."""
        if self.mode == "calibrate" and x.numel():
            some = x.detach().float().abs().flatten()[:: max(1, x.numel() // 100_000)]
            largest = some.quantile(self.KEPT_SHARE)
            exponent = torch.floor(torch.log2(127.0 / largest.clamp(min=1e-3)))
            self.exponent.copy_(exponent.clamp(self.MIN_EXPONENT, self.MAX_EXPONENT))
        if not self.quantized:
            return F.elu(x)
        step = torch.exp2(-self.exponent.to(x.dtype))
        return round_to(F.elu(round_to(x, step, -128, 127)), step)


class Convolution(Quantizable):
    """A convolution over given taps of [B, H, W, C], zeros outside.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        taps: (dy, dx) offsets that are seen.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, taps: Taps) -> None:
        super().__init__()
        self.taps = taps
        rows = [dy for dy, _ in taps]
        reach = max(abs(dx) for _, dx in taps)
        self.top, self.bottom, self.reach = -min(rows), max(rows), reach
        mask = torch.zeros(self.top + self.bottom + 1, 2 * reach + 1)
        for dy, dx in taps:
            mask[dy + self.top, dx + reach] = 1.0
        self.register_buffer("mask", mask, persistent=False)
        bound = (3.0 / (inputs * len(self.taps))) ** 0.5
        self.weight = nn.Parameter(
            torch.empty(outputs, inputs, *mask.shape).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(outputs))

    def weight_scale(self) -> Tensor:
        """Step of each filter's weights: [outputs]."""
        largest = (self.weight.detach() * self.mask).abs().flatten(1).amax(1)
        return largest.clamp(min=1e-8) / WEIGHT_LIMIT

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, inputs] to [B, H, W, outputs]."""
        weight = self.weight * self.mask
        if self.quantized:
            scale = self.weight_scale()[:, None, None, None]
            weight = round_to(weight, scale, -WEIGHT_LIMIT, WEIGHT_LIMIT)
        if self.taps == POINT:
            return F.linear(x, weight[:, :, 0, 0], self.bias)
        x = F.pad(x, (0, 0, self.reach, self.reach, self.top, self.bottom))
        return F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias).permute(0, 2, 3, 1)


class Head(Convolution):
    """The layer that gives the logits of a codebook's index; its weights start as zero.

    Args:
        inputs: Channels in.
        outputs: Codes.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, POINT)
        nn.init.zeros_(self.weight)


class CodeEmbedding(Quantizable):
    """Tables from the indices of several codebooks to vectors that are summed.

    A table is a linear map of the code vectors plus a free part, so that near codes start near.

    Args:
        vectors: Per codebook its code vectors, float32 [K, D].
        outputs: Per codebook the width of its table.
        step: Grid of the table's entries, or None for the streams' grid, which training ignores.
    """

    def __init__(
        self, vectors: Sequence[Tensor], outputs: Sequence[int], step: float | None
    ) -> None:
        super().__init__()
        self.step = step
        for g, codes in enumerate(vectors):
            spread = codes.std(0, correction=0).clamp(min=1e-6)
            self.register_buffer(f"codes_{g}", (codes - codes.mean(0)) / spread)
        self.maps = nn.ParameterList(
            nn.Parameter(torch.randn(codes.shape[1], size) * 0.3 / codes.shape[1] ** 0.5)
            for codes, size in zip(vectors, outputs, strict=True)
        )
        self.free = nn.ParameterList(
            nn.Parameter(torch.randn(len(codes), size) * 0.05)
            for codes, size in zip(vectors, outputs, strict=True)
        )

    def table(self, codebook: int) -> Tensor:
        """float32 [K, outputs]."""
        codes = getattr(self, f"codes_{codebook}")
        table = codes @ self.maps[codebook] + self.free[codebook]
        return round_to(table, self.step) if self.quantized and self.step else table

    def lookup(self, indices: Tensor, codebook: int) -> Tensor:
        """int64 [...] of one codebook to [..., outputs]."""
        return F.embedding(indices, self.table(codebook))

    def forward(self, indices: Tensor, used: Tensor | None = None) -> Tensor:
        """The sum of all tables' entries, [B, H, W, outputs].

        Args:
            indices: int64 [B, G, H, W].
            used: Which codebooks of each image count, bool [B, G]; None for all.
        """
        total = self.lookup(indices[:, 0], 0)
        for g in range(1, indices.shape[1]):
            found = self.lookup(indices[:, g], g)
            if used is not None and not bool(used[:, g].all()):
                found = found * used[:, g, None, None, None]
            total = total + found
        return round_to(total, self.step) if self.quantized and self.step else total


class GatedBlock(Quantizable):
    """stream + Linear(tanh(a) * sigmoid(b)), (a, b) = Conv(ELU(stream))."""

    def __init__(self, channels: int, taps: Taps, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.activation = Activation()
        self.gate = Convolution(channels, 2 * channels, taps)
        self.project = Convolution(channels, channels, POINT)
        with torch.no_grad():
            self.project.weight.mul_(0.5)

    def forward(self, stream: Tensor) -> Tensor:
        """Stream [B, H, W, C] to [B, H, W, C]."""
        a, b = self.gate(self.activation(stream)).chunk(2, -1)
        if self.quantized:
            a = round_to(a, TANH_STEP, -128, 127)
            b = round_to(b, SIGMOID_STEP, -128, 127)
        gated = torch.tanh(a) * torch.sigmoid(b)
        added: Tensor = self.project(round_to(gated, GATE_STEP) if self.quantized else gated)
        dropped: Tensor = self.dropout(added)
        return stream + dropped


class Attention(Quantizable):
    """Causal multi-head self-attention: a position sees the positions of earlier steps.

    Positions of the first step see nothing and get zero.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.heads = heads
        self.activation = Activation()
        self.query_key_value = Convolution(channels, 3 * channels, POINT)
        self.project = Convolution(channels, channels, POINT)

    def forward(self, stream: Tensor) -> Tensor:
        """Stream [B, H, W, C] to [B, H, W, C]."""
        b, h, w, c = stream.shape
        mixed = self.query_key_value(self.activation(stream))
        if self.quantized:
            mixed = round_to(mixed, ATTENTION_STEP)
        query, key, value = mixed.view(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if self.quantized:
            logits = round_to(logits, LOGIT_STEP, -(2**20), 2**20)
        logits = self.dropout(logits)
        steps = torch.tensor(step_of(h, w), device=stream.device)
        hidden = steps[:, None] <= steps[None, :]
        weights = torch.softmax(logits.masked_fill(hidden, -1e4), -1)
        weights = weights * ~hidden
        mean = (weights @ value).transpose(1, 2).reshape(b, h, w, c)
        added: Tensor = self.project(round_to(mean, ATTENTION_STEP) if self.quantized else mean)
        return stream + added


class Context(nn.Module):
    """From the coarser levels' indices, quality and class to a stream at the level's resolution."""

    def __init__(self, config: PriorConfig, vectors: Sequence[Sequence[Tensor]]) -> None:
        super().__init__()
        channels = config.channels
        self.qualities = config.qualities
        rows = config.quality_knots or config.qualities
        self.quality = nn.Parameter(torch.randn(rows, channels) * 0.05)
        self.classes = nn.Parameter(torch.zeros(config.classes + 1, channels))
        self.embeddings = ListOf[CodeEmbedding](
            CodeEmbedding(codes, [channels] * len(codes), None) for codes in vectors
        )
        self.blocks = ListOf[ListOf[GatedBlock]](
            ListOf[GatedBlock](
                GatedBlock(channels, FULL3, config.dropout) for _ in range(config.context_blocks)
            )
            for _ in vectors
        )
        self.activations = ListOf[Activation](Activation() for _ in vectors)
        self.upsamples = ListOf[Convolution](
            Convolution(channels, channels * factor**2, POINT) for factor in config.factors
        )
        self.factors = config.factors

    def quality_table(self) -> Tensor:
        """The vector of every quality: [qualities, C]."""
        rows = len(self.quality)
        if rows == self.qualities:
            return self.quality
        every = torch.arange(self.qualities, device=self.quality.device)
        return interpolation(every * ((rows - 1) / (self.qualities - 1)), rows) @ self.quality

    def forward(
        self, coarser: Sequence[Tensor], quality: Tensor, label: Tensor, height: int, width: int
    ) -> Tensor:
        """int64 [B, G, h, w] per coarser level, [B], [B] to the stream [B, height, width, C]."""
        start = (self.quality_table()[quality] + self.classes[label])[:, None, None, :]
        if not coarser:
            return start.expand(-1, height, width, -1)
        stream: Tensor = start
        for m, indices in enumerate(coarser):
            stream = stream + self.embeddings[m](indices)
            for block in self.blocks[m]:
                stream = block(stream)
            stream = self.upsamples[m](self.activations[m](stream))
            stream = depth_to_space(stream, self.factors[m])
        return stream


def _summed(tables: Sequence[Tensor], indices: Tensor) -> Tensor:
    """Sum of the first codebooks' entries [K, C] at int64 [B, G, H, W]: [B, H, W, C]."""
    starts = list(itertools.accumulate((len(table) for table in tables[:-1]), initial=0))
    known = indices[:, : len(tables)].permute(0, 2, 3, 1)
    places = known + torch.tensor(starts, device=indices.device)
    added = F.embedding_bag(places.flatten(0, 2), torch.cat(list(tables)), mode="sum")
    return added.view(*known.shape[:3], tables[0].shape[1])


class Prior(nn.Module):
    """The float prior of the module's docstring.

    Args:
        config: Its shape.
        vectors: Code vectors of the coarser levels and then of the level itself, float32 [K, D]
            per codebook; embeddings start from them.
    """

    first_qualities: Tensor

    def __init__(self, config: PriorConfig, vectors: Sequence[Sequence[Tensor]]) -> None:
        super().__init__()
        self.config = config
        own = vectors[-1]
        count, channels, hidden = len(own), config.channels, config.head_channels
        self.context = Context(config, vectors[:-1])
        self.embedding = CodeEmbedding(own, [channels] * count, EMBEDDING_STEP)
        self.enter = Convolution(channels, channels, CONE5)
        self.blocks = ListOf[GatedBlock](
            GatedBlock(channels, CONE3, config.dropout) for _ in range(config.blocks)
        )
        self.attentions = ListOf[Attention](
            Attention(channels, config.attention_heads, config.attention_dropout)
            for _ in config.attention_places
        )
        self.activation = Activation()
        self.hidden = Convolution(channels, hidden * count, POINT)
        ranges = [group.codebooks for group in config.codebook_groups]
        self.earlier = CodeEmbedding(
            own[: ranges[-1].start],
            [hidden * (count - group.stop) for group in ranges[:-1] for _ in group],
            None,
        )
        firsts = torch.tensor(config.first_qualities)
        self.register_buffer("first_qualities", firsts, persistent=False)
        self.head_activations = ListOf[Activation](Activation() for _ in own)
        self.heads = ListOf[Head](Head(hidden, len(codes)) for codes in own)

    def forward(
        self,
        indices: Tensor,
        coarser: Sequence[Tensor],
        quality: Tensor,
        label: Tensor | None = None,
    ) -> list[Tensor]:
        """Logits of every index.

        Args:
            indices: The level's own, int64 [B, G, H, W].
            coarser: The coarser levels', coarsest first, int64 [B, G', h, w].
            quality: int64 [B].
            label: Class + 1, or 0 for none: int64 [B].

        Returns:
            Per codebook, [b, H, W, K] in nats, of the b images whose quality has it.
        """
        label = torch.zeros_like(quality) if label is None else label
        used = self.used(quality)
        stream = self.enter(self.embedding(indices, used))
        stream = stream + self.context(coarser, quality, label, *indices.shape[2:])
        for n, block in enumerate(self.blocks):
            if n in self.config.attention_places:
                stream = self.attentions[self.config.attention_places.index(n)](stream)
            stream = block(stream)
        hidden: Tensor = self.hidden(self.activation(stream))
        groups = [group.codebooks for group in self.config.codebook_groups]
        parts = hidden.split([len(group) * self.config.head_channels for group in groups], -1)
        rows = torch.arange(len(indices), device=indices.device)
        logits = []
        for group, tables, mine in zip(groups, self._earlier_tables(), parts, strict=True):
            rows = rows[used[rows, group.start]]
            if len(rows) < len(indices):
                mine = mine[rows]
            if tables:
                mine = mine + _summed(tables, indices[rows])
            for g, part in zip(group, mine.chunk(len(group), -1), strict=True):
                logits.append(self.heads[g](self.head_activations[g](part)))
        return logits

    def _earlier_tables(self) -> list[list[Tensor]]:
        """For each group, what each codebook of earlier groups adds: [K, n * head_channels]."""
        groups = [group.codebooks for group in self.config.codebook_groups]
        sizes = [len(group) * self.config.head_channels for group in groups]
        found: list[list[Tensor]] = [[] for _ in groups]
        for n, group in enumerate(groups[:-1], 1):
            for g in group:
                pieces = self.earlier.table(g).split(sizes[n:], 1)
                for tables, piece in zip(found[n:], pieces, strict=True):
                    tables.append(piece)
        return found

    def used(self, quality: Tensor) -> Tensor:
        """Which codebooks images of some quality have: int64 [B], from 0, to bool [B, G]."""
        return quality[:, None] + 1 >= self.first_qualities

    def bits(
        self,
        indices: Tensor,
        coarser: Sequence[Tensor],
        quality: Tensor,
        label: Tensor | None = None,
    ) -> Tensor:
        """Ideal code length of every codebook's map, in bits: float32 [B, G]."""
        logits = self(indices, coarser, quality, label)
        used = self.used(quality)
        found = []
        for g, maps in enumerate(logits):
            rows = torch.nonzero(used[:, g]).squeeze(1)
            wanted = indices[rows, g]
            nats = F.cross_entropy(maps.float().permute(0, 3, 1, 2), wanted, reduction="none")
            bits = nats.flatten(1).sum(1) / 0.6931471805599453
            found.append(bits.new_zeros(len(used)).index_copy(0, rows, bits))
        return torch.stack(found, 1)
