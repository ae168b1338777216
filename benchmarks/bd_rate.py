"""BD-rates from results of `vqcodec bench`, which are stored, at low rates alone."""

from __future__ import annotations

from pathlib import Path

import click

from vqcodec.bench import tables
from vqcodec.bench.command import Command
from vqcodec.bench.results import read


@click.command(cls=Command)
@click.argument("results_file", metavar="RESULTS.json", type=click.Path(path_type=Path))
@click.option("--below", type=click.FloatRange(min=0, min_open=True), metavar="BPP", required=True)
def main(results_file: Path, below: float) -> None:
    """Compares the curves in RESULTS.json up to BPP bits per pixel, by every metric.

    A curve that goes on is cut there, between its points.
    """
    results = read(results_file)
    click.echo(tables.bd_rate(tables.limited(results, below)))
    click.echo(tables.machine(results), nl=False)


if __name__ == "__main__":
    main()
