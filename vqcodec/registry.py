"""The models vqcodec knows: ids, weights files, hashes.

A `.vqz` file names its model by id, so an entry is never changed, removed or used anew: MODELS only
grows, and a model trained again gets a new id.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vqcodec.errors import ModelError, UnknownModelError, WeightsError

DEFAULT_MODEL = "hvq-photo-2"
DEFAULT_GENERATOR: str | None = "hvq-imagenet64-1"  # the model that draws images by class

WEIGHTS_SUFFIX = ".safetensors"
MAX_METADATA_LENGTH = 1 << 20

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A packaged model of `MODELS`.

    Attributes:
        model_id: The id that files are marked with.
        filename: Its file in the weights directory.
        sha256: SHA-256 of that file, 64 hexadecimal digits.
        summary: One line about it.
    """

    model_id: str
    filename: str
    sha256: str
    summary: str


class ClassName(NamedTuple):
    """One of the classes that a model's priors know.

    Attributes:
        key: What its images' folder is called; for ImageNet the WordNet id.
        name: Its name, synonyms separated by commas.
        images: How many images of it the priors were trained on.
    """

    key: str
    name: str
    images: int


@dataclass(frozen=True)
class Location:
    """A weights file that has been found.

    Attributes:
        path: The file.
        model_id: Id of the model it holds.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
    """

    path: Path
    model_id: str
    sha256: str


MODELS: dict[str, Entry] = {
    "hvq-photo-1": Entry(
        model_id="hvq-photo-1",
        filename="hvq-photo-1.safetensors",
        sha256="9b7521432db879358d7afacb5309c795b3cb0d5a9b476e4c599f9f7fee66f65a",
        summary="photographs, 8 qualities, strides 32, 16 and 8",
    ),
    "hvq-photo-2": Entry(
        model_id="hvq-photo-2",
        filename="hvq-photo-2.safetensors",
        sha256="c24782c84a93bfca21caf6e014d57f4428a52cf806fcb00015570c8dae92402f",
        summary="photographs, 100 qualities, strides 32, 16 and 8",
    ),
    "hvq-imagenet64-1": Entry(
        model_id="hvq-imagenet64-1",
        filename="hvq-imagenet64-1.safetensors",
        sha256="d98932039c896b33d1767dc79e99c2c2e15ff15657889f68cc1d6821516c18aa",
        summary="draws 64 x 64 images of the 1,000 classes of ImageNet; strides 16, 8 and 4",
    ),
}


SYNTHESES: dict[str, Entry] = {
    "hvq-photo-2": Entry(
        model_id="hvq-photo-2",
        filename="hvq-photo-2-natural.safetensors",
        sha256="3166ce27d10b152622c2473e6d1befcbbb3376e90bd0bbeb0f99fcf1b2f92d88",
        summary="sharper than the faithful synthesis, and further away by squared error",
    ),
}
"""The natural syntheses of packaged models, by the model's id; a better one takes its place."""


def weights_directory() -> Path:
    """The directory of the packaged weights, also in a source tree that is not installed."""
    spec = importlib.util.find_spec("vqcodec.weights")
    if spec is None or not spec.submodule_search_locations:
        return Path(__file__).resolve().parent.parent / "weights"
    return Path(next(iter(spec.submodule_search_locations)))


def locate(model: str | Path) -> Location:
    """Finds the weights file of a model and takes its hash.

    Args:
        model: A model id, or a weights file: any Path, or a string ending in `.safetensors`.

    Returns:
        The weights file; its hash is the registered one if `model` is an id.

    Raises:
        UnknownModelError: No model has this id.
        WeightsError: The file is missing, malformed, or not the registered one.
    """
    if isinstance(model, Path) or model.endswith(WEIGHTS_SUFFIX):
        return _locate_file(Path(model))
    if model not in MODELS:
        known = ", ".join(MODELS) or "none"
        reason = f"model {model!r} is not known (known: {known})"
        raise UnknownModelError(f"{reason}; give its weights file with --model FILE")
    return packaged(MODELS[model])


