"""Training of a natural synthesis: what looks like a photograph, behind indices that stay.

Squared errors, those in flat areas above all; how far two networks' features are apart (LPIPS); the
structure (MS-SSIM); and, if asked for, a discriminator. It tells for every position which index
stands there, or that the image is restored: so an image has to show what was coded. All but the
squared errors fade with the quality, as the synthesis does.

Source: LPIPS as a loss, Zhang et al. 2018; a discriminator that predicts indices, Muckley et al.
2023; gradients in a fixed ratio at the pixels, after Esser et al. 2021.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vqcodec import registry
from vqcodec.entropy.layers import under
from vqcodec.errors import CodecError
from vqcodec.metrics.lpips import Lpips, Network
from vqcodec.models.autoencoder import PIXEL_MEAN, PIXEL_SCALE, Autoencoder, Decoded
from vqcodec.models.natural import Natural, NaturalConfig
from vqcodec.progress import bar
from vqcodec.syntheses import FORMAT, synthesis_of, write
from vqcodec.training import checkpoint
from vqcodec.training.crops import CropSampler, Draw
from vqcodec.training.loop import Batches, resume, run
from vqcodec.training.processes import Processes, chosen_bfloat16
from vqcodec.training.settings import SynthesisTraining
from vqcodec.weights_file import Model, load

MSE_WEIGHT = 0.001  # of squared errors in levels of 8 bits, against LPIPS and 1 - MS-SSIM
ALEX_WEIGHT = 1.5  # of AlexNet's LPIPS against VGG16's
FLAT_SIDE = 8  # of the blocks whose activity is measured
FLATNESS = 3.0  # added to a block's standard deviation: the smaller, the more flat areas count
LOW_QUALITIES = 2.0  # exponent of the shares of the range drawn: above 1, low ones come more often
RISE = 500  # steps over which the discriminator's gradient comes in
WIDE_CROP = 128  # pixels that MS-SSIM's windows of 7 need a side; smaller ones have windows of 3
WIDTH = 64


class Discriminator(nn.Module):
    """Which index stands at a position, or that the image is restored: logits.

    Args:
        widths: Channels of VGG16's features that it sees, at strides 1, 2, 4, ..., to that of the
            indices.
        labels: How many indices there are; the logit after them stands for restored.
    """

    def __init__(self, widths: list[int], labels: int) -> None:
        super().__init__()
        self.ways = nn.ModuleList()
        for n, width in enumerate(widths):
            way = nn.Sequential(nn.Conv2d(width, WIDTH, 1))
            for _ in range(n, len(widths) - 1):
                way.extend([nn.LeakyReLU(0.2), nn.Conv2d(WIDTH, WIDTH, 4, 2, 1)])
            self.ways.append(way)
        self.out = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, labels + 1, 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features [B, C, h, w] to logits [B, labels + 1, h', w'], of the sides of the last."""
        seen = []
        for way, stage in zip(self.ways, features, strict=True):
            size = stage.square().mean((1, 2, 3), keepdim=True).sqrt()
            seen.append(way(stage / (size + 1e-6)))
        found: Tensor = self.out(torch.stack(seen).sum(0))
        return found


class Adversaries(nn.Module):
    """What is trained: the synthesis, and perhaps a discriminator."""

    def __init__(self, synthesis: Natural, discriminator: Discriminator | None) -> None:
        super().__init__()
        self.synthesis = synthesis
        self.discriminator = discriminator


