"""The papers' convolutional autoencoders as one class: VQ-VAE, VQ-VAE-2, HR-VQVAE.

Levels of falling stride (VQ-VAE-2; with one level VQ-VAE):

    pixels -> features, fine to coarse
    for each level, coarse to fine:
        latents = 1x1 convolution of (features | decode of the coarser codes)
        codes   = codes so far, upsampled | nearest code vectors
    pixels = synthesis(codes)

Levels of one stride (HR-VQVAE):

    latents = analysis(pixels)
    for each level: codes = codes so far + nearest code vector of (latents - codes so far)
    pixels  = synthesis(codes)

Level 0 is the coarsest: the `top` of VQ-VAE-2, layer 1 of HR-VQVAE. With linked codebooks a level
has one small codebook for every path of indices through the levels before it, and searches that one
alone: three levels of 8 make 512 code vectors with 3 x 8 distances a position.

Code vectors move by exponential averages; gradients pass straight through the quantization.
Departures from the papers: the codebooks start from latents, and unused codes start afresh.

Source: van den Oord et al. 2017, section 3 and appendix A.1; Razavi et al. 2019, section 3.1;
Adiban et al. 2022, section 3. Starting unused codes afresh: Dhariwal et al. 2020, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec.models.autoencoder import MAX_NUM_EMBEDDINGS
from vqcodec.models.family import Family
from vqcodec.models.layers import ListOf
from vqcodec.models.quantizer import Codebook
from vqcodec.spec import declared

FAMILY = "vqvae"
PIXEL_SCALE = 127.5  # networks see pixels from -1 to 1


@dataclass(frozen=True)
class VQVAELevel:
    """One level.

    Attributes:
        stride: Pixels per position, each way; a power of two.
        num_embeddings: Indices of a position, K; with linked codebooks, of each small codebook.
        embedding_dim: Dimension D of a code vector.
    """

    stride: int
    num_embeddings: int
    embedding_dim: int

    @property
    def codebooks(self) -> tuple[tuple[int, int], ...]:
        """(K, D) of the only codebook that an index of the level chooses from."""
        return ((self.num_embeddings, self.embedding_dim),)


@dataclass(frozen=True)
class VQVAEConfig:
    """The whole autoencoder.

    Attributes:
        levels: Coarse to fine. Their strides fall, or are all the same.
        linked: The indices of the levels before select a level's codebook. Levels of one stride.
        channels: Width of the networks.
        residual_channels: Width inside their residual blocks.
        residual_blocks: Residual blocks of every analysis and synthesis.
        decay: Of the code vectors' moving averages.
    """

    levels: tuple[VQVAELevel, ...]
    linked: bool = False
    channels: int = 128
    residual_channels: int = 64
    residual_blocks: int = 2
    decay: float = 0.99

    def __post_init__(self) -> None:
        declared.check(self, positive=("channels", "residual_channels"), parts=("residual_blocks",))
        strides = self.strides
        falling = all(a > b for a, b in pairwise(strides))
        if not strides or not (falling or self.residual):
            raise ValueError(f"strides must fall or be all the same: {strides}")
        if any(stride < 2 or stride & (stride - 1) for stride in strides):
            raise ValueError(f"strides must be powers of two: {strides}")
        if self.residual and len({level.embedding_dim for level in self.levels}) > 1:
            raise ValueError("levels of one stride need code vectors of one dimension")
        if self.linked and not self.residual:
            raise ValueError("linked codebooks need several levels, all of one stride")
        sizes = [level.num_embeddings for level in self.levels]
        if min(sizes) < 2 or max(sizes) > MAX_NUM_EMBEDDINGS:
            raise ValueError(f"codebooks need 2 to {MAX_NUM_EMBEDDINGS} codes: {sizes}")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> VQVAEConfig:
        """Rebuilds a config from `to_dict`'s JSON-ready form."""
        given = {name: value for name, value in fields.items() if name != "family"}
        levels = tuple(VQVAELevel(**level) for level in fields["levels"])
        return cls(**{**given, "levels": levels})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form of the config, with the name of its family."""
        return {"family": FAMILY, **asdict(self)}

    @property
    def residual(self) -> bool:
        """Whether every level quantizes what those before it left of one latent."""
        return len(self.levels) > 1 and len(set(self.strides)) == 1

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per position of every level, coarse to fine."""
        return tuple(level.stride for level in self.levels)

    @property
    def paths(self) -> tuple[int, ...]:
        """Codebooks of every level: one, or with linked ones as many as there are paths to it."""
        sizes = [level.num_embeddings for level in self.levels]
        return tuple(math.prod(sizes[:n]) if self.linked else 1 for n in range(len(sizes)))

    @property
    def num_qualities(self) -> int:
        """One: rate has no weight in the papers' objectives."""
        return 1

    def groups_of(self, level: int) -> tuple[tuple[int, int], ...]:
        """One group of one codebook, which the only quality has."""
        return ((1, 1),)


