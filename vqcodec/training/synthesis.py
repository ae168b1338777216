"""Further training of the finest level's synthesis, on indices that stay as they are.

The search of `codec.compress` chooses other indices than the analysis, which the synthesis was
trained with. Here it learns to restore the images from those. The analysis depends neither on the
synthesis of the finest level nor on the refinement behind it, so priors and indices stay valid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import PIXEL_SCALE, Autoencoder
from vqcodec.training.autoencoder import loss_weight
from vqcodec.training.export import fingerprint, load_autoencoder
from vqcodec.training.indices import IndexSampler
from vqcodec.training.loop import Processes, Training, fast_bfloat16, run


@dataclass(kw_only=True)
class SynthesisTraining(Training):
    """Settings of a run, besides those of every run.

    Attributes:
        autoencoder: Checkpoint of `train autoencoder`, to start from.
        indices: Files of `train indices`, with pixels.
        refine_blocks: Residual blocks of the refinement, as many as it has or more; None for those
            it has.
    """

    autoencoder: Path
    indices: list[Path]
    refine_blocks: int | None = None
    batch: int = 4
    learning_rate: float = 3e-4
    decay: float = 1.0


def grown(autoencoder: Autoencoder, refine_blocks: int | None) -> Autoencoder:
    """The autoencoder with so many blocks of its refinement; new ones add nothing yet.

    Raises:
        CodecError: it has no refinement, or more blocks already.
    """
    before = autoencoder.config
    if refine_blocks is None:
        return autoencoder
    if autoencoder.refinement is None or refine_blocks < before.refine_blocks:
        there = before.refine_blocks if autoencoder.refinement is not None else 0
        reason = f"its refinement has {there} blocks, and cannot have {refine_blocks}"
        raise CodecError(f"{reason}; give {there} or more, or none")
    larger = Autoencoder(replace(before, refine_blocks=refine_blocks))
    missing, unknown = larger.load_state_dict(autoencoder.state_dict(), strict=False)
    assert not unknown
    assert all(name.startswith("refinement.blocks.") for name in missing)
    assert larger.refinement is not None
    with torch.no_grad():
        for block in list(larger.refinement.blocks)[before.refine_blocks :]:
            block.linear.weight.zero_()
            block.linear.bias.zero_()
    return larger.eval()


class Restoration(nn.Module):
    """The training objective: MSE of what is restored from indices."""

    def __init__(self, autoencoder: Autoencoder, bfloat16: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.use_bfloat16 = bfloat16

    def forward(
        self, pixels: Tensor, quality: Tensor, *indices: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, H, W, 3], int64 [B] and per level [B, G, h, w] to the loss and the MSE."""
        autoencoder = self.autoencoder
        position = autoencoder.position(quality)
        vectors = [
            level.lookup(chosen.permute(0, 2, 3, 1), position)
            for level, chosen in zip(autoencoder.levels, indices, strict=True)
        ]
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            restored = autoencoder.decode(vectors, position)
        errors = (restored.float() - autoencoder.normalize(pixels)).square()
        mse = errors.mean((1, 2, 3)) * PIXEL_SCALE**2
        loss = loss_weight(autoencoder.lmbda(position)) * mse
        return loss.mean(), {"mse": mse.mean()}


def train(config: SynthesisTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    It is one of an autoencoder, to export in place of the one it started from.

    Raises:
        CodecError: unusable checkpoint or indices, fewer blocks than there are, or a checkpoint in
            `config.output` that started from another autoencoder.
    """
    autoencoder = load_autoencoder(config.autoencoder)
    if not isinstance(autoencoder, Autoencoder):
        reason = "is a VQ-VAE, whose synthesis is not trained apart; train it further as a whole"
        raise CodecError(reason).in_file(config.autoencoder)
    mark = fingerprint(autoencoder)
    torch.manual_seed(config.seed)
    try:
        autoencoder = grown(autoencoder, config.refine_blocks)
    except CodecError as error:
        raise error.in_file(config.autoencoder) from None
    sampler = IndexSampler(config.indices, mark, pixels=True)
    if len(sampler.levels) != len(autoencoder.levels):
        raise CodecError("the files of indices lack levels; extract them without --levels")
    architecture = autoencoder.config.to_dict()
    with Processes(config.device) as processes:
        autoencoder.requires_grad_(False)
        for part in autoencoder.last_parts().values():
            part.requires_grad_(True)
        autoencoder.to(processes.device)
        use_bfloat16 = (
            fast_bfloat16(processes.device) if config.bfloat16 is None else config.bfloat16
        )
        objective = Restoration(autoencoder, use_bfloat16)

        def draw(step: int) -> tuple[Tensor, ...]:
            seed = [config.seed, processes.rank, step]
            quality, _, levels, pixels = sampler.draw(config.batch, seed)
            assert pixels is not None
            parts = (pixels, quality, *levels)
            return tuple(part.to(processes.device) for part in parts)

        def nothing(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            """Nothing is due between steps."""

        about = {"autoencoder_sha256": mark}
        return run(config, processes, autoencoder, objective, architecture, draw, nothing, about)
