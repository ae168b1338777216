"""A .vqz file that is decoded where it is looked at: `open`.

Opening it loads neither torch nor numpy.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vqcodec import container, files
from vqcodec.container import EXTRA_ALPHA, Container
from vqcodec.errors import CodecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vqcodec.image import Image


class LazyImage:
    """An opened file. Every method decodes anew, and only what it gives.

    Attributes:
        data: The bytes of the file.
        header: What it says of itself.
        mode: Of the image, as Pillow calls it: L, LA, RGB or RGBA.
        levels: How many levels it holds, which are fewer than `header.levels` if it is cut short.
    """

    def __init__(
        self, data: bytes, contents: Container, name: str | None, options: dict[str, Any]
    ) -> None:
        self.data = data
        self.header = contents.header
        self.mode = contents.mode
        self.levels = len(contents.sections)
        self._contents = contents
        self._name = name
        self._options = options

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.header.width, self.header.height

    @property
    def info(self) -> dict[str | tuple[int, int], Any]:
        """Its metadata, as Pillow calls them: `icc_profile`, `exif`.

        Raises:
            FormatError: They are damaged.
        """
        return metadata(self._contents)

    def load(self, **options: Any) -> Image:
        """The image; options are those of `vqcodec.decompress`, and come before those of `open`.

        Raises:
            CodecError: as of `vqcodec.decompress`.
        """
        from vqcodec.codec import decompress

        try:
            return decompress(self.data, **{**self._options, **options})
        except CodecError as error:
            if self._name is not None:
                error.in_file(self._name)
            raise

    def region(self, x: int, y: int, width: int, height: int) -> Image:
        """A part of the image, in pixels from its top left corner; decodes the tiles around it.

        Raises:
            CodecError: as of `vqcodec.decompress`; there is no such region.
        """
        return self.load(region=(x, y, width, height))

    def thumbnail(self, max_side: int) -> Image:
        """The image with sides of at most so many pixels, from the levels that are seen then.

        Raises:
            CodecError: as of `vqcodec.decompress`; there is no such size.
        """
        return self.load(max_side=max_side)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        """All of the image, for numpy: as `Image.channels`."""
        return self.load().__array__(dtype, copy)

    def __repr__(self) -> str:
        width, height = self.size
        return f"<{type(self).__name__} {width}x{height} {self.mode}, {self.levels} levels>"


def open(
    source: str | Path | bytes | bytearray | memoryview | BinaryIO, **options: Any
) -> LazyImage:
    """Opens a .vqz file, which may be cut short with `partial=True`.

    Args:
        source: Its name, `-` for standard input; its bytes; or an opened binary file.
        options: Of `vqcodec.decompress`, for whatever is decoded.

    Raises:
        FormatError: it is no undamaged .vqz file.
        CodecError: it cannot be read, or is nothing of these.
    """
    name: str | None = None
    if isinstance(source, (str, Path)):
        name = files.input_name(source)
        data = files.read_bytes(source)
    else:
        found: object = source.read() if hasattr(source, "read") else source
        if not isinstance(found, (bytes, bytearray, memoryview)):
            raise CodecError(f"a {type(source).__name__} is no file; give a name, bytes or a file")
        data = bytes(found)
    try:
        contents = container.unpack(data, partial=options.get("partial", False))
    except CodecError as error:
        if name is not None:
            error.in_file(name)
        raise
    return LazyImage(data, contents, name, options)


def metadata(contents: Container) -> dict[str | tuple[int, int], Any]:
    """What a file has besides its pixels, as Pillow calls it.

    Raises:
        FormatError: it is damaged.
    """
    import numpy as np

    from vqcodec.image import image_of

    rest = {kind: each for kind, each in contents.extras.items() if kind != EXTRA_ALPHA}
    dot = np.zeros((1, 1, 3), np.uint8)
    return image_of(replace(contents, extras=rest), dot).to_pil().info
