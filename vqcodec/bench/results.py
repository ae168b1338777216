"""The results as they are stored: a JSON file that names what they depend on.

A dict of plain values with the entries

- `format`: 1, raised when an entry changes its meaning;
- `made`: command, date, seconds, commit and whether the sources differ from it, the model with the
  hash and size of its weights, by the key of a metric what else it depends on, versions of
  libraries, machine;
- `images`, `metrics`, `codecs`, `missing`: what was measured, by what, and what was not there;
- `rows`: a codec, image and quality each: bytes of the file, bpp, distortion, median seconds and
  peak memory of both ways, and of vqcodec the ideal bits of each level;
- `points`: means of the rows of a codec and quality (seconds: medians; peaks: the largest);
- `comparisons`, `above`: see `curves`;
- `speed`: codecs of which the time alone was measured;
- `profile`: see `profile`, and the seconds it took; or null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqcodec import files
from vqcodec.errors import CodecError

FORMAT = 1

_SIGNIFICANT = 6
_DECIMALS = {"psnr": 2, "ssimulacra2": 1}


def decimals(metric: str) -> int:
    """Digits after the point that a reader sees of a metric, by its key."""
    return _DECIMALS.get(metric, 4)


def rounded(value: Any) -> Any:
    """The same with floats to six significant digits, and null for those that are no numbers."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT}g}") if math.isfinite(value) else None
    return value


def write(path: Path, results: Mapping[str, Any], *, force: bool) -> None:
    """Writes `rounded` results as JSON, a line a row.

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    lines = []
    for name, value in results.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(each, allow_nan=False) for each in value)
            text = f"[\n  {rows}\n ]"
        else:
            text = json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")
        lines.append(f" {json.dumps(name)}: {text}")
    encoded = "{\n" + ",\n".join(lines) + "\n}\n"
    files.write_atomically(path, encoded.encode(), force=force)


def read(path: Path) -> dict[str, Any]:
    """The results of a file.

    Raises:
        CodecError: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(files.read_bytes(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CodecError("is not a results.json of this vqcodec bench").in_file(path)
    return found
