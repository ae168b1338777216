"""`python -m vqcodec.entropy.kernels.compile`: compiles for later processes, beside other work."""

from __future__ import annotations

import os

from vqcodec.entropy.kernels import fault_of_compiled

if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)
    fault_of_compiled()