def packaged(entry: Entry) -> Location:
    """Finds a packaged file and compares its hash.

    Raises:
        WeightsError: The file is missing, or not the registered one.
    """
    path = weights_directory() / entry.filename
    if not path.is_file():
        reason = f"no such file; the weights of {entry.model_id} have SHA-256 {entry.sha256}"
        raise WeightsError(f"{reason}; install vqcodec anew").in_file(path)
    sha256 = sha256_of(path)
    if sha256 != entry.sha256:
        reason = f"has SHA-256 {sha256}, the weights of {entry.model_id} have {entry.sha256}"
        raise WeightsError(f"{reason}; install vqcodec anew").in_file(path)
    return Location(path, entry.model_id, sha256)


def _locate_file(path: Path) -> Location:
    model_id = read_metadata(path).get("model_id")
    if not model_id:
        reason = "has no model_id in its metadata"
        raise WeightsError(f"{reason}; name a file written by vqcodec export").in_file(path)
    return Location(path, model_id, sha256_of(path))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Reads the metadata of a safetensors file, and nothing else of it.

    Args:
        path: The weights file.

    Returns:
        Its `__metadata__`; of vqcodec's weights `model_id`, `config` and `format`.

    Raises:
        WeightsError: The file cannot be read or is no safetensors file.
    """
    try:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_METADATA_LENGTH:
                reason = f"claims a header of {length} bytes, more than {MAX_METADATA_LENGTH}"
                raise _malformed(reason, path)
            header = stream.read(length)
    except OSError as error:
        raise _unreadable(error, path) from error
    if len(header) < length:
        raise _malformed(f"ends inside its header of {length} bytes", path)
    try:
        fields: Any = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _malformed("has a header that is not JSON", path) from error
    metadata = fields.get("__metadata__", {}) if isinstance(fields, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _malformed("has a header without a table of texts as metadata", path)
    return metadata


def read_classes(path: str | Path) -> tuple[ClassName, ...]:
    """Reads the classes of a model from the metadata of its weights file.

    Args:
        path: The weights file.

    Returns:
        The classes in the order of their indices; none for a model without.

    Raises:
        WeightsError: The file cannot be read or is no weights file.
    """
    try:
        return classes_of(json.loads(read_metadata(path).get("config", "{}")))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise _malformed("has metadata with malformed classes", path) from error


def classes_of(config: Any) -> tuple[ClassName, ...]:
    """The classes that the config of a weights file lists as [key, name, images].

    Raises:
        AttributeError, TypeError, ValueError: they are malformed.
    """
    classes = tuple(ClassName(key, name, images) for key, name, images in config.get("classes", []))
    for each in classes:
        if [type(field) for field in each] != [str, str, int]:
            raise TypeError(f"a class is two texts and a number, not {list(each)}")
    return classes


def default_generator() -> str:
    """The id of the packaged model that draws images by class.

    Raises:
        UnknownModelError: There is none.
    """
    if DEFAULT_GENERATOR is None:
        reason = "no packaged model draws images by class"
        raise UnknownModelError(f"{reason}; give a model that does with --model FILE")
    return DEFAULT_GENERATOR


def no_classes(model_id: str) -> ModelError:
    """The error of who asks a model for classes that has none; it names those that have."""
    paths = {known: weights_directory() / each.filename for known, each in MODELS.items()}
    able = [known for known, path in paths.items() if path.is_file() and read_classes(path)]
    hint = f"use one that has: {', '.join(able)}" if able else "give one that has with --model FILE"
    return ModelError(f"{model_id} has no classes; {hint}")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; computed anew when the file has changed.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        found = os.stat(path)
        changed = (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        return _sha256_of(path, changed, (found.st_dev, found.st_ino))
    except OSError as error:
        raise _unreadable(error, path) from error


@lru_cache(maxsize=16)
def _sha256_of(path: str | Path, changed: tuple[int, ...], identity: tuple[int, int]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _malformed(reason: str, path: str | Path) -> WeightsError:
    return WeightsError(f"{reason}; name a safetensors file of vqcodec").in_file(path)


def _unreadable(error: OSError, path: str | Path) -> WeightsError:
    return WeightsError(f"cannot be read ({error.strerror}); check the name").in_file(path)
