"""Results of a benchmark that nobody ran, for tests of its pages.

The curves are smooth inventions; their sizes are those of a real run.
"""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from vqcodec.bench.blind import Comparison, Restoration, Session
from vqcodec.bench.report import Version, View
from vqcodec.tiling import Window

# key, name, quality -> bpp of the first quality, growth, PSNR at 0.3 bpp
PEERS = [
    ("jpeg", "JPEG", 0.17, 1.25, 27.3),
    ("webp", "WebP", 0.11, 1.25, 29.3),
    ("avif", "AVIF", 0.06, 1.35, 30.3),
    ("jpeg2000", "JPEG 2000", 0.06, 1.35, 28.4),
    ("jxl", "JPEG XL", 0.12, 1.3, 29.0),
]
HOSTILE = '<img src="x" onerror="boom()"> & </script>.png'


def metrics() -> list[dict[str, str]]:
    return [
        {"key": "psnr", "name": "PSNR", "unit": "dB", "better": "higher"},
        {"key": "ms_ssim", "name": "MS-SSIM", "unit": "", "better": "higher"},
        {"key": "ssimulacra2", "name": "SSIMULACRA 2", "unit": "", "better": "higher"},
        {"key": "lpips", "name": "LPIPS (AlexNet)", "unit": "", "better": "lower"},
    ]


def distortion(bpp: float, at: float) -> dict[str, float]:
    """Invented values of all metrics at a rate, for a codec of `at` dB at 0.3 bpp."""
    octaves = math.log2(bpp / 0.3)
    decibels = 12.4 + 0.45 * (at - 30) + 2.7 * octaves
    return {
        "psnr": at + 2.0 * octaves + 0.06 * octaves**2,
        "ms_ssim": 1 - 10 ** (-decibels / 10),
        "ssimulacra2": 50 + 4 * (at - 30) + 16 * octaves,
        "lpips": 0.24 * 2 ** (-0.55 * octaves - 0.12 * (at - 30)),
    }


