"""`vqcodec compress`: an image file to a .vqz file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vqcodec import folders
from vqcodec.cli import many
from vqcodec.cli.console import naming, progress
from vqcodec.cli.options import (
    check_exclusive,
    device_option,
    effort_option,
    force_option,
    keep_of,
    many_options,
    model_option,
    quality_option,
    quiet_option,
    reading_options,
    target_options,
    tune_option,
)
from vqcodec.container import ENDING
from vqcodec.errors import OutputError
from vqcodec.files import STANDARD_STREAM, input_name, read_bytes, write_atomically
from vqcodec.folders import Task

if TYPE_CHECKING:
    from vqcodec.codec import Compressed


@click.command(
    epilog="\b\nExamples:\n"
    "  vqcodec compress photo.jpg photo.vqz --quality 40\n"
    "  vqcodec compress photos --out small --recursive --jobs 2 --skip-existing"
)
@click.argument("names", metavar="IN... [OUT]", nargs=-1, required=True)
@many_options
@quality_option
@target_options
@effort_option
@tune_option
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
    default=1024,
    show_default=True,
    metavar="N",
    help="Side of a tile in pixels, a power of two from 32 to 4096; smaller needs less memory.",
)
@force_option
@quiet_option
@click.option(
    "--report", is_flag=True, help="Also decompress, and print PSNR, bits of every level, seconds."
)
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
    synthesis: str | None,
    model: str | None,
    device: str,
    strip: bool,
    keep_metadata: bool,
    frame: int | None,
    frames: str | None,
    tone_map: bool,
    allow_damaged: bool,
    tile: int,
    force: bool,
    quiet: bool,
    report: bool,
) -> None:
    """Compress images to .vqz files.

    One image IN to OUT, or beside itself; with --out as many as there are. Of --quality, --bpp,
    --size, --max-size, --psnr and --ssimulacra2 give one. Prints the bytes of OUT and its bits per
    pixel (bpp), and the quality that met a target; of many images a summary.
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
        many.do_all(work, plan, jobs=jobs, quiet=quiet, report=report)
    elif plan.tasks:
        many.do_one(work, plan.tasks[0], quiet=quiet)


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

        values = _rate(compressed)
        if self.has_target:
            values |= _met(compressed, "SSIMULACRA 2" if self.coding["psnr"] is None else "psnr")
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
                "psnr": f"{psnr_of(image.pixels, restored.pixels):.2f} dB",
                **_levels(compressed),
                "compress": f"{compress_seconds:.2f} s",
                "decompress": f"{time.perf_counter() - start:.2f} s",
            }
        write_atomically(task.target, compressed.data, force=self.force)
        header = compressed.header
        return many.Outcome(
            bytes_in=len(content),
            bytes_out=len(compressed.data),
            bytes_coded=len(compressed.data),
            pixels=header.width * header.height,
            about=input_name(task.source),
            left_out=left_out,
            values=values,
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


def _rate(compressed: Compressed) -> dict[str, object]:
    header = compressed.header
    size = len(compressed.data)
    return {"bytes": size, "bpp": f"{8 * size / (header.width * header.height):.4f}"}


def _met(compressed: Compressed, score: str) -> dict[str, object]:
    """What met a target."""
    values: dict[str, object] = {
        "quality": compressed.header.quality,
        "rate weight": f"{compressed.rate_weight:.3f}",
        "passes": compressed.passes,
    }
    if compressed.score is not None:
        values[score] = f"{compressed.score:.2f}{' dB' * (score == 'psnr')}"
    return values


def _levels(compressed: Compressed) -> dict[str, object]:
    """Bits of every level: of its payloads, and the ideal code length the priors promise."""
    from vqcodec.container import unpack

    sections = unpack(compressed.data).sections
    values: dict[str, object] = {"levels": len(sections)}
    for level, (payloads, ideal) in enumerate(zip(sections, compressed.ideal_bits, strict=True)):
        bits = 8 * sum(map(len, payloads))
        values[f"level {level}"] = f"{bits} bits, ideal {ideal:.1f}"
    return values
