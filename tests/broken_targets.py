"""A target of `benchmarks/fuzz.py` that goes wrong, for its tests: its processes import this."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import fuzz

from vqcodec.errors import CodecError

WAYS = ("fine", "raises", "prints", "dies", "loops", "takes memory", "says nothing")


@dataclass(frozen=True)
class OneOfEach(fuzz.Target):
    def case(self, seed: int, number: int) -> tuple[fuzz.Seed, bytes, random.Random]:
        return files()[0], WAYS[number].encode(), random.Random(seed)


def files() -> list[fuzz.Seed]:
    return [fuzz.Seed("fine", b"fine")]


def unchanged(data: bytes, rng: random.Random) -> bytes:
    return data


def check(seed: fuzz.Seed, data: bytes, rng: random.Random) -> str:
    match data.decode():
        case "raises":
            raise KeyError(data)
        case "prints":
            os.write(2, b"printed\n")
        case "dies":
            os.abort()
        case "loops":
            while True:
                pass
        case "takes memory":
            bytearray(2 << 30)
        case "says nothing":
            fuzz.one_line(CodecError(""))
    return "done"


TARGET = OneOfEach(files, unchanged, check)
