"""`vqcodec compress`: an image file to a .vqz file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vqcodec import folders
from vqcodec.choosing.expected import advice
from vqcodec.choosing.keeping import ALWAYS
from vqcodec.cli import many
from vqcodec.cli.console import examples, naming, progress, rate_text, seconds_text
from vqcodec.cli.options import (
    check_exclusive,
    device_option,
    effort_option,
    force_option,
    json_option,
    keep_of,
    lossless_option,
    many_options,
    max_pixels_option,
    model_option,
    quality_option,
    reading_options,
    target_options,
    tune_option,
    verbosity_options,
)
from vqcodec.container import ENDING
from vqcodec.errors import OutputError
from vqcodec.files import STANDARD_STREAM, input_name, read_bytes, write_atomically
from vqcodec.folders import Task

if TYPE_CHECKING:
    from vqcodec.codec import Compressed


@click.command(
    epilog=examples(
        "compress photo.jpg photo.vqz --quality 40",
        "compress photo.jpg photo.vqz --size 40kB --effort 9   # never more, searched longest",
        "compress photo.jpg photo.vqz --psnr 32 --report",
        "compress photos --out small --recursive --jobs 2 --skip-existing",
        "compress scan.png scan.vqz --lossless always         # every pixel as it is",
        "compress anim.gif third.vqz --frame 2 --strip         # no metadata",
        "compress - - --bpp 0.2 < photo.png > photo.vqz",
    )
)
@click.argument("names", metavar="IN... [OUT]", nargs=-1, required=True, type=click.Path())
@many_options
@quality_option
@target_options
@effort_option
@tune_option
@lossless_option
@click.option(
    "--synthesis",
    type=click.Choice(["faithful", "natural"]),
    help="What decompress restores with unless told otherwise; what it is tuned for if not given.",
)
@model_option
@device_option
@reading_options
@click.option(
    "--tile",
    type=int,
    metavar="N",
    help="Side of a tile in pixels, a power of two from 32 to 4096; smaller needs less memory. If "
    "not given 1024, or 4096 for long narrow images.",
)
@force_option
@click.option(
    "--report", is_flag=True, help="Also decompress, and print PSNR, bits of every level, seconds."
)
@json_option
@max_pixels_option
@verbosity_options
def command(
    names: tuple[str, ...],
    out: str | None,
    recursive: bool,
    jobs: int,
    skip_existing: bool,
    dry_run: bool,
    quality: int | None,
    bpp: float | None,
    size: int | None,
    max_size: int | None,
    psnr: float | None,
    ssimulacra2: float | None,
    effort: int,
    tune: str,
    lossless: str,
    synthesis: str | None,
    model: str | None,
    device: str,
    strip: bool,
    keep_metadata: bool,
    frame: int | None,
    frames: str | None,
    tone_map: bool,
    allow_damaged: bool,
    tile: int | None,
    force: bool,
    report: bool,
    as_json: bool,
) -> None:
    """Compress images to .vqz files.

    One image IN to OUT, or beside itself; with --out as many as there are. Of --quality, --bpp,
    --size, --max-size, --psnr and --ssimulacra2 give one. Prints the bytes of OUT and its bits per
    pixel (bpp), the quality that met a target, and whether it is lossless; of many images a
    summary. Plain images, such as drawings, are mostly kept lossless, as that takes fewer bytes.
    """
    targets = {
        "bpp": bpp,
        "size": size,
        "max_size": max_size,
        "psnr": psnr,
        "ssimulacra2": ssimulacra2,
    }
    check_exclusive(quality=quality, **targets)
    check_exclusive(frame=frame, frames=frames)
    check_exclusive(force=force, skip_existing=skip_existing)
    keep = keep_of(strip, keep_metadata)
    if frames is not None and STANDARD_STREAM in names:
        raise click.UsageError("--frames needs files, not standard input or output.")
    alone = out is None and frames is None
    work = Compression(
        reading={"keep": keep, "tone_map": tone_map, "allow_damaged": allow_damaged},
        coding={
            "quality": quality,
            **targets,
            "effort": effort,
            "tune": tune,
            "lossless": lossless,
            "synthesis": synthesis,
            "model": model,
            "device": device,
            "tile": tile,
        },
        has_target=any(value is not None for value in targets.values()),
        report=report,
        force=force,
        alone=alone,
    )

    from vqcodec.image import endings

    tasks = many.wanted(names, out, ENDING, endings(), recursive=recursive)
    if out is None and not force:
        _check_name(tasks[0].target)
    if frames is not None:
        tasks = [each for task in tasks for each in folders.frames(task, _count_frames)]
    if frame is not None:
        tasks = [task._replace(frame=frame) for task in tasks]
    plan = folders.check(
        tasks, force=force, skip_existing=skip_existing, make_folders=out is not None
    )
    if not many.check(plan, dry_run=dry_run):
        return
    if not alone:
        many.do_all(work, plan, jobs=jobs, report=report, as_json=as_json)
    elif plan.tasks:
        many.do_one(work, plan.tasks[0], as_json=as_json)


@dataclass(frozen=True)
class Compression:
    """What is done with an image's file.

    Attributes:
        reading: Arguments of `image.load`.
        coding: Arguments of `codec.compress`.
        has_target: Whether a size or a score is among them.
        report: Whether to decompress it, too.
        force: Whether to replace an existing target.
        alone: Whether to show its progress.
    """

    reading: dict[str, Any]
    coding: dict[str, Any]
    has_target: bool
    report: bool
    force: bool
    alone: bool

    def __call__(self, task: Task) -> many.Outcome:
        """Compress the source, and write the target.

        Raises:
            CodecError: One of them cannot be read or written, or the options do not fit.
        """
        content = read_bytes(task.source)

        from vqcodec.image import economical, load

        with naming(task.source):
            image = load(content, frame=task.frame or 0, **self.reading)
        bytes_in = len(content)
        del content  # of a large picture it is large, and not needed any more
        if self.coding["lossless"] != ALWAYS:
            image = economical(image)  # which is what a report compares
        # Who names a frame knows of the others.
        left_out = [
            each for each in image.left_out if task.frame is None or "(--frame)" not in each
        ]

        # After the image: a wrong file is told without waiting for torch.
        from vqcodec.codec import compress, decompress

        start = time.perf_counter()
        with progress("compress", shown=self.alone) as advance:
            compressed = compress(image, **self.coding, progress=advance)
        compress_seconds = time.perf_counter() - start

        values = _described(task.target, compressed, compress_seconds)
        if self.has_target and not compressed.header.lossless:
            values |= _met(compressed, "ssimulacra2" if self.coding["psnr"] is None else "psnr")
        if self.report:
            from vqcodec.choosing.rate_control import psnr_of

            start = time.perf_counter()
            with progress("decompress", shown=self.alone) as advance:
                restored = decompress(
                    compressed.data,
                    model=self.coding["model"],
                    device=self.coding["device"],
                    progress=advance,
                )
            values |= {
                "psnr": psnr_of(image.pixels, restored.pixels),
                "levels": _levels(compressed),
                "decompress_seconds": time.perf_counter() - start,
            }
        write_atomically(task.target, compressed.data, force=self.force)
        header = compressed.header
        poor = None
        if not self.has_target and compressed.score is not None:
            poor = advice(header.model_id, header.quality, compressed.score)
        return many.Outcome(
            bytes_in=bytes_in,
            bytes_out=len(compressed.data),
            bytes_coded=len(compressed.data),
            pixels=header.pixels,
            about=input_name(task.source),
            left_out=left_out,
            note=poor,
            values=values,
            texts=_readable(values),
        )


def _check_name(target: str) -> None:
    """Checks that a target is not called a picture: likely it is another input.

    Raises:
        OutputError: it is.
    """
    from vqcodec.image import names_a_picture

    if names_a_picture(target):
        reason = "has the ending of a picture, which a .vqz file is not"
        advice = "--out DIR takes several pictures, --force names it so"
        raise OutputError(f"{reason}; {advice}").in_file(target)


def _count_frames(source: str) -> int:
    from vqcodec.image import count_frames

    return count_frames(read_bytes(source))


def _described(target: str, compressed: Compressed, seconds: float) -> dict[str, Any]:
    header = compressed.header
    size = len(compressed.data)
    return {
        "file": target,
        "bytes": size,
        "bpp": 8 * size / header.pixels,
        "width": header.width,
        "height": header.height,
        "lossless": header.lossless,
        "quality": None if header.lossless else header.quality,
        "compress_seconds": seconds,
    }


def _met(compressed: Compressed, score: str) -> dict[str, Any]:
    """What met a target."""
    values: dict[str, Any] = {"rate_weight": compressed.rate_weight, "passes": compressed.passes}
    return values if compressed.score is None else {**values, score: compressed.score}


def _levels(compressed: Compressed) -> list[dict[str, float]]:
    """Bits of every level: of its payloads, and the ideal code length the priors promise."""
    if compressed.header.lossless:
        return []

    from vqcodec.container import unpack

    return [
        {"bits": 8 * sum(map(len, payloads)), "ideal_bits": ideal}
        for payloads, ideal in zip(
            unpack(compressed.data).sections, compressed.ideal_bits, strict=True
        )
    ]


def _readable(values: dict[str, Any]) -> dict[str, object]:
    """What was found as texts."""
    texts: dict[str, object] = {
        "bytes": values["bytes"],
        "bpp": f"{values['bpp']:.4f}",
        "size": rate_text(values["bytes"], values["bpp"]),
    }
    if values["lossless"]:
        texts["quality"] = "lossless"
    elif "passes" in values:
        texts |= {
            "quality": values["quality"],
            "rate weight": f"{values['rate_weight']:.3f}",
            "passes": values["passes"],
        }
    if "psnr" in values:
        equal = math.isinf(values["psnr"])
        texts["psnr"] = "infinite" if equal else f"{values['psnr']:.2f} dB"
    if "ssimulacra2" in values:
        texts["SSIMULACRA 2"] = f"{values['ssimulacra2']:.2f}"
    if "levels" in values:
        if values["levels"]:
            texts["levels"] = len(values["levels"])
        for level, each in enumerate(values["levels"]):
            texts[f"level {level}"] = f"{each['bits']} bits, ideal {each['ideal_bits']:.1f}"
        texts["compress"] = seconds_text(values["compress_seconds"])
        texts["decompress"] = seconds_text(values["decompress_seconds"])
    return texts
