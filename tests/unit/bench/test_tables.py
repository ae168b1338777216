"""The tables that a script writes into Markdown files from results."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vqcodec.bench import tables
from vqcodec.bench.curves import is_kodak
from vqcodec.bench.results import read
from vqcodec.errors import CodecError
from vqcodec.registry import DEFAULT_MODEL, MODELS

ROOT = Path(__file__).parents[3]
STORED = ROOT / "benchmarks" / "results"
OTHERS = "-on-"  # between a model's id and the name of other images, in a folder's name

Tables = Callable[..., Result]


def point(codec: str, quality: int, bpp: float, psnr: float, **values: Any) -> dict[str, Any]:
    return {
        "codec": codec,
        "quality": quality,
        "bpp": bpp,
        "psnr": psnr,
        "ms_ssim": 0.91234,
        "encode_seconds": 0.0421,
        "decode_seconds": 1.234,
        "encode_peak": 612345678,
        "decode_peak": None,
        **values,
    }


def comparison(anchor: str, source: str, metric: str, rate: float | None) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "source": source,
        "metric": metric,
        "bd_rate_percent": {"pchip": rate, "akima": rate},
        "bd_distortion": {"pchip": 1.0, "akima": 1.0},
        "overlap_metric": None if rate is None else [26.91, 30.97],
        "overlap_bpp": None if rate is None else [0.154, 0.3641],
    }


RESULTS: dict[str, Any] = {
    "format": 1,
    "made": {
        "command": "vqcodec bench kodak --out here",
        "date": "2026-11-22",
        "seconds": 812.3,
        "commit": "a807d37c0ffee0000000",
        "changed": True,
        "model_id": "hvq-photo-1",
        "weights_sha256": "9b75" * 16,
        "versions": {"vqcodec": "0.1.0", "torch": "2.13.0"},
        "machine": {
            "platform": "Linux",
            "processor": "Xeon",
            "processors": 2,
            "threads": 1,
            "cpu_capability": "AVX512",
        },
    },
    "images": [
        {"name": "a.png", "width": 100, "height": 60},
        {"name": "b.png", "width": 40, "height": 100},
    ],
    "metrics": [
        {"key": "psnr", "name": "PSNR", "unit": "dB", "better": "higher"},
        {"key": "ms_ssim", "name": "MS-SSIM", "unit": "", "better": "higher"},
        {"key": "lpips", "name": "LPIPS (AlexNet)", "unit": "", "better": "lower"},
    ],
    "codecs": [
        {"key": "vqcodec", "name": "vqcodec", "settings": "defaults", "measured": "all"},
        {"key": "jpeg", "name": "JPEG", "settings": "4:2:0", "measured": "all"},
        {"key": "mbt2018", "name": "mbt2018", "settings": "quality 3", "measured": "speed"},
    ],
    "points": [
        point("vqcodec", 1, 0.0857, 26.1),
        point("vqcodec", 5, 0.2618, 30.17),
        point("jpeg", 5, 0.154, 23.85),
        point("jpeg", 10, 0.268, 26.67),
    ],
    "comparisons": [
        comparison("JPEG", "measured", "psnr", -60.42),
        comparison("JPEG", "measured", "ms_ssim", -55.0),
        comparison("VTM", "published", "psnr", None),
    ],
    "above": [
        {"anchor": "JPEG", "quality": 1, "db": None},
        {"anchor": "JPEG", "quality": 5, "db": 3.634},
    ],
    "speed": [
        {"codec": "mbt2018", "encode_seconds": seconds, "decode_seconds": 21.26}
        | {"encode_peak": peak, "decode_peak": None}
        for seconds, peak in ((4.0, 1_000_000), (5.0, 3_000_000), (9.0, 2_000_000))
    ],
    "profile": {
        "seconds": 345.6,
        "bits": [
            {"quality": 5, "level": level, "codebook": codebook, "symbols": 1200}
            | {"uniform": 8000.0, "marginal": 7000.0, "hierarchical": hierarchical, "full": 5000.0}
            for level, codebook, hierarchical in (
                (0, 0, 1.0),
                (0, "all", 6250),
                ("all", "all", None),
            )
        ],
        "stages": [{"verb": "compress", "stage": "analysis", "milliseconds": 123.45}],
        "raster": [
            {"level": 2, "positions": 6144, "codebooks": 7, "wavefront_steps": 222}
            | {"wavefront_seconds": 0.61, "raster_seconds": 9.4, "full_pass_seconds": 0.1}
            | {"full_passes_timed": 3, "extrapolated_seconds": 614.4, "identical": True}
        ],
        "scaling": {
            "rows": [
                {"megapixels": mega, "width": 1000, "height": round(1000 * mega), "bpp": 0.25}
                | {"compress_seconds": 2 * mega, "decompress_seconds": 4 * mega}
                | {"compress_peak": 600_000_000, "decompress_peak": None}
                for mega in (0.5, 2.0)
            ],
            "fit": {
                "compress_seconds": {"intercept": 0.01, "slope": 2.0, "r2": 0.9999},
                "decompress_seconds": {"intercept": 0.0, "slope": 4.0, "r2": 1.0},
                "compress_peak": {"intercept": 5e8, "slope": 3_000_000.0, "r2": 0.5},
                "decompress_peak": None,
            },
        },
    },
}


def cells(name: str, results: dict[str, Any] = RESULTS) -> list[list[str]]:
    lines = tables.TABLES[name](results).splitlines()
    assert set(lines[1]) <= set("| -")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def test_rate_leaves_out_metrics_that_were_not_measured() -> None:
    assert cells("rate") == [
        ["quality", "bpp", "PSNR, dB", "MS-SSIM", "dB above JPEG"],
        ["1", "0.086", "26.10", "0.9123", ""],
        ["5", "0.262", "30.17", "0.9123", "+3.63"],
    ]


def test_rate_shows_lpips_if_it_is_there() -> None:
    results = copy.deepcopy(RESULTS)
    results["points"][0]["lpips"] = 0.25
    header, low, high = cells("rate", results)
    assert header[4] == "LPIPS (AlexNet)"
    assert (low[4], high[4]) == ("0.2500", "")


def test_bd_rate() -> None:
    assert cells("bd-rate") == [
        [
            *("anchor", "source", "BD-rate by PSNR, %", "BD-rate by MS-SSIM, %"),
            *("bpp in common, by PSNR", "PSNR in common, dB"),
        ],
        ["JPEG", "measured", "-60.4", "-55.0", "0.154 to 0.364", "26.9 to 31.0"],
        ["VTM", "published", "", "", "none", "none"],
    ]


def with_another_synthesis() -> dict[str, Any]:
    results = copy.deepcopy(RESULTS)
    natural = {"key": "vqcodec-natural", "name": "vqcodec, natural", "settings": "natural"}
    results["codecs"].insert(1, natural | {"measured": "all"})
    results["points"].insert(2, point("vqcodec-natural", 5, 0.2618, 28.0))
    against = comparison("JPEG", "measured", "psnr", -30.0)
    results["comparisons"].append(against | {"codec": "vqcodec-natural"})
    above = {"codec": "vqcodec-natural", "anchor": "JPEG", "quality": 5, "db": 1.2}
    results["above"].append(above)
    return results


def test_rows_of_a_further_codec_name_it() -> None:
    results = with_another_synthesis()
    assert [row[:2] + row[-1:] for row in cells("rate", results)] == [
        ["quality", "codec", "dB above JPEG"],
        ["1", "vqcodec", ""],
        ["5", "vqcodec", "+3.63"],
        ["5", "vqcodec, natural", "+1.20"],
    ]
    rows = [row[:2] for row in cells("bd-rate", results)]
    assert rows[1] == ["JPEG", "vqcodec"]
    assert rows[-1] == ["JPEG", "vqcodec, natural"]


def test_the_short_table_has_further_ways_beside_avif_alone() -> None:
    results = with_another_synthesis()
    against = comparison("AVIF", "measured", "psnr", -10.0) | {"codec": "vqcodec-natural"}
    results["comparisons"].append(against)
    further = [row[:3] for row in cells("bd-rate-short", results) if "natural" in row[1]]
    assert further == [["AVIF", "vqcodec, natural", "-10.0"]]


def test_low_rates_are_compared_anew() -> None:
    curves = {"vqcodec": (0.1, 0.2, 0.4, 0.8), "jpeg": (0.2, 0.4, 0.8, 1.6)}
    levels = (26.0, 28.0, 30.0, 32.0)
    points = [
        point(codec, n, bpp, psnr)
        for codec, rates in curves.items()
        for n, (bpp, psnr) in enumerate(zip(rates, levels, strict=True))
    ]
    (header, row) = cells("bd-rate-low", RESULTS | {"points": points})
    assert header[-2:] == ["bpp in common, by PSNR", "PSNR in common, dB"]
    assert row[:3] == ["JPEG", "measured", "-50.0"]
    assert row[-2] == "0.200 to 0.500"


def test_speed_is_taken_near_one_rate_and_random_weights_are_flagged() -> None:
    assert cells("speed") == [
        ["codec", "settings", "at", "encode, s", "decode, s", "encode, MB"],
        ["vqcodec", "defaults", "quality 5, 0.262 bpp", "0.042", "1.23", "612"],
        ["JPEG", "4:2:0", "quality 10, 0.268 bpp", "0.042", "1.23", "612"],
        ["mbt2018", "quality 3", "random weights, time alone", "5.00", "21.3", "3"],
    ]


def test_bits_per_pixel_of_all_codebooks_of_a_level() -> None:
    header, level, whole = cells("bits")
    assert header[3:] == [
        *("uniform, bpp", "marginal, bpp", "hierarchical, bpp", "full, bpp"),
        "full against hierarchical, %",
    ]
    assert level == ["5", "0", "1,200", "0.8000", "0.7000", "0.6250", "0.5000", "-20.0"]
    assert whole == ["5", "all", "1,200", "0.8000", "0.7000", "", "0.5000", ""]


def test_stages_and_raster() -> None:
    assert cells("stages")[1] == ["compress", "analysis", "123.5"]
    assert cells("raster")[1] == ["2", "6,144", "7", "222", "0.61", "9.40", "614", "yes"]


def test_scaling_ends_with_the_fitted_lines() -> None:
    assert cells("scaling") == [
        ["megapixels", "size", "bpp", "compress, s", "decompress, s", "compress, MB"],
        ["0.5", "1000 x 500", "0.250", "1.00", "2.00", "600"],
        ["2.0", "1000 x 2000", "0.250", "4.00", "8.00", "600"],
        ["at 0 (fit)", "", "", "0.010", "0.000", "500"],
        ["each further (fit)", "", "", "2.00", "4.00", "3"],
        ["R2 of the fit", "", "", "0.9999", "1.0000", "0.5000"],
    ]


def test_machine_names_what_the_numbers_depend_on() -> None:
    (line,) = tables.machine(RESULTS).splitlines()
    for wanted in (
        *("2026-11-22", "`vqcodec bench kodak --out here`", "812 s", "a807d37c0ffe, changed"),
        *("hvq-photo-1", "9b75" * 4, "Xeon", "1 threads of 2", "AVX512", "torch 2.13.0"),
    ):
        assert wanted in line


def test_cells_cannot_break_a_table() -> None:
    assert tables.markdown(["a", "b"], [["x|y", 1]]).splitlines()[-1] == "| x\\|y | 1 |"


# Files


@pytest.fixture
def run(tmp_path: Path) -> Tables:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(tables.main, [str(results), *map(str, arguments)])

    return invoke


def document(*names: str) -> str:
    blocks = (f"before {name}\n\n<!-- table {name} -->\nold\n<!-- end -->\n" for name in names)
    return "# Title\n\n" + "\n".join(blocks) + "\nafter\n"


def test_files_are_rewritten_and_checked(run: Tables, tmp_path: Path) -> None:
    first, second, none = (tmp_path / name for name in ("first.md", "second.md", "none.md"))
    first.write_text(document(*tables.TABLES))
    second.write_text(document("rate"))
    none.write_text("no table\n")
    files = (first, second, none)

    stale = run("--check", *files)
    assert stale.exit_code == 1
    assert "first.md" in stale.stderr
    assert "none.md" not in stale.stderr
    assert first.read_text() == document(*tables.TABLES)

    assert run(*files).exit_code == 0
    text = first.read_text()
    assert "old" not in text
    for name in tables.TABLES:
        assert f"before {name}\n" in text
        assert f"<!-- table {name} -->\n\n{tables.TABLES[name](RESULTS)}\n<!-- end -->\n" in text
    assert text.startswith("# Title\n")
    assert text.endswith("\nafter\n")
    assert none.read_text() == "no table\n"

    assert run("--check", *files).exit_code == 0
    assert run(*files).exit_code == 0
    assert first.read_text() == text

    first.write_text(text.replace("+3.63", "+3.64"))
    assert run("--check", *files).exit_code == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (document("rates"), "there is no table 'rates'"),
        ("<!-- table rate -->\nno end\n", "stands alone"),
        ("<!-- end -->\n", "stands alone"),
        ("<!-- table -->\n<!-- end -->\n", "stands alone"),
        ("<!-- table rate -->\n" + document("bits"), "has no <!-- end -->"),
    ],
)
def test_bad_markers_are_one_line(run: Tables, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "file.md"
    path.write_text(text)
    result = run(path)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "file.md" in result.stderr
    assert reason in result.stderr
    assert path.read_text() == text


def test_a_file_may_show_other_results_beside(run: Tables, tmp_path: Path) -> None:
    path = tmp_path / "both.md"
    path.write_text(document("rate", "rate of others"))
    assert run(path).exit_code == 0
    text = path.read_text()
    assert "<!-- table rate of others -->\nold\n<!-- end -->" in text
    assert text.count("old") == 1
    assert run("--of", "others", path).exit_code == 0
    text = path.read_text()
    assert "old" not in text
    assert "<!-- table rate of others -->" in text
    assert run("--check", "--of", "others", path).exit_code == 0
    assert "no file has a table of nobody" in run("--check", "--of", "nobody", path).stderr


def test_results_without_profile_have_no_table_of_it() -> None:
    with pytest.raises(CodecError, match="vqcodec bench --profile"):
        tables.rewritten(document("stages"), RESULTS | {"profile": None})


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}'])
def test_other_files_are_no_results(tmp_path: Path, content: str) -> None:
    results = tmp_path / "results.json"
    results.write_text(content)
    result = CliRunner().invoke(tables.main, [str(results), str(results)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "results.json" in result.stderr


def test_missing_files_are_one_line(run: Tables, tmp_path: Path) -> None:
    result = run(tmp_path / "absent.md")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no such file" in result.stderr


# The tables in the repository

RESULTS_OF = {path.parent.name: path for path in STORED.glob("*/results.json")}
SHOWN = [
    *((name, DEFAULT_MODEL, None) for name in ("README.md", "benchmarks/README.md")),
    # Of the model itself, and of other images than Kodak's.
    *(
        (f"weights/{folder.partition(OTHERS)[0]}.md", folder, folder.partition(OTHERS)[2] or None)
        for folder in RESULTS_OF
    ),
]


@pytest.mark.parametrize(("name", "folder", "of"), SHOWN)
def test_tables_of_the_repository_are_those_of_its_results(
    name: str, folder: str, of: str | None
) -> None:
    results = read(RESULTS_OF[folder])
    text = (ROOT / name).read_text()
    assert any(block[2] == of for block in tables.BLOCK.finditer(text))
    assert tables.rewritten(text, results, of) == text


@pytest.mark.parametrize("folder", RESULTS_OF)
def test_results_of_the_repository_are_of_the_packaged_weights(folder: str) -> None:
    results = read(RESULTS_OF[folder])
    model_id, _, of = folder.partition(OTHERS)
    made, packaged = results["made"], MODELS[model_id]
    assert (made["model_id"], made["weights_sha256"]) == (model_id, packaged.sha256)
    assert is_kodak(results["images"]) == (not of)
    assert not made["changed"]