def results(images: int = 2) -> dict[str, Any]:
    """Results with six codecs at eight qualities, a profile, and names that hold markup."""
    pictures = [
        {"name": f"kodim{n + 1:02d}.png", "width": 768, "height": 512} for n in range(images)
    ]
    pictures[-1]["name"] = HOSTILE
    codecs = [("vqcodec", "vqcodec hvq-photo-1", 0.085, 1.231, 30.6), *PEERS]
    rows, points = [], []
    for key, _, first, growth, at in codecs:
        for quality in range(1, 9):
            bpp = first * growth ** (quality - 1)
            timed = {
                "encode_seconds": 0.44 if key == "vqcodec" else 0.012,
                "decode_seconds": 1.03 if key == "vqcodec" else 0.006,
                "encode_peak": 602_000_000 if key == "vqcodec" else 61_000_000,
                "decode_peak": 588_000_000 if key == "vqcodec" else None,
            }
            shared = {"bpp": bpp, **distortion(bpp, at), **timed}
            points.append({"codec": key, "quality": quality, **shared})
            for picture in pictures:
                size = round(bpp * 768 * 512 / 8)
                row = {"codec": key, "image": picture["name"], "quality": quality, "bytes": size}
                row |= shared
                if key == "vqcodec":
                    shares = (0.11 - 0.006 * quality, 0.3 - 0.01 * quality)
                    coded = 8 * (size - 120)
                    row["level_bits"] = [share * coded for share in (*shares, 1 - sum(shares))]
                rows.append(row)
    return {
        "format": 1,
        "made": {
            "command": "vqcodec bench kodak/ --out report --profile --peer jpeg",
            "date": "2026-11-22",
            "seconds": 812.3,
            "commit": "a807d37c0ffee0123456789abcdef0123456789a",
            "changed": False,
            "model_id": "hvq-photo-1",
            "weights_sha256": "9b75" * 16,
            "weights_bytes": 20_715_420,
            "versions": {"vqcodec": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
            "machine": {
                "platform": "Linux-6.1-x86_64",
                "processor": "Intel(R) Xeon(R) Processor @ 2.60GHz",
                "processors": 2,
                "threads": 2,
                "cpu_capability": "AVX512",
            },
        },
        "images": pictures,
        "metrics": metrics(),
        "codecs": [
            {"key": "vqcodec", "name": "vqcodec hvq-photo-1", "settings": "tile 1024",
             "measured": "all"},
            *({"key": key, "name": name, "settings": "4:2:0", "measured": "all"}
              for key, name, *_ in PEERS),
            {"key": "cheng2020-anchor", "name": "cheng2020-anchor (CompressAI)",
             "settings": "quality 3, random weights", "measured": "speed"},
        ],
        "missing": [
            {"name": "BPG <b>", "reason": "bpgenc is not installed", "remedy": "apt install bpg"}
        ],
        "rows": rows,
        "points": points,
        "comparisons": [
            {
                "anchor": name,
                "source": source,
                "metric": metric["key"],
                "bd_rate_percent": {"pchip": -60.4 + 15 * n + m, "akima": -60.3 + 15 * n + 2 * m},
                "bd_distortion": {"pchip": 3.2 - n, "akima": 3.2 - n},
                "overlap_metric": [26.9, 30.97],
                "overlap_bpp": [0.154, 0.364],
            }
            for source, names in (
                ("measured", [name for _, name, *_ in PEERS]),
                ("published", ["VTM", "JPEG"]),
            )
            for n, name in enumerate(names)
            for m, metric in enumerate(metrics() if source == "measured" else metrics()[:2])
        ]
        + [
            {"anchor": "Cool-Chic", "source": "published", "metric": "psnr",
             "bd_rate_percent": {"pchip": None, "akima": None}, "bd_distortion": None,
             "overlap_metric": None, "overlap_bpp": None},
        ],
        "above": [
            {"anchor": name, "quality": quality, "db": None if quality < 3 else 30.6 - at}
            for _, name, *_, at in PEERS
            for quality in range(1, 9)
        ],
        "speed": [
            {"codec": "cheng2020-anchor", "image": pictures[0]["name"], "encode_seconds": 6.1,
             "decode_seconds": 12.36, "encode_peak": 1_400_000_000, "decode_peak": 1_320_000_000}
        ],
        "profile": profile(),
    }  # fmt: skip


def with_natural(results: dict[str, Any]) -> dict[str, Any]:
    """The same with the curve of another synthesis, which is a little worse in everything."""
    found = copy.deepcopy(results)
    key, name = "vqcodec-natural", "vqcodec, natural"
    found["codecs"].insert(1, {"key": key, "name": name, "settings": "natural", "measured": "all"})
    for part in ("rows", "points", "comparisons", "above"):
        main = [each for each in found[part] if each.get("codec", "vqcodec") == "vqcodec"]
        found[part] += [{**each, "codec": key} for each in copy.deepcopy(main)]
    for point in found["points"]:
        if point["codec"] == key:
            point["psnr"] -= 1.5
    return found


def profile() -> dict[str, Any]:
    positions = (384, 1536, 6144)
    books = (4, 4, 7)
    bits: list[dict[str, Any]] = []
    for level, (count, codebooks) in enumerate(zip(positions, books, strict=True)):
        for codebook in [*range(codebooks), "all"]:
            symbols = count * (codebooks if codebook == "all" else 1)
            bits.append(
                {"quality": 5, "level": level, "codebook": codebook, "symbols": symbols,
                 "uniform": 7.0 * symbols, "marginal": (4.1 - level) * symbols,
                 "hierarchical": (3.6 - level) * symbols, "full": (3.1 - level) * symbols}
            )  # fmt: skip
    total = [row for row in bits if row["codebook"] == "all"]
    priors = ("symbols", "uniform", "marginal", "hierarchical", "full")
    bits.append(
        {"quality": 5, "level": "all", "codebook": "all"}
        | {prior: sum(row[prior] for row in total) for prior in priors}
    )
    sizes = [0.1, 0.4, 1.0, 2.5, 6.0, 12.0, 25.0]
    fit = {
        "compress_seconds": {"intercept": 0.1, "slope": 0.9, "r2": 0.9993},
        "decompress_seconds": {"intercept": 0.3, "slope": 1.6, "r2": 0.9991},
        "compress_peak": {"intercept": 6.1e8, "slope": 1.9e7, "r2": 0.98},
        "decompress_peak": None,
    }
    return {
        "bits": bits,
        "stages": [
            {"verb": verb, "stage": stage, "milliseconds": milliseconds}
            for verb, stages in {
                "compress": {"weights": 9.1, "tiles": 2.2, "analysis": 130.2, "frequencies": 221.0,
                             "encode": 41.0, "pack": 0.4, "rest": 12.0, "all": 415.9},
                "decompress": {"unpack": 0.3, "decode": 801.0, "synthesis": 160.0, "rest": 11.0,
                               "all": 972.3},
            }.items()
            for stage, milliseconds in stages.items()
        ],
        "raster": [
            {"level": level, "positions": count, "codebooks": codebooks,
             "wavefront_steps": 54 * 2**level, "wavefront_seconds": 0.09 * 2**level,
             "raster_seconds": 0.5 * 4**level, "full_pass_seconds": 0.15,
             "full_passes_timed": 3, "extrapolated_seconds": 20.0 * 4**level, "identical": True}
            for level, (count, codebooks) in enumerate(zip(positions, books, strict=True))
        ],
        "scaling": {
            "rows": [
                {"megapixels": size, "width": int(1000 * size**0.5),
                 "height": int(1000 * size**0.5),
                 "compress_seconds": 0.1 + 0.9 * size, "decompress_seconds": 0.3 + 1.6 * size,
                 "compress_peak": 6.1e8 + 1.9e7 * size, "decompress_peak": None, "bpp": 0.26}
                for size in sizes
            ],
            "fit": fit,
        },
    }  # fmt: skip


def published() -> dict[str, list[dict[str, Any]]]:
    """Two curves, one of a codec that was measured too."""
    found = {}
    for name, at in (("VTM", 32.0), ("JPEG", 27.2)):
        rates = [0.05 * 1.6**n for n in range(9)]
        found[name] = [
            {"bpp": bpp, "psnr_db": values["psnr"], "ms_ssim": values["ms_ssim"], "lpips": None,
             "source": "owner/name@0123abc:results/<kodak>.json"}
            for bpp in rates
            for values in [distortion(bpp, at)]
        ]  # fmt: skip
    return found


def view(path: Path) -> View:
    """A photograph in Pillow's codecs at about 8 kB each."""
    with PIL.Image.open(path) as opened:
        original = opened.convert("RGB")
    pixels = np.asarray(original)
    versions = [Version("original", path.stat().st_size, 24.0, None, pixels)]
    for label, kind in (("JPEG", "jpeg"), ("WebP", "webp"), ("AVIF", "avif")):
        data = matched(original, kind)
        with PIL.Image.open(io.BytesIO(data)) as opened:
            restored = np.asarray(opened.convert("RGB"))
        error = float(np.mean((pixels.astype(float) - restored) ** 2))
        bpp = 8 * len(data) / pixels[..., 0].size
        psnr = 10 * math.log10(255**2 / error)
        versions.append(Version(label, len(data), bpp, psnr, restored))
    name = HOSTILE if path.stem == "astronaut-crop" else path.name
    return View(name, original.width, original.height, versions)


def matched(original: PIL.Image.Image, kind: str, limit: int = 8000) -> bytes:
    """The largest file of a format that is not over a size."""
    low, high, best = 1, 95, b""
    while low <= high:
        quality = (low + high) // 2
        stream = io.BytesIO()
        original.save(stream, kind, quality=quality)
        if stream.tell() <= limit or not best:
            best = stream.getvalue()
        low, high = (quality + 1, high) if stream.tell() <= limit else (low, quality - 1)
    return best


CODECS = {
    "vqcodec-faithful": "vqcodec faithful",
    "vqcodec-natural": "vqcodec natural",
    "avif": "AVIF",
}


def session(photograph: Path, side: int = 48) -> Session:
    """A blind comparison of three codecs at two rates, six in all, with crops of a photograph."""
    with PIL.Image.open(photograph) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    window = Window(5, 9, side, side)
    original = pixels[window.slices].copy()
    comparisons = []
    for rate in (0.12, 0.25):
        restored = [
            Restoration(key, name, f"quality {n}", 1000 - n, rate, original // (n + 2) * (n + 2))
            for n, (key, name) in enumerate(CODECS.items())
        ]
        pairs = [(restored[0], restored[1]), (restored[2], restored[0]), (restored[1], restored[2])]
        comparisons += [Comparison(HOSTILE, rate, window, original, *pair) for pair in pairs]
    made = {"seed": 3, **results()["made"]}
    return Session(comparisons, [f"{HOSTILE} at 0.06 bpp: AVIF comes no nearer"], made)