class PerceptualLoss(nn.Module):
    """The loss.

    Args:
        adversaries: What is trained.
        autoencoder: Whose indices are restored.
        networks: Of LPIPS: VGG16 and AlexNet.
        config: Settings of the run.
    """

    def __init__(
        self,
        adversaries: Adversaries,
        autoencoder: Autoencoder,
        networks: dict[str, Network],
        config: SynthesisTraining,
    ) -> None:
        super().__init__()
        self.adversaries = adversaries
        self._frozen = (autoencoder, networks)  # in a tuple, as they are no part of this
        self.config = config
        device = next(adversaries.parameters()).device
        self.autocast = partial(
            torch.autocast,
            device.type,
            torch.bfloat16,
            enabled=chosen_bfloat16(config.bfloat16, device),
        )

    def forward(
        self, crops: Tensor, position: Tensor, corner: Tensor, step: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and means to log.

        Args:
            crops: uint8 [B, H, W, 3].
            position: Among the knots, all equal: float32 [B].
            corner: Row and column of the part that VGG16 sees: int64 [B, 2], all equal.
            step: Number of the step, [B].
        """
        from pytorch_msssim import ms_ssim

        autoencoder, networks = self._frozen
        with torch.no_grad():
            vectors, labels, before = _coded(autoencoder, crops, position)
        with self.autocast():
            restored = self.adversaries.synthesis(vectors, position, before)
        restored = restored.float().permute(0, 3, 1, 2) * PIXEL_SCALE + PIXEL_MEAN
        target = crops.permute(0, 3, 1, 2).float()
        errors = (restored - target).square()
        flat = (errors * flatness(target)).mean()
        row, column = corner[0].tolist()
        rows, columns = (slice(first, first + self.config.part) for first in (row, column))
        part, alike = (each[:, :, rows, columns] / 127.5 - 1 for each in (restored, target))
        vgg, alex = networks["vgg"], networks["alex"]
        seen = self._features(vgg, part)
        with torch.no_grad():
            real, other = self._features(vgg, alike), self._features(alex, target / 127.5 - 1)
        apart = vgg.distance(seen, real).mean()
        whole = alex.distance(self._features(alex, restored / 127.5 - 1), other).mean()
        structure = 1 - ms_ssim(
            restored.clamp(0, 255),
            target,
            data_range=255,
            weights=[0.2, 0.4, 0.4],
            win_size=7 if crops.shape[1] >= WIDE_CROP else 3,
        )
        share = self.adversaries.synthesis.share(position[:1]).squeeze()
        loss = MSE_WEIGHT * (2 - 1.5 * share) * (errors.mean() + flat) / 2
        loss = loss + share * (apart + ALEX_WEIGHT * whole + structure)
        means = {"mse": errors.mean(), "flat": flat, "vgg": apart, "alex": whole}
        means["ms_ssim"] = 1 - structure
        if self.adversaries.discriminator is None:
            return loss, means
        stride = autoencoder.config.strides[-1]
        height, width = (
            slice(each.start // stride, each.stop // stride) for each in (rows, columns)
        )
        labels = labels[:, height, width]
        stages = len(self.adversaries.discriminator.ways)
        seen, real = seen[:stages], real[:stages]
        told = self._told(real, [each.detach() for each in seen], labels)
        fooled = self._fooled(seen, labels)
        gradients = [
            torch.autograd.grad(each, restored, retain_graph=True)[0] for each in (loss, fooled)
        ]
        sizes = [each.norm() for each in gradients]
        ratio = self.config.adversarial * share * (step[0] / RISE).clamp(max=1.0)
        pull = gradients[0] + ratio * sizes[0] / (sizes[1] + 1e-12) * gradients[1]
        # Has this gradient at the pixels, and the value of the other losses.
        towards = (restored * pull).sum()
        means |= {"discriminator": told, "adversarial": fooled}
        return towards - towards.detach() + loss.detach() + told, means

    def _features(self, network: Network, images: Tensor) -> list[Tensor]:
        """Features of images in -1..1, float32."""
        with self.autocast():
            found = network.features(images)
        return [each.float() for each in found]

    def _told(self, real: list[Tensor], restored: list[Tensor], labels: Tensor) -> Tensor:
        """The discriminator's loss: it has to tell indices of real images, and restored ones."""
        discriminator = self.adversaries.discriminator
        assert discriminator is not None
        with self.autocast():
            of_real, of_restored = discriminator(real).float(), discriminator(restored).float()
        none = torch.full_like(labels, of_real.shape[1] - 1)
        return F.cross_entropy(of_real, labels) + F.cross_entropy(of_restored, none)

    def _fooled(self, restored: list[Tensor], labels: Tensor) -> Tensor:
        """The synthesis's loss: the discriminator has to tell the indices of restored images."""
        discriminator = self.adversaries.discriminator
        assert discriminator is not None
        fixed = {name: each.detach() for name, each in discriminator.named_parameters()}
        with self.autocast():
            logits = functional_call(discriminator, fixed, (restored,)).float()
        return F.cross_entropy(logits, labels)


def flatness(target: Tensor) -> Tensor:
    """Weights of errors, larger where little happens; their mean is 1.

    Args:
        target: float32 [B, 3, H, W] in 0..255; sides are multiples of 8.

    Returns:
        float32 [B, 1, H, W].
    """
    grey = target.mean(1, keepdim=True)
    mean = F.avg_pool2d(grey, FLAT_SIDE)
    variance = F.avg_pool2d(grey.square(), FLAT_SIDE) - mean.square()
    activity = F.avg_pool2d(variance.clamp(min=0).sqrt(), 3, 1, 1, count_include_pad=False)
    weights = 1 / (activity + FLATNESS)
    return F.interpolate(weights / weights.mean(), scale_factor=FLAT_SIDE)


def _coded(
    autoencoder: Autoencoder, crops: Tensor, position: Tensor
) -> tuple[Tensor, Tensor, Decoded]:
    """What crops are coded to.

    Returns:
        The finest level's vectors, the indices of its first codebook, and what the levels before it
        give.
    """
    target = autoencoder.normalize(crops)
    lmbda = autoencoder.choice_lmbda(position)
    before: Decoded | None = None
    for level in autoencoder.levels:
        state = before.state if before else None
        residual = target - before.pixels if before else target
        context = level.context(state, position, target.shape[1:3])
        choice = level.quantize(
            level.analysis(residual, context, position), context, position, lmbda
        )
        if level is autoencoder.levels[-1]:
            assert before is not None
            return choice.vectors, choice.indices[..., 0], before
        before = autoencoder.decode([choice.vectors], position, before)
    raise AssertionError


def _start(path: Path, model: Model) -> dict[str, Tensor]:
    """The tensors of a synthesis: of a file of it, or of a checkpoint."""
    if registry.read_metadata(path).get("format") == FORMAT:
        found = synthesis_of(model, path)
        assert isinstance(found, Natural)
        return found.state_dict()
    return under("average.synthesis", checkpoint.load(path)[0])


def train(config: SynthesisTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    Raises:
        CodecError: a model that cannot have one, unusable sources or weights of LPIPS, or a
            checkpoint of another shape.
    """
    if find_spec("pytorch_msssim") is None:
        raise CodecError("pytorch-msssim is not installed; pip install 'vqcodec[bench]'")
    if config.crop < 64 or config.part % 16 or config.part > config.crop:
        raise CodecError(
            f"cannot train on {config.part} of {config.crop} pixels; crops have 64 or more, and "
            "parts of them a multiple of 16"
        )
    networks = {found.kind.name: found.network for found in map(Lpips, config.lpips)}
    if set(networks) != {"VGG16", "AlexNet"}:
        raise CodecError("--lpips is needed for VGG16 and for AlexNet, once each")
    with Processes(config.device) as processes:
        with bar("images", shown=processes.leads) as progress:
            sampler = CropSampler(config, progress)
        model = load(config.model, str(processes.device))
        torch.manual_seed(config.seed)
        if not isinstance(model.autoencoder, Autoencoder):
            raise CodecError(f"{model.model_id} cannot have a natural synthesis")
        try:
            synthesis = Natural(model.autoencoder, NaturalConfig())
        except ValueError as error:
            raise CodecError(
                f"{model.model_id} cannot have a natural synthesis: {error}"
            ) from error
        of = {"vgg": networks["VGG16"], "alex": networks["AlexNet"]}
        for network in of.values():
            network.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        discriminator = None
        if config.adversarial:
            stages = model.autoencoder.config.strides[-1].bit_length()
            widths = [head.numel() for head in of["vgg"].heads][:stages]
            first = model.autoencoder.config.levels[-1].codebooks[0]
            discriminator = Discriminator(widths, first.num_embeddings)
        adversaries = Adversaries(synthesis, discriminator).to(processes.device)
        architecture = {
            **synthesis.config.to_dict(),
            "model": model.sha256,
            "discriminator": discriminator is not None,
        }
        if not resume(config, architecture) and config.start is not None:
            synthesis.load_state_dict(_start(config.start, model))
        objective = PerceptualLoss(adversaries, model.autoencoder, of, config)
        last = model.autoencoder.config.last_knot

        def batches(first: int) -> Batches:
            seeds = ([config.seed, processes.rank, step] for step in count(first))
            draws = (Draw(config.batch, seed) for seed in seeds)
            for step, (crops, _) in enumerate(sampler.batches(draws), first):
                rng = np.random.default_rng([config.seed, processes.rank, step, 1])
                position = last * config.highest * float(rng.random() ** LOW_QUALITIES)
                room = (config.crop - config.part) // 8
                corner = torch.from_numpy(8 * rng.integers(room + 1, size=2))
                parts = (
                    crops,
                    torch.full((len(crops),), position),
                    corner.expand(len(crops), 2),
                    torch.full((len(crops),), float(step)),
                )
                yield tuple(part.to(processes.device) for part in parts)

        def nothing(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            pass

        return run(config, processes, adversaries, objective, architecture, batches, nothing)


def export(trained: Path, model: str | Path, target: Path) -> str:
    """Writes the average of a checkpoint of `train` as a synthesis of a model; returns its SHA-256.

    Raises:
        CodecError: no such checkpoint, or one for another model.
    """
    tensors, state = checkpoint.load(trained)
    loaded = load(model)
    config = dict(state["config"]) if isinstance(state.get("config"), dict) else {}
    if config.pop("model", None) != loaded.sha256:
        reason = f"was not trained for {loaded.model_id} of these weights; name its model"
        raise CodecError(reason).in_file(trained)
    config.pop("discriminator")
    assert isinstance(loaded.autoencoder, Autoencoder)
    natural = Natural(loaded.autoencoder, NaturalConfig.from_dict(config))
    natural.load_state_dict(under("average.synthesis", tensors))
    return write(target, loaded, natural)
