"""`python -m vqcodec`: the command line."""

from __future__ import annotations

from vqcodec.cli import main

if __name__ == "__main__":
    main()
