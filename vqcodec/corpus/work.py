"""What is done with one picture: bytes to bytes, or an error; the same in every engine.

`Work` may be given to engines of one's own, which call it with batches:

    images.map_batches(Work, fn_constructor_kwargs={"command": "tokenize"}, concurrency=4)  # Ray
    images.map(Work("compress", quality=40), batched=True)                              # datasets
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vqcodec import container, limits, registry
from vqcodec.choosing.effort import DEFAULT_EFFORT, checked_effort
from vqcodec.container import ENDING as VQZ
from vqcodec.corpus import token_files
from vqcodec.errors import CodecError, one_line

if TYPE_CHECKING:
    from vqcodec.image import Image, Pictures
    from vqcodec.tokens import Tokenizer, Tokens

COMPRESS, DECOMPRESS, TOKENIZE, DETOKENIZE = COMMANDS = (
    "compress",
    "decompress",
    "tokenize",
    "detokenize",
)
TOKENIZE_EFFORT = 1
_TARGETS = ("bpp", "size", "max_size", "psnr", "ssimulacra2")
_COLUMNS = ("image", "img", "bytes", "vqz", "tokens")


class Made(NamedTuple):
    """What was made of a picture.

    Attributes:
        content: The file: a `.vqz` file, an image's, or one of tokens.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        model: SHA-256 of the weights it depends on, 64 hexadecimal digits; of a `.vqz` file that
            was given, as many as it names; empty if it depends on none.
    """

    content: bytes
    width: int
    height: int
    model: str


@dataclass(frozen=True)
class Work:
    """What is done with every picture, as of `vqcodec.compress` and `decompress`.

    Attributes:
        command: One of `COMMANDS`.
        quality: Of files and tokens; None for the middle one.
        bpp: Bits a pixel to be met, instead of a quality; as the following, one at most.
        size: Bytes to be met.
        max_size: Bytes at most.
        psnr: To be met, in dB.
        ssimulacra2: To be met.
        effort: None for 5, or 1 of tokens.
        lossless: "auto", "always" or "never"; tokens are never.
        model: A model id or a weights file; None for the default model, or the one that a file
            names.
        strip: Whether to keep no metadata.
        to: Format of restored pictures, such as "PNG"; "VQZ" of tokens for `.vqz` files.
        bits: Whether to keep the exact bits of tokens under the priors.
        pixels: Width and height that all pictures have, so that all have as many tokens; others
            are errors. None for any.
        device: Where to run the networks.
        max_pixels: The most a picture may have; None for what VQCODEC_MAX_PIXELS says, or 128
            million.

    Raises:
        CodecError: there is no such command, or these exclude each other.
    """

    command: str
    quality: int | None = None
    bpp: float | None = None
    size: int | None = None
    max_size: int | None = None
    psnr: float | None = None
    ssimulacra2: float | None = None
    effort: int | None = None
    lossless: str = "auto"
    model: str | None = None
    strip: bool = False
    to: str = "PNG"
    bits: bool = False
    pixels: tuple[int, int] | None = None
    device: str = "cpu"
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.command not in COMMANDS:
            raise CodecError(f"there is no command {self.command!r}; give one of {COMMANDS}")
        if self.pixels is not None and (self.command != TOKENIZE or self._target()):
            raise CodecError("lists of fixed size are of tokens of one quality; give that")
        if self.to == "VQZ" and self.command == DECOMPRESS:
            raise CodecError("a .vqz file is restored to pictures; give their format")

    @property
    def endings(self) -> frozenset[str]:
        """Of the files that are looked for."""
        if self.command == DECOMPRESS:
            return frozenset({VQZ})
        if self.command == DETOKENIZE:
            return frozenset({token_files.ENDING})

        from vqcodec.image import endings

        return endings() | {VQZ} if self.command == TOKENIZE else endings()

    @property
    def ending(self) -> str:
        """Of the files that are made."""
        if self.command == COMPRESS or self.to == "VQZ":
            return VQZ
        if self.command == TOKENIZE:
            return token_files.ENDING

        from vqcodec.image import ending_of

        return ending_of(self.to)

    @property
    def needs_torch(self) -> bool:
        """Whether it may; lossless files do not."""
        return self.command != COMPRESS or self.lossless != "always"

    def settings(self) -> dict[str, Any]:
        """What the bytes depend on, JSON-ready: all of it, and the hash of the model.

        Raises:
            ModelError: there is no such model.
        """
        model = self.model or (None if self._restores else registry.DEFAULT_MODEL)
        sha256 = "" if model is None else registry.locate(model).sha256
        pixels = None if self.pixels is None else list(self.pixels)
        most = self.max_pixels or limits.max_pixels()
        own = {**asdict(self), "pixels": pixels, "max_pixels": most}
        return {**own, "model_sha256": sha256}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Work:
        """That of `settings`."""
        own = {each.name: settings[each.name] for each in fields(cls)}
        pixels = None if own["pixels"] is None else tuple(own["pixels"])
        return cls(**{**own, "pixels": pixels})

    def check(self) -> None:
        """Loads the model, and tells what no picture could be done with.

        Raises:
            CodecError: there is no such model, device, quality or effort.
        """
        from vqcodec.choosing import keeping
        from vqcodec.choosing.wanted import Wanted

        Wanted(self.quality, **self._target())
        if self.command == COMPRESS and keeping.checked_lossless(self.lossless) == keeping.ALWAYS:
            keeping.check_no_target(quality=self.quality, **self._target())
            return
        if self._restores and self.model is None:
            return

        from vqcodec.weights_file import load

        checked_effort(self.effort)
        load(self.model or registry.DEFAULT_MODEL, self.device).checked_quality(self.quality)

    def do(self, picture: bytes | Pictures) -> Made:
        """Does it with one picture.

        Args:
            picture: The bytes of its file; for what makes files, also what `vqcodec.compress`
                takes.

        Raises:
            CodecError: nothing can be made of it.
        """
        given = bytes(picture) if isinstance(picture, bytes | bytearray | memoryview) else picture
        with limits.at_most(self.max_pixels):
            if self.command == COMPRESS:
                return self._compress(given)
            if self.command == TOKENIZE:
                return self._tokenize(given)
            if not isinstance(given, bytes):
                raise CodecError(f"{self.command} is of the bytes of files; give those")
            restore = self._decompress if self.command == DECOMPRESS else self._detokenize
            return restore(given)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Does it with a batch of an engine.

        Args:
            batch: Columns of equal length by name; one is called image, img, bytes, vqz or tokens,
                and has bytes, `{"bytes": ...}`, uint8 arrays or Pillow images.

        Returns:
            The other columns, and `output` (bytes, empty if it failed), `width`, `height` and
            `error` (empty if it did not).

        Raises:
            CodecError: There is no such column, or no such model.
        """
        column = next((name for name in _COLUMNS if name in batch), None)
        if column is None:
            raise CodecError(f"a batch has {', '.join(batch)}, none of {', '.join(_COLUMNS)}")
        found = [self._attempt(_content(each)) for each in batch[column]]
        others = {name: values for name, values in batch.items() if name != column}
        return {
            **others,
            "output": [made.content for made, _ in found],
            "width": [made.width for made, _ in found],
            "height": [made.height for made, _ in found],
            "error": [error for _, error in found],
        }

    def _attempt(self, picture: Any) -> tuple[Made, str]:
        try:
            return self.do(picture), ""
        except Exception as error:
            return Made(b"", 0, 0, ""), error_text(error)

    @property
    def _restores(self) -> bool:
        return self.command in (DECOMPRESS, DETOKENIZE)

    def _target(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in _TARGETS}
        return {name: value for name, value in given.items() if value is not None}

    def _compress(self, picture: bytes | Pictures) -> Made:
        from vqcodec.codec import compress

        made = compress(
            self._image(picture),
            quality=self.quality,
            **self._target(),
            effort=self.effort or DEFAULT_EFFORT,
            lossless=self.lossless,
            model=self.model,
            device=self.device,
        )
        header = made.header
        sha256 = "" if header.lossless else self._loaded_sha256()
        return Made(made.data, header.width, header.height, sha256)

    def _decompress(self, data: bytes) -> Made:
        from vqcodec.codec import decompress
        from vqcodec.image import dump

        image = decompress(data, model=self.model, device=self.device)
        header = container.peek(data)
        return Made(dump(image, self.to), header.width, header.height, header.weights_hash.hex())

    def _tokenize(self, picture: bytes | Pictures) -> Made:
        tokenizer = self._tokenizer(self.model or registry.DEFAULT_MODEL)
        tokens = self._tokens(tokenizer, picture)
        header = tokens.header
        if self.pixels is not None and (header.width, header.height) != self.pixels:
            wanted = f"{self.pixels[0]} x {self.pixels[1]}"
            raise CodecError(f"is {header.width} x {header.height} pixels, not {wanted}")
        content = token_files.dump(
            token_files.about_model(
                header.model_id, tokenizer.model_hash, tokenizer.strides, tokenizer.codebook_sizes
            ),
            header,
            tokens.indices,
            tokens.extras,
            tokenizer.bits_of(tokens) if self.bits else None,
        )
        return Made(content, header.width, header.height, tokenizer.model_hash)

    def _tokens(self, tokenizer: Tokenizer, picture: bytes | Pictures) -> Tokens:
        if isinstance(picture, bytes) and picture.startswith(container.MAGIC):
            return tokenizer.unpack(picture)
        image, effort = self._image(picture), self.effort or TOKENIZE_EFFORT
        if not (target := self._target()):
            return tokenizer.tokenize(image, self.quality, effort=effort)

        from vqcodec.codec import compress

        compressed = compress(
            image, **target, effort=effort, lossless="never", model=self.model, device=self.device
        )
        return tokenizer.unpack(compressed)

    def _detokenize(self, data: bytes) -> Made:
        from vqcodec.image import dump
        from vqcodec.tokens import Tokens

        parsed = token_files.parse(data)
        header = parsed.header
        limits.check(header.width, header.height)
        tokenizer = self._tokenizer(self.model or header.model_id)
        tokens = Tokens(parsed.indices, header, parsed.extras)
        if self.to == "VQZ":
            content = tokenizer.pack(tokens)
        else:
            content = dump(tokenizer.restore(tokens), self.to)
        return Made(content, header.width, header.height, tokenizer.model_hash)

    def _image(self, picture: bytes | Pictures) -> Image:
        from vqcodec.image import as_image, load

        if isinstance(picture, bytes):
            return load(picture, keep="none" if self.strip else "common")
        return as_image(picture)

    def _tokenizer(self, model: str) -> Tokenizer:
        from vqcodec.tokens import Tokenizer

        return Tokenizer.from_pretrained(model, device=self.device)

    def _loaded_sha256(self) -> str:
        from vqcodec.weights_file import load

        return load(self.model or registry.DEFAULT_MODEL, self.device).sha256


def error_text(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, CodecError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    lines = str(error).splitlines() or [""]
    return one_line(f"{type(error).__name__}: {lines[0]}")


def _content(value: Any) -> Any:
    """The picture of a cell."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, list):  # of datasets, which keeps arrays so
        return np.array(value, np.uint8)
    if value is None:
        return b""
    return value
