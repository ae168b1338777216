"""`import vqcodec.imageio`: imageio reads and writes .vqz files, by Pillow.

    pixels = imageio.v3.imread("photo.vqz")
    imageio.v3.imwrite("smaller.vqz", pixels, quality=30)

Options are those of `vqcodec.pillow`.
"""

from __future__ import annotations

from imageio.config import FileExtension, extension_list, known_extensions

from vqcodec.pillow import EXTENSION

if EXTENSION not in known_extensions:
    extension = FileExtension(extension=EXTENSION, priority=["pillow"], name="vqcodec")
    extension_list.append(extension)
    known_extensions[EXTENSION] = [extension]
