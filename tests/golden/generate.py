"""Lists the golden files that are missing; with --write, writes them and never an existing one.

    python tests/golden/generate.py [--write]

A golden file is what this release made: later ones must read it as it is, so it is neither
replaced nor removed. For a new case add a line to CASES and write.

Every form that an autoencoder can have has a model here, which test_golden.py holds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
TESTS = HERE.parent
# As a script this file finds neither the package nor the tests' own modules by itself.
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from corridor import decoded_indices, found_indices  # noqa: E402
from tiny import GROUPED, tiny_autoencoder, tiny_priors  # noqa: E402

from vqcodec import codec, container  # noqa: E402
from vqcodec.image import Image, dump, load  # noqa: E402
from vqcodec.models.autoencoder import AutoencoderConfig, LevelConfig  # noqa: E402
from vqcodec.models.family import Family, FamilyConfig  # noqa: E402
from vqcodec.models.vqvae import VQVAE, VQVAEConfig, VQVAELevel  # noqa: E402
from vqcodec.training.export import write_weights  # noqa: E402
from vqcodec.training.hvq import start_from_data  # noqa: E402
from vqcodec.training.presets import books  # noqa: E402
from vqcodec.training.settings import AutoencoderTraining  # noqa: E402
from vqcodec.training.vqvae import ReconstructionCommitment, start_from_latents  # noqa: E402

MANIFEST = HERE / "manifest.json"
EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"  # no entries


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden file: a corner of the small photograph.

    Attributes:
        width: Pixels.
        height: Pixels.
        mode: Any of "grey", "alpha" and "metadata", joined by "-"; else "rgb".
        tile: Side of a tile in pixels.
        quality: 1 to 3; to 10 with codebooks in groups; the papers' families have one.
        model: Name of the model's file, a key of MODELS.
    """

    width: int
    height: int
    mode: str = "rgb"
    tile: int = 32
    quality: int = 2
    model: str = "tiny"

    @property
    def lossless_name(self) -> str:
        return f"lossless-{self.mode}-{self.width}x{self.height}"

    @property
    def name(self) -> str:
        prefix = "" if self.model == "tiny" else f"{self.model}-"
        return f"{prefix}{self.mode}-{self.width}x{self.height}-tile{self.tile}-q{self.quality}"


CASES = [
    Case(1, 1),
    Case(1, 1, "grey-alpha"),
    Case(7, 3),
    Case(7, 3, "grey", quality=3),
    Case(7, 3, "alpha", tile=4096),
    Case(33, 31, quality=1),
    Case(33, 31, quality=3),
    Case(33, 31, "grey"),
    Case(33, 31, "alpha", tile=64),
    Case(33, 31, "metadata"),
    Case(33, 31, "grey-alpha-metadata"),
    Case(128, 96),
    Case(97, 65, tile=64, quality=3),
    Case(128, 96, "grey", tile=64, quality=1),
    # The first and the last quality that has so many groups of codebooks.
    *(Case(61, 50, quality=quality, model="grouped") for quality in (1, 3, 4, 6, 7, 10)),
    # Several tiles with margins, and one pixel.
    *(
        Case(*size, quality=1, model=model)
        for model in ("vqvae", "vqvae2", "residual", "hrvqvae")
        for size in ((45, 37), (1, 1))
    ),
]

LOSSLESS_CASES = [Case(33, 31), Case(33, 31, "grey"), Case(33, 31, "alpha"), Case(1, 1)]
"""Of these neither tile nor quality nor model counts."""

SMALL = {"channels": 8, "residual_channels": 4, "residual_blocks": 1}
MODELS: dict[str, tuple[str, FamilyConfig]] = {
    # Three levels.
    "tiny": (
        "golden-1",
        AutoencoderConfig(
            levels=(
                LevelConfig(8, books((8, 1), (16, 2)), 8, 1, 1, 4),
                LevelConfig(4, books((16, 2), (16, 4), (32, 4)), 8, 1, 1, 4),
                LevelConfig(2, books((16, 2), (16, 4)), 8, 1, 1, 4),
            ),
            lmbdas=(800.0, 200.0, 50.0),
            refine_stride=2,
            refine_channels=8,
            refine_blocks=1,
        ),
    ),
    # Codebooks in groups, some of them for higher qualities alone.
    "grouped": ("golden-2", GROUPED),
    "vqvae": ("golden-vqvae", VQVAEConfig((VQVAELevel(4, 32, 4),), **SMALL)),
    "vqvae2": (
        "golden-vqvae2",
        VQVAEConfig((VQVAELevel(8, 16, 4), VQVAELevel(4, 32, 4)), **SMALL),
    ),
    # Of HR-VQVAE the levels without the links.
    "residual": ("golden-residual", VQVAEConfig((VQVAELevel(4, 8, 4),) * 2, **SMALL)),
    "hrvqvae": ("golden-hrvqvae", VQVAEConfig((VQVAELevel(4, 4, 4),) * 3, linked=True, **SMALL)),
}


def model_file(model: str) -> Path:
    return HERE / f"{model}.safetensors"


