"""Writes the tables of Markdown files from the results of `vqcodec bench`.

    python -m vqcodec.bench.tables RESULTS.json FILE.md...

A table stands between the lines `<!-- table NAME -->` and `<!-- end -->`, and replaces what was
there. A file may show other results beside: `<!-- table NAME of OTHERS -->` with `--of OTHERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from vqcodec.bench import curves
from vqcodec.bench.command import Command
from vqcodec.bench.curves import OURS, is_ours
from vqcodec.bench.machine import sentence
from vqcodec.bench.results import decimals, read
from vqcodec.errors import CodecError
from vqcodec.files import read_bytes, write_atomically

Results = Mapping[str, Any]

METHOD = "pchip"
LOW_BPP = 0.5  # up to it the table of low rates compares
SHORT = {"BPG 4:4:4", "VTM", "cheng2020-anchor"}  # published anchors of the short table
SHORT_FURTHER = {"AVIF", "AVIF for PSNR"}  # measured ones there of further ways to compress
BLOCK = re.compile(
    r"^<!-- table (\S+)(?: of (\S+))? -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
MARKER = re.compile(r"^<!-- (?:table\b.*|end) -->$", re.MULTILINE)


# Text


def number(value: float | None, digits: int, sign: str = "") -> str:
    """A number with so many digits after the point, with its sign if `sign` is "+"."""
    return "" if value is None else f"{value:{sign},.{digits}f}"


def span(values: Sequence[float] | None, digits: int) -> str:
    """A range."""
    return "none" if values is None else " to ".join(number(value, digits) for value in values)


def seconds(value: float | None) -> str:
    """Two or three significant digits, as long as there are seconds."""
    size = abs(value or 0)
    return number(value, 3 if size < 0.1 else 2 if size < 10 else 1)


def megabytes(value: float | None) -> str:
    """Bytes, in 10**6 bytes."""
    return number(None if value is None else value / 1e6, 0)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; text cells of Markdown, with columns nobody has a value for left out."""
    body = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    kept = [n for n in range(len(columns)) if n == 0 or any(row[n] for row in body)]
    lines = [columns, ["---"] * len(columns), *body]
    return "".join("| " + " | ".join(line[n] for n in kept) + " |\n" for line in lines)


def profile(results: Results, part: str) -> Any:
    """A part of the profile."""
    if not results["profile"]:
        raise CodecError("these results have no profile; run vqcodec bench --profile")
    return results["profile"][part]


# Tables


def rate(results: Results) -> str:
    """Rate, distortion and dB above the measured peers, by quality."""
    above = {
        (each.get("codec", OURS), each["anchor"], each["quality"]): each["db"]
        for each in results["above"]
    }
    anchors = list(dict.fromkeys(anchor for _, anchor, _ in above))
    metrics, names = results["metrics"], own_names(results)
    return markdown(
        [
            *("quality", "codec", "bpp"),
            *(", ".join(filter(None, (each["name"], each["unit"]))) for each in metrics),
            *(f"dB above {anchor}" for anchor in anchors),
        ],
        (
            [
                *(point["quality"], names[point["codec"]], number(point["bpp"], 3)),
                *(number(point.get(each["key"]), decimals(each["key"])) for each in metrics),
                *(
                    number(above.get((point["codec"], anchor, point["quality"])), 2, "+")
                    for anchor in anchors
                ),
            ]
            for point in results["points"]
            if is_ours(point["codec"])
        ),
    )


def bd_rate(results: Results) -> str:
    """BD-rate in % by every metric, with the range of PSNR that it is over."""
    return _bd_rate(results, {"measured", "published"})


def bd_rate_measured(results: Results) -> str:
    """The same against what was measured in the same run."""
    return _bd_rate(results, {"measured"})


def bd_rate_low(results: Results) -> str:
    """The same as `bd_rate` at rates up to `LOW_BPP`."""
    return bd_rate(limited(results, LOW_BPP))


def limited(results: Results, bpp: float) -> Results:
    """Results with comparisons made anew, of rates up to a limit."""
    published = curves.published() if curves.is_kodak(results["images"]) else {}
    compared = curves.comparisons(
        results["points"], results["codecs"], results["metrics"], published, most=bpp
    )
    return {**results, "comparisons": compared}


