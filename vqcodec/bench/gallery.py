"""A page to look at: pictures beside what .vqz files of several qualities restore.

The page is `gallery.html`, a Jinja2 template that includes `head.html`, `report.css`, `gallery.css`
and `gallery.js`. Like the report it loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import PIL.Image

from vqcodec import __version__, container
from vqcodec.bench import plots, report
from vqcodec.choosing.effort import checked_effort
from vqcodec.choosing.rate_control import psnr_of
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError
from vqcodec.files import input_name, read_bytes
from vqcodec.image import Image, as_image, economical, load
from vqcodec.photos import SUFFIXES
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.weights_file import load as load_weights

TEMPLATE = "gallery.html"
ENDING = ".vqz"
_UNTOLD: tuple[str | None, ...] = (None,)  # what a file is made for
_SHARES = (0.2, 0.5, 0.8)  # of a model's qualities, if none are given


@dataclass(frozen=True)
class Settings:
    """Of a page.

    Attributes:
        files: Pictures, .vqz files, and folders of them.
        qualities: To compress pictures at; none for three of the model's.
        syntheses: What restores them; none for what a .vqz file is made for, or the faithful one.
        effort: Of the search for indices; None for the usual one.
        model: A model id, or the path of a weights file; None for the default model, or for that
            which a .vqz file names.
        device: Where to run the networks.
        max_side: The longest side of what is shown, in pixels. Larger pictures are made smaller
            before they are compressed, what .vqz files restore after it.
    """

    files: Sequence[Path]
    qualities: Sequence[int]
    syntheses: Sequence[str]
    effort: int | None
    model: str | None
    device: str
    max_side: int


@dataclass(frozen=True)
class Version:
    """One version of a picture.

    Attributes:
        label: What it is.
        bytes: Of its file; None where that holds another size.
        bpp: Bits per pixel of that file.
        psnr: Against the original in dB; None if it is the original, or there is none.
        address: What the page shows, inside it.
    """

    label: str
    bytes: int | None
    bpp: float | None
    psnr: float | None
    address: str


@dataclass(frozen=True)
class Picture:
    """A picture in several versions.

    Attributes:
        name: Of its file.
        width: In pixels, as it is shown.
        height: As `width`.
        note: What else there is to say of it, or nothing.
        versions: The original first, if there is one.
    """

    name: str
    width: int
    height: int
    note: str
    versions: Sequence[Version]


def found_files(paths: Sequence[Path]) -> list[Path]:
    """Files, and the pictures and .vqz files of folders in the order of their names.

    Raises:
        CodecError: a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        endings = {*SUFFIXES, ENDING}
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in endings)
        if not inside:
            raise CodecError("holds no pictures; name files or folders of them").in_file(path)
        found += inside
    return found


def pictures(settings: Settings, progress: Progress) -> list[Picture]:
    """Compresses and restores.

    Raises:
        CodecError: no such file, model, quality or synthesis.
    """
    files = found_files(settings.files)
    found = []
    for done, path in enumerate(files):
        progress(path.name, done, len(files))
        content = read_bytes(path)
        show = _restored if content.startswith(container.MAGIC) else _compressed
        try:
            found.append(show(path.name, content, settings))
        except CodecError as error:
            error.in_file(input_name(path))
            raise
    return found


def page(found: Sequence[Picture], settings: Settings) -> str:
    """The page as one HTML document."""
    made = [date.today().isoformat(), f"vqcodec {__version__}"]
    if any(picture.versions[0].label == "original" for picture in found):
        model = load_weights(settings.model or DEFAULT_MODEL, settings.device)
        made += [model.model_id, f"effort {checked_effort(settings.effort)}"]
    return (
        report.environment()
        .get_template(TEMPLATE)
        .render(colours=plots.COLOURS, pictures=found, made=", ".join(made))
    )


def _compressed(name: str, content: bytes, settings: Settings) -> Picture:
    """A picture beside what is left of it at every quality."""
    whole = economical(load(content))
    original = _reduced(whole, settings.max_side)
    height, width = original.pixels.shape[:2]
    same = original is whole
    versions = [
        Version(
            label="original",
            bytes=len(content) if same else None,
            bpp=8 * len(content) / (width * height) if same else None,
            psnr=None,
            address=_address(original),
        )
    ]
    for quality in settings.qualities or _some_qualities(settings):
        data = bytes(
            compress(
                original,
                quality=quality,
                effort=settings.effort,
                lossless="never",
                model=settings.model,
                device=settings.device,
            )
        )
        for synthesis in settings.syntheses or _UNTOLD:
            restored = decompress(
                data, model=settings.model, synthesis=synthesis, device=settings.device
            )
            versions.append(
                Version(
                    label=", ".join(filter(None, [f"quality {quality}", synthesis])),
                    bytes=len(data),
                    bpp=8 * len(data) / (width * height),
                    psnr=psnr_of(original.pixels, restored.pixels),
                    address=_address(restored),
                )
            )
    return Picture(
        name, width, height, "" if same else f"made smaller from {_size(whole)}", versions
    )


def _restored(name: str, content: bytes, settings: Settings) -> Picture:
    """What a .vqz file restores, by every synthesis."""
    header = container.unpack(content).header
    versions = []
    shown: list[Image] = []
    for synthesis in _UNTOLD if header.lossless else settings.syntheses or _UNTOLD:
        whole = decompress(
            content, model=settings.model, synthesis=synthesis, device=settings.device
        )
        shown.append(_reduced(whole, settings.max_side))
        versions.append(
            Version(
                label=synthesis or "restored",
                bytes=len(content),
                bpp=8 * len(content) / header.pixels,
                psnr=None,
                address=_address(shown[-1]),
            )
        )
    height, width = shown[0].pixels.shape[:2]
    made = "lossless" if header.lossless else f"{header.model_id}, quality {header.quality}"
    notes = [made]
    if (width, height) != (header.width, header.height):
        notes.append(f"shown smaller than its {_size(whole)}")
    return Picture(name, width, height, ", ".join(notes), versions)


def _some_qualities(settings: Settings) -> list[int]:
    """Three of a model's, or fewer where it has fewer."""
    count = load_weights(settings.model or DEFAULT_MODEL, settings.device).qualities
    return sorted({max(1, round(share * count)) for share in _SHARES})


def _reduced(image: Image, max_side: int) -> Image:
    if max(image.pixels.shape[:2]) <= max_side:
        return image
    picture = image.to_pil()
    picture.thumbnail((max_side, max_side), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
    return as_image(picture)


def _size(image: Image) -> str:
    height, width = image.pixels.shape[:2]
    return f"{width} \N{MULTIPLICATION SIGN} {height}"


def _address(image: Image) -> str:
    return report.data_uri(image.channels, image.icc)