def autoencoder_of(config: FamilyConfig, crops: torch.Tensor) -> Family:
    """One that starts from photographs, uint8 [B, H, W, 3]."""
    if isinstance(config, AutoencoderConfig):
        autoencoder = tiny_autoencoder(config)
        start_from_data(autoencoder, crops, seed=1)
        return autoencoder
    torch.manual_seed(1)
    papers = VQVAE(config)
    start_from_latents(papers, crops, seed=1)
    # Untrained synthesis is all but grey, and an image that is would hide a mistake.
    settings = AutoencoderTraining(output=HERE, sources=[], bfloat16=False)
    objective = ReconstructionCommitment(papers.train(), settings)
    optimizer = torch.optim.Adam(papers.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        objective(crops[torch.randint(len(crops), (8,))])[0].backward()
        optimizer.step()
    return papers.eval()


def write_model(model: str) -> None:
    """A small model of a photograph, with random priors."""
    model_id, config = MODELS[model]
    pixels = load(TESTS / "fixtures" / "coffee.png").pixels[:384, :576]
    crops = pixels.reshape(6, 64, 9, 64, 3).swapaxes(1, 2).reshape(54, 64, 64, 3)
    autoencoder = autoencoder_of(config, torch.from_numpy(crops.copy()))
    priors = tiny_priors(autoencoder, channels=8)
    for prior in priors:
        torch.nn.init.normal_(prior.context.quality, std=0.5)
    write_weights(model_file(model), model_id, autoencoder, priors)
    model_file(model).chmod(0o644)


def image_of(case: Case) -> Image:
    pixels = load(TESTS / "fixtures" / "astronaut-crop.png").pixels
    top, left = (96 - case.height) // 2, (128 - case.width) // 2
    pixels = pixels[top : top + case.height, left : left + case.width].copy()
    image = Image(pixels, grey="grey" in case.mode)
    if image.grey:
        image = dataclasses.replace(image, pixels=np.repeat(pixels[..., 1:2], 3, 2))
    if "alpha" in case.mode:
        ramp = np.add.outer(np.arange(case.height), 3 * np.arange(case.width)) % 256
        image = dataclasses.replace(image, alpha=ramp.astype(np.uint8))
    if "metadata" in case.mode:
        profile = load(TESTS / "fixtures" / "chelsea.png", keep="all").icc
        image = dataclasses.replace(image, icc=profile, exif=EXIF)
    return image


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_case(case: Case) -> dict[str, Any]:
    """Writes a case's file, indices and image; returns its entry of the manifest."""
    image, model = image_of(case), model_file(case.model)
    result = codec.compress(
        image, quality=case.quality, lossless="never", model=model, tile=case.tile
    )
    indices = decoded_indices(result.data, model)
    assert all(map(torch.equal, indices, found_indices(image, result.header, model)))
    restored = codec.decompress(result.data, model=model)
    vqz, stored, png = files_of(case.name)
    vqz.write_bytes(result.data)
    levels = {f"level.{n}": level.byte().contiguous() for n, level in enumerate(indices)}
    save_file(levels, stored)
    png.write_bytes(dump(dataclasses.replace(restored, icc=None, exif=None)))
    extras = container.unpack(result.data).extras
    return {
        **dataclasses.asdict(case),
        "sha256": {path.name: sha256(path.read_bytes()) for path in (vqz, stored, png)},
        "extras": {str(kind): sha256(content) for kind, content in sorted(extras.items())},
    }


def write_lossless_case(case: Case) -> dict[str, Any]:
    """Writes a lossless file, and its image as PNG; returns its entry of the manifest."""
    image = image_of(case)
    data = bytes(codec.compress(image, lossless="always"))
    restored = codec.decompress(data)
    assert np.array_equal(restored.channels, image.channels)
    vqz, png = lossless_files_of(case.lossless_name)
    vqz.write_bytes(data)
    png.write_bytes(dump(image))
    return {
        **{name: getattr(case, name) for name in ("width", "height", "mode")},
        "sha256": {path.name: sha256(path.read_bytes()) for path in (vqz, png)},
    }


def lossless_files_of(name: str) -> tuple[Path, Path]:
    """The lossless file, and its image."""
    return HERE / f"{name}.vqz", HERE / f"{name}.png"


def files_of(name: str) -> tuple[Path, Path, Path]:
    """The file, its indices per level (uint8 [G, H/s, W/s]), and the image it restores to."""
    return HERE / f"{name}.vqz", HERE / f"{name}.safetensors", HERE / f"{name}.png"


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["--write"]):
        sys.exit(__doc__)
    manifest: dict[str, Any] = {"model": {}, "cases": {}}
    if MANIFEST.exists():
        manifest = json.loads(MANIFEST.read_text())
    lossless = manifest.setdefault("lossless", {})
    missing = [case for case in CASES if case.name not in manifest["cases"]]
    missing_lossless = [case for case in LOSSLESS_CASES if case.lossless_name not in lossless]
    paths = [path for case in missing for path in files_of(case.name)]
    paths += [path for case in missing_lossless for path in lossless_files_of(case.lossless_name)]
    for path in paths:
        if path.exists():
            sys.exit(f"{path} is there but not in the manifest; remove what made it so, by hand")
        print(path)
    absent = [model for model in MODELS if not model_file(model).exists()]
    for model in absent:
        print(model_file(model))
    if not arguments:
        return
    for model in absent:
        path = model_file(model)
        assert path.name not in manifest["model"], "golden files decode with their own model alone"
        write_model(model)
        manifest["model"][path.name] = sha256(path.read_bytes())
    for case in missing:
        manifest["cases"][case.name] = write_case(case)
    for case in missing_lossless:
        lossless[case.lossless_name] = write_lossless_case(case)
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