def bd_rate_short(results: Results) -> str:
    """The same beside a few published ones, without the ranges; of further ways, beside AVIF."""
    first = own_names(results)[OURS]
    rows = (
        [anchor + ", published" * (source == "published"), codec, *_bd_rates(results, compared)]
        for (codec, anchor, source), compared in _compared(results).items()
        if (source == "measured" or anchor in SHORT)
        and (codec == first or (source == "measured" and anchor in SHORT_FURTHER))
    )
    names = (f"by {metric['name']}, %" for metric in results["metrics"])
    return markdown(["BD-rate against", "of", *names], rows)


def _bd_rate(results: Results, sources: Collection[str]) -> str:
    rows = []
    for (codec, anchor, source), compared in _compared(results).items():
        if source in sources:
            psnr = compared.get("psnr")
            common = psnr and [span(psnr["overlap_bpp"], 3), span(psnr["overlap_metric"], 1)]
            rows.append(
                [anchor, codec, source, *_bd_rates(results, compared), *(common or ["", ""])]
            )
    names = (f"BD-rate by {metric['name']}, %" for metric in results["metrics"])
    common = ("bpp in common, by PSNR", "PSNR in common, dB")
    return markdown(["anchor", "codec", "source", *names, *common], rows)


def own_names(results: Results) -> dict[str, str]:
    """What tables call vqcodec and the further ones of ours, by key; nothing if there is one."""
    own = [codec for codec in results["codecs"] if is_ours(codec["key"])]
    return {codec["key"]: codec["name"] if len(own) > 1 else "" for codec in own}


def _compared(results: Results) -> dict[tuple[str, str, str], dict[str, Any]]:
    """By the codec's name, anchor and source, and by metric."""
    names = own_names(results)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in results["comparisons"]:
        key = names[each.get("codec", OURS)], each["anchor"], each["source"]
        found.setdefault(key, {})[each["metric"]] = each
    return found


def _bd_rates(results: Results, compared: Mapping[str, Any]) -> list[str]:
    """A cell for every metric."""
    own = (compared.get(metric["key"]) for metric in results["metrics"])
    return [number(each and each["bd_rate_percent"][METHOD], 1, "+") for each in own]


def speed(results: Results) -> str:
    """Seconds and peak memory of every codec at one rate, as near as it comes."""
    rows = []
    for row in curves.speeds(results):
        where = f"quality {row['quality']}, {number(row['bpp'], 3)} bpp"
        rows.append(
            [
                row["codec"]["name"],
                row["codec"]["settings"],
                "random weights, time alone" if row["quality"] is None else where,
                *(
                    megabytes(row[cost]) if cost.endswith("peak") else seconds(row[cost])
                    for cost in curves.COSTS
                ),
            ]
        )
    sides = ("encode, s", "decode, s", "encode, MB", "decode, MB")
    return markdown(["codec", "settings", "at", *sides], rows)


def bits(results: Results) -> str:
    """Bits per pixel of each level's indices under the four codes, codebooks together."""
    pixels = sum(each["width"] * each["height"] for each in results["images"])
    codes = ("uniform", "marginal", "hierarchical", "full")
    rows = []
    for row in profile(results, "bits"):
        if row["codebook"] == "all":
            full, simpler = row["full"], row["hierarchical"]
            rows.append(
                [
                    *(row["quality"], row["level"], number(row["symbols"], 0)),
                    *(number(None if row[c] is None else row[c] / pixels, 4) for c in codes),
                    number(100 * (full / simpler - 1) if simpler else None, 1, "+"),
                ]
            )
    columns = [*(f"{code}, bpp" for code in codes), "full against hierarchical, %"]
    return markdown(["quality", "level", "indices", *columns], rows)


def stages(results: Results) -> str:
    """Milliseconds of each stage of the corridor."""
    return markdown(
        ["", "stage", "ms"],
        ([r["verb"], r["stage"], number(r["milliseconds"], 1)] for r in profile(results, "stages")),
    )


def raster(results: Results) -> str:
    """The wavefront against raster order, by level."""
    return markdown(
        [
            *("level", "positions", "codebooks", "steps of the wavefront", "wavefront, s"),
            *("raster order, cached features, s", "a full pass a position, s (extrapolated)"),
            "same indices",
        ],
        (
            [
                *(row["level"], number(row["positions"], 0), row["codebooks"]),
                number(row["wavefront_steps"], 0),
                *(seconds(row["wavefront_seconds"]), seconds(row["raster_seconds"])),
                number(row["extrapolated_seconds"], 0),
                "yes" if row["identical"] else "NO",
            ]
            for row in profile(results, "raster")
        ),
    )


