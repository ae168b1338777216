"""A target of `benchmarks/fuzz.py` that goes wrong, for its tests: its processes import this."""

from __future__ import annotations

import os
import random

import fuzz

from vqcodec.errors import CodecError

WAYS = (b"fine", b"raises", b"prints", b"dies", b"loops", b"takes memory", b"says nothing")


def files() -> list[fuzz.Seed]:
    return [fuzz.Seed("fine", WAYS[0])]


def mutate(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(WAYS)


def check(seed: fuzz.Seed, data: bytes, rng: random.Random) -> str:
    match data:
        case b"raises":
            raise KeyError(data)
        case b"prints":
            os.write(2, b"printed\n")
        case b"dies":
            os.abort()
        case b"loops":
            while True:
                pass
        case b"takes memory":
            bytearray(2 << 30)
        case b"says nothing":
            fuzz.one_line(CodecError(""))
    return "done"


TARGET = fuzz.Target(files, mutate, check)
