"""Files that are nearly right: mutations that know how `.vqz`, pictures and weights are built.

What a mutation changes lies under right checksums and lengths, mostly, so that it gets to the code
behind them; some mutations know nothing and change bytes. The same random numbers give the same
file.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from vqcodec import container
from vqcodec.container import DEFLATED, MAX_EXTRA_LENGTH, Container
from vqcodec.errors import CodecError
from vqcodec.image.png import SIGNATURE, chunks

Mutation = Callable[[bytes, random.Random], bytes]
Blocks = list[tuple[bytes, bytes]]
"""Kind and content of each chunk or segment of a file."""

MANY_PIXELS = 4 << 20  # more are a large claim, not a malformed one
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257)
LARGE = (1023, 4096, 8191, 8192, 8193, 32767, 32768, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
FIELDS = (
    *("width", "height", "tile_log2", "quality", "levels", "tiles", "extras"),
    *("model_id", "weights_hash", "flags", "version"),
)
TIFF_HEADS = (b"II*\0", b"MM\0*")
ENTRY_LENGTH = 12  # of a directory of TIFF


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """One to four pieces changed, cut out, doubled, moved, turned round, filled or inserted."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((1, 1, 1, 2, 4, 8, 30, 200)))
        length = end - start
        match rng.randrange(9):
            case 0:
                changed[start:end] = rng.randbytes(length)
            case 1:
                del changed[start:end]
            case 2:
                changed[start:start] = changed[start:end] * rng.choice((1, 1, 2, 50))
            case 3:
                changed[start:end] = changed[start:end][::-1]
            case 4:
                changed[start:end] = rng.choice((b"\0", b"\x80", b"\xff")) * length
            case 5 if length:
                changed[start] ^= 1 << rng.randrange(8)
            case 6:
                order, size = rng.choice("<>"), rng.choice("BHI")
                number = rng.choice(NUMBERS + LARGE) % (1 << 8 * struct.calcsize(size))
                packed = struct.pack(order + size, number)
                changed[start : start + len(packed)] = packed
            case 7:
                place = rng.randrange(len(changed) + 1)
                changed[place:place] = changed[start:end]
            case _:
                if rng.random() < 0.3:
                    del changed[start:]
    return bytes(changed)


def spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


# .vqz