class PreactivatedBlock(nn.Module):
    """x + Conv1x1(ReLU(Conv3x3(ReLU(x)))) over [B, C, H, W].

    Source: van den Oord et al. 2017, section 4.1.
    """

    def __init__(self, channels: int, residual_channels: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(channels, residual_channels, 3, padding=1)
        self.mix = nn.Conv2d(residual_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        added: Tensor = self.mix(torch.relu(self.spread(torch.relu(x))))
        return x + added


def _blocks(config: VQVAEConfig) -> list[nn.Module]:
    count, channels = config.residual_blocks, config.channels
    return [PreactivatedBlock(channels, config.residual_channels) for _ in range(count)]


def analysis(config: VQVAEConfig, inputs: int, factor: int) -> nn.Sequential:
    """Networks from [B, inputs, H, W] to [B, channels, H/factor, W/factor]."""
    layers: list[nn.Module] = []
    width = inputs
    for n in range(factor.bit_length() - 1):
        # The finest features, of which there are most, are half as wide.
        next_width = (
            config.channels // 2 if inputs < config.channels and n == 0 else config.channels
        )
        layers += [nn.Conv2d(width, next_width, 4, stride=2, padding=1), nn.ReLU()]
        width = next_width
    layers += [nn.Conv2d(width, config.channels, 3, padding=1), *_blocks(config), nn.ReLU()]
    return nn.Sequential(*layers)


def synthesis(config: VQVAEConfig, inputs: int, outputs: int, factor: int) -> nn.Sequential:
    """Networks from [B, inputs, H, W] to [B, outputs, H * factor, W * factor]."""
    layers = [nn.Conv2d(inputs, config.channels, 3, padding=1), *_blocks(config)]
    width = config.channels
    steps = factor.bit_length() - 1
    for n in range(steps):
        next_width = outputs if n == steps - 1 else config.channels // 2
        layers += [nn.ReLU(), nn.ConvTranspose2d(width, next_width, 4, stride=2, padding=1)]
        width = next_width
    return nn.Sequential(*layers)


def nearest(latents: Tensor, codebooks: Tensor, path: Tensor | None = None) -> Tensor:
    """The nearest code vector of each latent's codebook.

    Args:
        latents: float32 [P, D].
        codebooks: float32 [paths, K, D].
        path: Which codebook each latent searches, int64 [P]; None if there is only one.

    Returns:
        path * K + index, int64 [P].
    """
    norms = codebooks.square().sum(2)
    if path is None:
        return torch.addmm(norms[0], latents, codebooks[0].T, alpha=-2).argmin(1)
    # Latents of one path lie together, so that each codebook is one product.
    order = path.argsort()
    sizes = torch.bincount(path, minlength=len(codebooks)).tolist()
    indices = [
        torch.addmm(norm, some, book.T, alpha=-2).argmin(1)
        for some, book, norm in zip(latents[order].split(sizes), codebooks, norms, strict=True)
    ]
    rows = path * codebooks.shape[1]
    rows[order] += torch.cat(indices)
    return rows


class Quantizer(nn.Module):
    """The codebooks of one level: one, or with linked levels one for every path to it.

    A row of the table of all code vectors is path * K + index, which is the path to the next level.
    """

    mean: Tensor

    def __init__(self, level: VQVAELevel, paths: int, decay: float) -> None:
        super().__init__()
        self.num_embeddings = level.num_embeddings
        self.codebook = Codebook(paths * level.num_embeddings, level.embedding_dim, decay)
        self.register_buffer("mean", torch.zeros(level.embedding_dim))

    @property
    def books(self) -> Tensor:
        """Code vectors by codebook: float32 [paths, K, D]."""
        vectors = self.codebook.vectors
        return vectors.view(-1, self.num_embeddings, vectors.shape[1])

    def forward(self, latents: Tensor, path: Tensor | None) -> Tensor:
        """The rows of the nearest code vectors.

        In training mode the code vectors move towards their latents.

        Args:
            latents: [B, H, W, D].
            path: int64 [B, H, W], or None for one codebook.

        Returns:
            int64 [B, H, W].
        """
        flat = latents.detach().float().flatten(0, 2)
        # In float32 always: bfloat16 would blur which code is the nearest.
        with torch.autocast(flat.device.type, enabled=False):
            rows = nearest(flat, self.books, None if path is None else path.flatten())
            if self.training:
                self._update(flat, rows)
        return rows.view(latents.shape[:-1])

    def _update(self, latents: Tensor, rows: Tensor) -> None:
        book = self.codebook
        counts = torch.bincount(rows, minlength=len(book.counts)).float()
        means = torch.zeros_like(book.vectors).index_add_(0, rows, latents)
        means /= counts.clamp(min=1)[:, None]
        book.update(means, counts.diag())  # as from every latent alone, without its one-hot row
        self._follow()

    def _follow(self) -> None:
        share = self.codebook.counts / self.codebook.counts.sum()
        self.mean.copy_(share @ self.codebook.vectors)

    def lookup(self, rows: Tensor) -> Tensor:
        """int64 [...] to code vectors, float32 [..., D]."""
        return F.embedding(rows, self.codebook.vectors)

    @torch.no_grad()
    def start(self, latents: Tensor, path: Tensor | None, generator: torch.Generator) -> None:
        """Lets the codes start from latents [B, H, W, D] of their paths [B, H, W].

        The averages have the weight of one batch, so that they follow the first steps quickly.
        """
        book = self.codebook
        book.counts.zero_()
        self.restart_unused(latents, path, 0.0, generator)
        flat = latents.float().flatten(0, 2)
        rows = nearest(flat, self.books, None if path is None else path.flatten())
        counts = torch.bincount(rows, minlength=len(book.counts))
        book.counts.copy_((1 - book.decay) * counts.clamp(min=1))
        self._follow()

    @torch.no_grad()
    def restart_unused(
        self, latents: Tensor, path: Tensor | None, threshold: float, generator: torch.Generator
    ) -> int:
        """Moves codes chosen by at most `threshold` of the positions to badly coded latents.

        A code takes only a latent that may choose it: one of its path.

        Args:
            latents: [B, H, W, D].
            path: int64 [B, H, W], or None.
            threshold: Share of all choices.
            generator: On the CPU.

        Returns:
            How many codes were moved.
        """
        book = self.codebook
        flat = latents.float().flatten(0, 2)
        paths = torch.zeros_like(flat[:, 0], dtype=torch.int64) if path is None else path.flatten()
        coded = self.lookup(nearest(flat, self.books, paths))
        error = ((flat - coded).square().sum(1) + 1e-12).cpu()
        limit = threshold * book.counts.sum()
        unused = (book.counts <= limit).view(-1, self.num_embeddings).cpu()
        moved = 0
        for p in torch.nonzero(unused.any(1)).flatten().tolist():
            mine = torch.nonzero(paths.cpu() == p).flatten()
            rows = p * self.num_embeddings + torch.nonzero(unused[p]).flatten()[: len(mine)]
            if len(rows):
                picked = mine[torch.multinomial(error[mine], len(rows), generator=generator)]
                book.vectors[rows] = flat[picked]
                book.counts[rows] = 1.5 * limit  # soon due again if nothing takes it
                moved += len(rows)
        return moved


class PyramidLevel(nn.Module):
    """A level of VQ-VAE-2, with its view of the coarser ones."""

    def __init__(self, config: VQVAEConfig, n: int) -> None:
        super().__init__()
        level = config.levels[n]
        self.stride = level.stride
        self.quantizer = Quantizer(level, config.paths[n], config.decay)
        self.conditioning: nn.Sequential | None = None
        self.upsample = nn.Sequential()
        features = config.channels
        if n:
            factor = config.strides[n - 1] // level.stride
            joined = sum(coarser.embedding_dim for coarser in config.levels[:n])
            self.conditioning = synthesis(config, joined, level.embedding_dim, factor)
            for _ in range(factor.bit_length() - 1):
                self.upsample.append(nn.ConvTranspose2d(joined, joined, 4, stride=2, padding=1))
            features += level.embedding_dim
        self.project = nn.Conv2d(features, level.embedding_dim, 1)

    def latents(self, features: Tensor, codes: Tensor | None) -> Tensor:
        """What to quantize, [B, D, h, w], given the codes of the coarser levels."""
        if self.conditioning is not None and codes is not None:
            features = torch.cat([features, self.conditioning(codes)], 1)
        projected: Tensor = self.project(features)
        return projected

    def join(self, codes: Tensor | None, own: Tensor | None) -> Tensor:
        """Codes of the coarser levels and of this one; the mean code stands in for none."""
        if codes is None:
            assert own is not None
            return own
        wide: Tensor = self.upsample(codes)
        if own is None:
            b, _, h, w = wide.shape
            own = self.quantizer.mean[None, :, None, None].expand(b, -1, h, w)
        return torch.cat([wide, own], 1)


class ResidualLevel(nn.Module):
    """A level of HR-VQVAE."""

    def __init__(self, config: VQVAEConfig, n: int) -> None:
        super().__init__()
        self.stride = config.levels[n].stride
        self.quantizer = Quantizer(config.levels[n], config.paths[n], config.decay)

    def latents(self, features: Tensor, codes: Tensor | None) -> Tensor:
        """What to quantize, [B, D, h, w]: what the coarser levels left of the features."""
        return features if codes is None else features - codes.detach()

    def join(self, codes: Tensor | None, own: Tensor | None) -> Tensor:
        """The sum of the coarser levels' codes and this one's; none leaves it as it is."""
        if codes is None or own is None:
            found = own if codes is None else codes
            assert found is not None
            return found
        return codes + own


@dataclass
class Quantized:
    """What one level gives.

    Attributes:
        latents: [B, h, w, D].
        rows: Of the table of code vectors, int64 [B, h, w].
        vectors: Code vectors, float32 [B, h, w, D]; no gradient.
    """

    latents: Tensor
    rows: Tensor
    vectors: Tensor


BeforeQuantizing = Callable[[Quantizer, Tensor, Tensor | None], None]
"""Called with a level's quantizer, its latents [B, h, w, D] and path [B, h, w] or None."""


class VQVAE(Family):
    """The autoencoder of the module's docstring. Inside, feature maps are [B, C, H, W]."""

    config: VQVAEConfig

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        strides = config.strides
        finest = strides[-1]
        numbers = range(len(strides))
        kind = ResidualLevel if config.residual else PyramidLevel
        self.levels = ListOf[PyramidLevel | ResidualLevel](kind(config, n) for n in numbers)
        if config.residual:
            dim = config.levels[0].embedding_dim
            stage = analysis(config, 3, finest)
            stage.append(nn.Conv2d(config.channels, dim, 1))
            self.analysis = ListOf[nn.Sequential]([stage])
        else:
            dim = sum(level.embedding_dim for level in config.levels)
            self.analysis = ListOf[nn.Sequential](
                [
                    *(analysis(config, config.channels, a // b) for a, b in pairwise(strides)),
                    analysis(config, 3, finest),
                ]
            )
        self.synthesis = synthesis(config, dim, 3, finest)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in network units."""
        return pixels.permute(0, 3, 1, 2).float() / PIXEL_SCALE - 1

    def code_vectors(self) -> list[list[Tensor]]:
        """Code vectors of every level and codebook, float32 [K, D], for the priors' embeddings.

        With linked codebooks an index means another vector on every path; their mean is all that
        the index tells by itself.
        """
        return [[level.quantizer.books.mean(0)] for level in self.levels]

    def lmbdas(self) -> None:
        """None: the nearest code is chosen, whatever it costs."""
        return

    def walk(
        self, pixels: Tensor, levels: int | None = None, before: BeforeQuantizing | None = None
    ) -> tuple[list[Quantized], Tensor]:
        """Quantizes level after level.

        Args:
            pixels: uint8 [B, H, W, 3]; H and W are multiples of the coarsest stride.
            levels: So many levels only, coarsest first; None for all.
            before: Called before each level is quantized.

        Returns:
            What each level gave, and the joined codes with their straight-through gradient.
        """
        found: list[Quantized] = []
        features: list[Tensor] = []
        hidden = self.normalize(pixels)
        for stage in reversed(self.analysis):
            hidden = stage(hidden)
            features.insert(0, hidden)
        codes: Tensor | None = None
        path: Tensor | None = None
        for n, level in enumerate(self.levels[:levels]):
            latents = level.latents(features[min(n, len(features) - 1)], codes)
            last = latents.permute(0, 2, 3, 1)
            if before is not None:
                before(level.quantizer, last, path)
            rows = level.quantizer(last, path)
            vectors = level.quantizer.lookup(rows)
            found.append(Quantized(last, rows, vectors))
            own = vectors.permute(0, 3, 1, 2)
            if n == 0 or not self.config.residual:  # of a sum, the first term carries the gradient
                own = latents + (own - latents).detach()
            codes = level.join(codes, own)
            path = rows if self.config.linked else None
        assert codes is not None
        return found, codes

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Quantized]]:
        """One training pass: uint8 [B, H, W, 3] to the prediction [B, 3, H, W] and the levels."""
        found, codes = self.walk(pixels)
        return self.synthesis(codes), found

    @torch.inference_mode()
    def quantize(
        self,
        pixels: Tensor,
        quality: Tensor,
        levels: int | None = None,
        rate_weight: float = 1.0,
        coarser_weight: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """See `Family.quantize`; the nearest codes, and bits as if all were as likely."""
        found, _ = self.walk(pixels, levels)
        indices, bits = [], []
        for level, quantized in zip(self.config.levels, found, strict=False):
            indices.append(quantized.rows[:, None] % level.num_embeddings)
            bits.append(indices[-1][0].numel() * math.log2(level.num_embeddings))
        return indices, torch.tensor(bits, device=pixels.device).expand(len(pixels), -1)

    @torch.inference_mode()
    def synthesize(self, indices: Sequence[Tensor], quality: Tensor) -> Tensor:
        """See `Family.synthesize`.

        A missing level of VQ-VAE-2 is taken to hold its mean code everywhere. Of HR-VQVAE the sum
        ends earlier: a code is about the mean of all that share it.
        """
        codes: Tensor | None = None
        path: Tensor | None = None
        for n, level in enumerate(self.levels):
            own: Tensor | None = None
            if n < len(indices):
                rows = indices[n][:, 0]
                if path is not None:
                    rows = path * level.quantizer.num_embeddings + rows
                own = level.quantizer.lookup(rows).permute(0, 3, 1, 2)
                path = rows if self.config.linked else None
            codes = level.join(codes, own)
        prediction: Tensor = self.synthesis(codes)
        pixels = (prediction.permute(0, 2, 3, 1).float() + 1) * PIXEL_SCALE
        return pixels.round_().clamp_(0, 255).to(torch.uint8)
