"""What training the papers' autoencoders has of its own: `models.vqvae`.

Source: van den Oord et al. 2017, equation 3; Razavi et al. 2019, algorithm 1; Adiban et al. 2022,
section 3.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vqcodec.models.vqvae import PIXEL_SCALE, VQVAE, Quantizer
from vqcodec.training.objective import Objective
from vqcodec.training.processes import Processes


def perplexity(rows: Tensor) -> Tensor:
    """Two to the entropy in bits of the choices, int64 [...]: how many codes are in use."""
    counts = torch.bincount(rows.flatten())
    share = counts[counts > 0] / rows.numel()
    return torch.exp(-(share * share.log()).sum())


@torch.no_grad()
def start_from_latents(autoencoder: VQVAE, pixels: Tensor, seed: int) -> None:
    """Lets all codes start at random latents of a batch, uint8 [B, H, W, 3]."""
    autoencoder.eval()
    generator = torch.Generator().manual_seed(seed)
    autoencoder.walk(pixels, before=partial(Quantizer.start, generator=generator))


@torch.no_grad()
def restart_unused(
    autoencoder: VQVAE, pixels: Tensor, processes: Processes, threshold: float, seed: int
) -> None:
    """Moves unused codes to badly coded latents of a batch, uint8 [B, H, W, 3]."""
    autoencoder.eval()
    generator = torch.Generator().manual_seed(seed)

    def restart(quantizer: Quantizer, latents: Tensor, path: Tensor | None) -> None:
        quantizer.restart_unused(latents, path, threshold, generator)
        processes.broadcast(quantizer.codebook.vectors)
        processes.broadcast(quantizer.codebook.counts)

    autoencoder.walk(pixels, before=restart)
    autoencoder.train()


class ReconstructionCommitment(Objective[VQVAE]):
    """MSE + commitment_cost * commitment, both in network units.

    The commitment is the mean squared distance of latents to their code vectors, summed over the
    levels. The code vectors follow by their averages and have no term.
    """

    def start(self, crops: Tensor) -> None:
        """Lets all codes start at random latents."""
        crops = crops.to(next(self.autoencoder.parameters()).device)
        start_from_latents(self.autoencoder, crops, self.config.seed)

    def restart(self, batch: tuple[Tensor, ...], processes: Processes, step: int) -> None:
        """Moves unused codes to badly coded latents."""
        threshold = self.config.restart_threshold
        restart_unused(self.autoencoder, batch[0], processes, threshold, step)

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, H, W, 3] to the loss and what to log: the MSE in 8-bit units, and so on."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            prediction, levels = self.autoencoder(pixels)
        target = self.autoencoder.normalize(pixels)
        mse = (prediction.float() - target).square().mean()
        commitments = [(each.latents.float() - each.vectors).square().mean() for each in levels]
        commitment = torch.stack(commitments).sum()
        means = {"mse": mse * PIXEL_SCALE**2, "commitment": commitment}
        for n, each in enumerate(levels):
            means[f"perplexity_{n}"] = perplexity(each.rows)
        return mse + self.config.commitment_cost * commitment, means