@dataclass
class Parts:
    """A `.vqz` file taken apart; fields may have any value that their bytes can hold.

    Attributes:
        fields: Of the header, in their order.
        extras: Kind and content.
        sections: Of all levels.
        trailer: What stands before the last checksum.
        lossless: Whether the file it came from is.
    """

    fields: dict[str, int | bytes]
    extras: list[tuple[int, bytes]]
    sections: list[bytes]
    trailer: bytes
    lossless: bool

    @classmethod
    def of(cls, contents: Container) -> Parts:
        """Those of a complete file."""
        header = contents.header
        return cls(
            {
                "version": 2 if header.lossless else 1,
                "flags": int(header.grey),
                "model_id": header.model_id.encode(),
                "weights_hash": header.weights_hash,
                "width": header.width,
                "height": header.height,
                "tile_log2": header.tile.bit_length() - 1,
                "quality": header.quality,
                "levels": header.levels,
                "tiles": header.tiles,
                "extras": len(contents.extras),
            },
            list(contents.extras.items()),
            [payload for level in contents.sections for payload in level],
            b"" if contents.indices_crc is None else struct.pack("<I", contents.indices_crc),
            header.lossless,
        )

    def number(self, name: str) -> int:
        """A field."""
        value = self.fields[name]
        assert isinstance(value, int)
        return value

    def fit(self) -> None:
        """Makes counts, and how many sections there are, right for the other fields."""
        side = 1 << min(self.number("tile_log2"), 30)
        rows, columns = (-(-self.number(name) // side) for name in ("height", "width"))
        self.fields["tiles"] = min(rows * columns, container.MAX_VARINT)
        self.fields["extras"] = min(len(self.extras), 255)
        wanted = rows * columns * (1 if self.number("version") == 2 else self.number("levels"))
        if self.sections and wanted <= 1 << 15:
            times = -(-wanted // len(self.sections))
            self.sections = (self.sections * max(1, times))[:wanted]

    def header(self) -> bytes:
        """The header without its checksum."""

        def byte(name: str) -> bytes:
            return bytes([self.number(name) & 0xFF])

        size = container.varint(self.number("width")) + container.varint(self.number("height"))
        start = container.MAGIC + byte("version") + byte("flags")
        if self.number("version") == container.LOSSLESS_VERSION:
            return start + size + byte("extras")
        model_id, weights_hash = self.fields["model_id"], self.fields["weights_hash"]
        assert isinstance(model_id, bytes)
        assert isinstance(weights_hash, bytes)
        name = bytes([len(model_id) & 0xFF]) + model_id + weights_hash
        rest = byte("tile_log2") + byte("quality") + byte("levels")
        return start + name + size + rest + container.varint(self.number("tiles")) + byte("extras")

    def blocks(self) -> list[bytes]:
        """All that has a checksum, without it."""
        extras = [
            bytes([kind]) + container.varint(len(content)) + content
            for kind, content in self.extras
        ]
        sections = [container.varint(len(payload)) + payload for payload in self.sections]
        return [self.header(), *extras, *sections]


def sealed(blocks: list[bytes], trailer: bytes) -> bytes:
    """A `.vqz` file with right checksums."""
    content = b"".join(map(_with_crc, blocks)) + trailer
    return _with_crc(content)


def _with_crc(content: bytes) -> bytes:
    return content + struct.pack("<I", zlib.crc32(content))


def vqz(data: bytes, rng: random.Random) -> bytes:
    """A `.vqz` file with something changed under right checksums."""
    try:
        contents = container.unpack(data)
    except CodecError:
        return scrambled(data, rng)
    parts = Parts.of(contents)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_field, _extra, _extra, _section, _section, _section))(parts, rng)
    if rng.random() < 0.9:
        parts.fit()
    blocks = parts.blocks()
    if rng.random() < 0.1:
        place = rng.randrange(len(blocks)) if rng.random() < 0.5 else 0
        blocks[place] = scrambled(blocks[place], rng)
    trailer = parts.trailer
    if rng.random() < 0.03:
        trailer = rng.choice((b"", rng.randbytes(4), rng.randbytes(9)))
    changed = sealed(blocks, trailer)
    if rng.random() < 0.2:
        changed = changed[: rng.randrange(len(changed) + 1)]
    return changed


def _field(parts: Parts, rng: random.Random) -> None:
    name = rng.choice((*FIELDS, "width", "height", "tile_log2", "quality", "levels"))
    match name:
        case "width" | "height":
            other = parts.number("height" if name == "width" else "width")
            most = 1 << rng.choice((*(12,) * 40, *(14,) * 9, 16))
            if rng.random() < 0.001:
                most = MANY_PIXELS
            side = rng.choice((*NUMBERS, *LARGE, rng.randrange(1, 300)))
            parts.fields[name] = side if side * other <= most else max(1, most // max(1, other))
            if parts.lossless and rng.random() < 0.7:
                _resize_stream(parts)
        case "tile_log2":
            parts.fields[name] = rng.choice((5, 6, 7, 12, rng.randrange(14), 255))
        case "quality" | "tiles":
            parts.fields[name] = rng.choice((1, 2, 3, 10, *NUMBERS))
        case "levels":
            parts.fields[name] = rng.choice((1, 2, 3, 4, 8, rng.randrange(256)))
        case "model_id":
            known = (b"hvq-photo-9", b"a", b"", b"A", b"\xff\0", b"../../x", b"x" * 40)
            parts.fields[name] = rng.choice((*known, b"y" * 255))
        case "weights_hash":
            parts.fields[name] = rng.randbytes(8)
        case _:
            parts.fields[name] = rng.choice((0, 1, 2, 3, rng.randrange(256)))


def _resize_stream(parts: Parts) -> None:
    """Makes the first stream of a lossless file claim the header's size."""
    width, height = parts.number("width"), parts.number("height")
    if parts.sections and len(parts.sections[0]) >= 5 and 0 < max(width, height) <= 1 << 14:
        bits = (width - 1) % (1 << 14) | (height - 1) % (1 << 14) << 14
        parts.sections[0] = struct.pack("<BI", 0x2F, bits) + parts.sections[0][5:]


def _extra(parts: Parts, rng: random.Random) -> None:
    place = rng.randrange(len(parts.extras) + 1)
    if place == len(parts.extras) or rng.random() < 0.2:
        kind = rng.choice((*range(1, 8), *range(1 + DEFLATED, 8 + DEFLATED), rng.randrange(256)))
        content = rng.choice((b"", b"natural", b"key\0text\0", b"Exif\0\0II*\0", rng.randbytes(40)))
        if kind & DEFLATED and rng.random() < 0.8:
            content = zlib.compress(content)
        if rng.random() < 0.001:
            content = _bomb()
        parts.extras.insert(place, (kind, content))
        return
    kind, content = parts.extras[place]
    match rng.randrange(6):
        case 0:
            del parts.extras[place]
        case 1:
            parts.extras.append((kind, content))
        case 2:
            parts.extras[place] = (rng.choice((kind ^ DEFLATED, rng.randrange(8))), content)
        case _:
            parts.extras[place] = (kind, _other_content(content, rng))


def _other_content(content: bytes, rng: random.Random) -> bytes:
    if content.startswith(SIGNATURE):
        return png(content, rng)
    try:
        inflated = zlib.decompress(content)
    except zlib.error:
        return scrambled(content, rng)
    return zlib.compress(scrambled(inflated, rng)) if rng.random() < 0.7 else content[:-1]


def _bomb() -> bytes:
    """What inflates to a byte more than an extra may have."""
    deflate = zlib.compressobj()
    return deflate.compress(bytes(MAX_EXTRA_LENGTH + 1)) + deflate.flush()


def _section(parts: Parts, rng: random.Random) -> None:
    if not parts.sections:
        return
    place = rng.randrange(len(parts.sections))
    payload = parts.sections[place]
    kept = 5 if parts.lossless and rng.random() < 0.9 else 0
    match rng.randrange(8):
        case 0:
            words = rng.randbytes(4 * rng.randrange(40))
            parts.sections[place] = payload[:kept] + words
        case 1:
            filled = rng.choice((b"\0", b"\xff")) * rng.choice((0, 1, 4, 8, 64, 400))
            parts.sections[place] = payload[:kept] + filled
        case 2:
            other = rng.randrange(len(parts.sections))
            parts.sections[place] = parts.sections[other]
            parts.sections[other] = payload
        case 3:
            parts.sections[place] = payload[: 4 * rng.randrange(len(payload) // 4 + 1)]
        case 4:
            parts.sections[place] = payload + rng.randbytes(rng.choice((1, 4, 8)))
        case _:
            parts.sections[place] = payload[:kept] + scrambled(payload[kept:], rng)


# Pictures


def picture(data: bytes, rng: random.Random) -> bytes:
    """A picture with something changed where its kind lets it be found."""
    if rng.random() < 0.3:
        return scrambled(data, rng)
    if data.startswith(SIGNATURE):
        return png(data, rng)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data, rng)
    if data.startswith(b"RIFF"):
        return _riff(data, rng)
    if data.startswith(TIFF_HEADS):
        return tiff(data, rng)
    head = rng.choice((64, 256, 1024))  # where most kinds say what they are
    return scrambled(data[:head], rng) + data[head:]


def _rearranged(blocks: Blocks, new: Blocks, rng: random.Random) -> Blocks:
    """Some blocks left out, doubled, exchanged, put in, or with something else in them."""
    blocks = list(blocks)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not blocks:
            break
        place, other = rng.randrange(len(blocks)), rng.randrange(len(blocks))
        kind, content = blocks[place]
        match rng.randrange(9):
            case 0:
                del blocks[place]
            case 1:
                blocks.insert(other, blocks[place])
            case 2:
                blocks[place], blocks[other] = blocks[other], blocks[place]
            case 3 | 4:
                blocks.insert(place, rng.choice(new))
            case 5:
                blocks[place] = rng.choice(new)[0], content
            case _:
                blocks[place] = kind, _content(content, rng)
    return blocks


def _content(content: bytes, rng: random.Random) -> bytes:
    """Something else for a chunk: of EXIF an entry changed, of what is deflated a byte."""
    if any(head in content[:16] for head in TIFF_HEADS):
        return tiff(content, rng)
    if content[:1] == b"\x78" and rng.random() < 0.7:
        inflate = zlib.decompressobj()
        try:
            return zlib.compress(scrambled(inflate.decompress(content, MANY_PIXELS), rng))
        except zlib.error:
            pass
    return scrambled(content, rng)


def png(data: bytes, rng: random.Random) -> bytes:
    """A PNG with other chunks, their checksums right."""
    packed = zlib.compress(rng.randbytes(20) + bytes(200))
    new = [
        (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 256)))),
        (b"PLTE", rng.randbytes(3 * rng.choice((0, 1, 16, 256)))),
        (b"gAMA", struct.pack(">I", rng.choice((0, 1, 45455, 1 << 31)))),
        (b"cHRM", struct.pack(">8I", *(rng.choice((0, 1, 31270, 1 << 31)) for _ in range(8)))),
        (b"cICP", rng.randbytes(4)),
        (b"cICP", bytes([rng.randrange(14), rng.randrange(20), 0, 1])),
        (b"iCCP", b"name\0\0" + packed),
        (b"sRGB", rng.randbytes(rng.randrange(3))),
        (b"pHYs", rng.randbytes(9)),
        (b"tEXt", b"Comment\0" + rng.randbytes(9)),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 4\n" + rng.randbytes(4).hex().encode()),
        (b"zTXt", b"key\0\0" + packed),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + rng.randbytes(20)),
        (b"eXIf", rng.choice(TIFF_HEADS) + rng.randbytes(30)),
        (b"acTL", struct.pack(">II", rng.choice(NUMBERS), 0)),
        (b"fcTL", struct.pack(">5I2H2B", 0, 9, 9, rng.choice(NUMBERS), 0, 1, 1, 0, 0)),
        (b"fdAT", struct.pack(">I", rng.choice(NUMBERS)) + packed),
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    blocks = [(kind, bytes(content)) for kind, content, _ in chunks(data)]
    if blocks and rng.random() < 0.2 and len(blocks[0][1]) == 13:
        head = list(struct.unpack(">IIBBBBB", blocks[0][1]))
        head[rng.choice((0, 1))] = rng.choice(NUMBERS)
        place = rng.choice((2, 3, 6))
        head[place] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16))
        blocks[0] = (blocks[0][0], struct.pack(">IIBBBBB", *head))
    else:
        blocks = _rearranged(blocks, new, rng)
    content = b"".join(
        struct.pack(">I", len(each)) + kind + each + struct.pack(">I", zlib.crc32(kind + each))
        for kind, each in blocks
    )
    return SIGNATURE + content


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """A JPEG with other segments, their lengths right."""
    blocks: Blocks = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        blocks.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
    exif = b"Exif\0\0" + rng.choice(TIFF_HEADS) + rng.randbytes(30)
    new = [
        (b"\xff\xe1", exif),
        (b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"),
        (b"\xff\xe2", b"ICC_PROFILE\0" + rng.randbytes(20)),
        (b"\xff\xe2", b"MPF\0" + rng.choice(TIFF_HEADS) + rng.randbytes(40)),
        (b"\xff\xed", b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0" + rng.randbytes(9)),
        (b"\xff\xee", b"Adobe" + rng.randbytes(7)),
        (b"\xff\xfe", rng.randbytes(9)),
        (b"\xff\xdd", rng.randbytes(2)),
        (b"\xff" + rng.randbytes(1), rng.randbytes(9)),
    ]
    blocks = _rearranged(blocks, new, rng)
    rest = data[at:] if rng.random() < 0.8 else scrambled(data[at:], rng)
    return (
        b"\xff\xd8"
        + b"".join(
            kind + struct.pack(">H", min(len(each) + 2, 0xFFFF)) + each for kind, each in blocks
        )
        + rest
    )


def _riff(data: bytes, rng: random.Random) -> bytes:
    """A WebP with other chunks, their lengths right."""
    blocks: Blocks = []
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        blocks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    new = [
        (b"EXIF", rng.choice(TIFF_HEADS) + rng.randbytes(30)),
        (b"EXIF", b"Exif\0\0" + rng.choice(TIFF_HEADS) + rng.randbytes(30)),
        (b"XMP ", rng.randbytes(20)),
        (b"ICCP", rng.randbytes(150)),
        (b"ALPH", rng.randbytes(20)),
        (b"VP8X", rng.randbytes(1) + bytes(3) + bytes([95, 0, 0, 63, 0, 0])),
        (b"ANIM", rng.randbytes(6)),
        (b"ANMF", rng.randbytes(24)),
    ]
    content = b"".join(
        kind + struct.pack("<I", len(each)) + each + bytes(len(each) % 2)
        for kind, each in _rearranged(blocks, new, rng)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


def tiff(data: bytes, rng: random.Random) -> bytes:
    """A TIFF, or what has one in it, with other entries of its directories."""
    found = [(data.find(head), head) for head in TIFF_HEADS if head in data]
    if not found or rng.random() < 0.15:
        return scrambled(data, rng)
    base, head = min(found)
    order = "<" if head.startswith(b"II") else ">"
    changed = bytearray(data)
    places, start = [], _number(changed, base + 4, order)
    for _ in range(4):  # directories that follow each other
        count = _number(changed, base + start, order, "H")
        first = base + start + 2
        places += [first + ENTRY_LENGTH * n for n in range(min(count, 64))]
        start = _number(changed, first + ENTRY_LENGTH * count, order)
        if not start:
            break
    places = [place for place in places if place + ENTRY_LENGTH <= len(changed)]
    if not places:
        return scrambled(data, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.choice(places)
        match rng.randrange(5):
            case 0:
                tags = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 317)
                tags += (320, 322, 324, 330, 338, 339, 347, 700, 33723, 34377, 34665, 34675, 34853)
                struct.pack_into(f"{order}H", changed, place, rng.choice((*tags, 50706, 37500)))
            case 1:
                struct.pack_into(f"{order}H", changed, place + 2, rng.randrange(19))
            case 2:
                number = rng.choice((*NUMBERS, *LARGE))
                struct.pack_into(f"{order}I", changed, place + 4, number)
            case 3:
                small = rng.choice((*NUMBERS, rng.randrange(65536)))
                struct.pack_into(f"{order}HH", changed, place + 8, small, 0)
            case _:
                number = rng.choice((*NUMBERS, *LARGE, rng.randrange(2 * len(changed))))
                struct.pack_into(f"{order}I", changed, place + 8, number)
    return bytes(changed)


def _number(data: bytearray, place: int, order: str, size: str = "I") -> int:
    """A number of a TIFF, 0 where there is none."""
    if place + struct.calcsize(size) > len(data):
        return 0
    value: int = struct.unpack_from(order + size, data, place)[0]
    return value


# Weights


def weights(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with something changed in its header, its config or its tensors."""
    length = int.from_bytes(data[:8], "little")
    text, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.1:
        return scrambled(data[:200], rng) + data[200:]
    header = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        match rng.randrange(6):
            case 0 | 1:
                metadata = header.get("__metadata__", {})
                if "config" in metadata:
                    config = json.loads(metadata["config"])
                    metadata["config"] = json.dumps(_value(config, rng))
            case 2:
                header = _value(header, rng)
                if not isinstance(header, dict):
                    break
            case 3:
                names = sorted(header)
                one, other = rng.choice(names), rng.choice(names)
                header[one], header[other] = header[other], header[one]
            case _:
                body = _tensor(header, body, rng)
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = scrambled(text, rng)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _tensor(header: dict[str, object], body: bytes, rng: random.Random) -> bytes:
    """The tensors with one of them filled, or with a few other bytes."""
    named = sorted(
        (name, each["data_offsets"])
        for name, each in header.items()
        if name != "__metadata__" and isinstance(each, dict) and "data_offsets" in each
    )
    places = [found for _, found in named if isinstance(found, list) and len(found) == 2]
    if not places:
        return body
    first, end = rng.choice(places)
    if not (isinstance(first, int) and isinstance(end, int) and 0 <= first <= end <= len(body)):
        return body
    length = end - first
    patterns = (b"\0", b"\xff", b"\x80", b"\x7f", b"\0\x7c", b"\xff\x7f", b"\0\0\0\x80")
    pattern = rng.choice(patterns)
    filled = (pattern * length)[:length]
    if rng.random() < 0.5 and length:
        place = rng.randrange(length)
        own = body[first:end]
        filled = (own[:place] + pattern + own[place + len(pattern) :])[:length]
    return body[:first] + filled + body[end:]


def _value(value: object, rng: random.Random) -> object:
    """JSON with one thing in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(sorted(value))
        if rng.random() < 0.08:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _value(value[place], rng), *value[place + 1 :]]
    if isinstance(value, int) and rng.random() < 0.6:
        return rng.choice((value + 1, value - 1, -value, 2 * value, *NUMBERS, *LARGE, 10**30))
    odd = (None, True, -1, 0, 1.5, 1e300, "", "x", [], [[]], {}, {"x": 1}, float("nan"), "\ud800")
    return rng.choice(odd)