def scaling(results: Results) -> str:
    """Seconds and peak memory against megapixels, with the fitted lines in the last rows."""
    found = profile(results, "scaling")
    columns = {
        "compress_seconds": ("compress, s", seconds),
        "decompress_seconds": ("decompress, s", seconds),
        "compress_peak": ("compress, MB", megabytes),
        "decompress_peak": ("decompress, MB", megabytes),
    }
    rows = [
        [
            number(row["megapixels"], 1),
            f"{row['width']} x {row['height']}",
            number(row["bpp"], 3),
            *(text(row[column]) for column, (_, text) in columns.items()),
        ]
        for row in found["rows"]
    ]
    fits = [found["fit"].get(column) or {} for column in columns]
    for title, key in (("at 0 (fit)", "intercept"), ("each further (fit)", "slope")):
        texts = zip((text for _, text in columns.values()), fits, strict=True)
        rows.append([title, "", "", *(text(fit.get(key)) for text, fit in texts)])
    rows.append(["R2 of the fit", "", "", *(number(fit.get("r2"), 4) for fit in fits)])
    names = [name for name, _ in columns.values()]
    return markdown(["megapixels", "size", "bpp", *names], rows)


def machine(results: Results) -> str:
    """What the numbers depend on, in one line."""
    made = results["made"]
    took = f"{number(made['seconds'], 0)} s"
    if results["profile"]:
        took += f", {number(results['profile']['seconds'], 0)} s of them for the profile"
    return f"Measured on {made['date']} by `{made['command']}` in {took}: {sentence(made)}.\n"


TABLES: dict[str, Callable[[Results], str]] = {
    "rate": rate,
    "bd-rate": bd_rate,
    "bd-rate-measured": bd_rate_measured,
    "bd-rate-short": bd_rate_short,
    "bd-rate-low": bd_rate_low,
    "speed": speed,
    "bits": bits,
    "stages": stages,
    "raster": raster,
    "scaling": scaling,
    "machine": machine,
}


# Files


def rewritten(text: str, results: Results, of: str | None = None) -> str:
    """A Markdown text with its tables made anew.

    Args:
        text: The whole file.
        results: What the tables show.
        of: Make those that name these results, and no others; None for those that name none.

    Raises:
        CodecError: a table of an unknown name, a table without an end or the reverse, or
            results that lack what it shows.
    """

    def block(found: re.Match[str]) -> str:
        name, whose, inside = found.groups()
        if name not in TABLES:
            known = ", ".join(TABLES)
            raise CodecError(f"there is no table {name!r}; there are {known}")
        if MARKER.search(inside):
            raise CodecError(f"table {name} has no <!-- end --> before the next table")
        if whose != of:
            return found[0]
        named = name if of is None else f"{name} of {of}"
        # A table needs empty lines around it to be one beside an HTML comment.
        return f"<!-- table {named} -->\n\n{TABLES[name](results)}\n<!-- end -->"

    if MARKER.search(BLOCK.sub("", text)):
        raise CodecError("a <!-- table NAME --> or <!-- end --> stands alone")
    return BLOCK.sub(block, text)


@click.command(cls=Command)
@click.argument("results_file", metavar="RESULTS.json", type=click.Path(path_type=Path))
@click.argument(
    "files", metavar="FILE.md...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--of", metavar="OTHERS", help="Rewrite the tables of these, and no others.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a table is another.")
def main(results_file: Path, files: tuple[Path, ...], of: str | None, check: bool) -> None:
    """Rewrite the tables of Markdown files from the results of vqcodec bench."""
    results = read(results_file)
    stale = []
    shown = of is None
    for path in files:
        text = read_bytes(path).decode()
        shown |= any(block[2] == of for block in BLOCK.finditer(text))
        try:
            made = rewritten(text, results, of)
        except CodecError as error:
            error.in_file(path)
            raise
        if made != text and check:
            stale.append(str(path))
        elif made != text:
            write_atomically(path, made.encode(), force=True)
    if not shown:
        raise CodecError(f"no file has a table of {of}")
    if stale:
        raise CodecError(f"{', '.join(stale)}: tables are not those of {results_file}")


if __name__ == "__main__":
    main()
