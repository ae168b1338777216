"""Names that the modules of a corpus share; standard library only."""

from __future__ import annotations

FILES, WEBDATASET, PARQUET = FORMATS = ("files", "webdataset", "parquet")
"""How images lie: a file each, tar files as of WebDataset, or Parquet files."""

OWN = "_vqcodec"
"""Folder of a corpus's plan and manifests; no image is looked for in it."""

LOCAL, RAY = ENGINES = ("local", "ray")
