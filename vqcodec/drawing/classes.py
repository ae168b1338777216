"""Which of a model's classes somebody means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from vqcodec.errors import CodecError
from vqcodec.registry import ClassName, no_classes
from vqcodec.weights_file import Model

MAX_SUGGESTIONS = 8


def find_classes(model_classes: Sequence[ClassName], text: str) -> list[int]:
    """Finds the class that somebody means.

    Args:
        model_classes: A model's classes.
        text: An index, a key, a name, one of a name's synonyms or a part of it, in any case; or
            "all".

    Returns:
        The index, or all of them.

    Raises:
        CodecError: no class is meant, or several.
    """
    wanted = " ".join(text.split()).casefold()
    if wanted == "all":
        return list(range(len(model_classes)))
    if re.fullmatch("[0-9]{1,9}", wanted):
        if int(wanted) >= len(model_classes):
            last = len(model_classes) - 1
            raise CodecError(f"there is no class {wanted}; give an index from 0 to {last}")
        return [int(wanted)]
    names = [each.name.casefold() for each in model_classes]
    synonyms = [[part.strip() for part in name.split(",")] for name in names]
    word = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    ways: list[Callable[[int], bool]] = [
        lambda n: wanted in (model_classes[n].key.casefold(), names[n], *synonyms[n]),
        lambda n: word.search(names[n]) is not None,
        lambda n: wanted in names[n],
    ]
    for fits in ways if wanted else ():
        found = [n for n in range(len(names)) if fits(n)]
        if len(found) == 1:
            return found
        if found:
            few = listed(model_classes, found[:MAX_SUGGESTIONS])
            more = len(found) - MAX_SUGGESTIONS
            rest = f" and {more} more" if more > 0 else ""
            raise CodecError(f"class {text!r} may be {few}{rest}; give the index")
    owners = {part: n for n, parts in reversed(list(enumerate(synonyms))) for part in parts}
    close = difflib.get_close_matches(wanted, owners, MAX_SUGGESTIONS // 2)
    hint = f"did you mean {listed(model_classes, dict.fromkeys(owners[c] for c in close))}?"
    raise CodecError(
        f"there is no class {text!r}; {hint if close else 'vqcodec models --classes lists them'}"
    )


def check_classes(model: Model, *indices: int) -> None:
    """Checks that a model has classes, and these in particular.

    Raises:
        CodecError: it has not.
    """
    if not model.classes:
        raise no_classes(model.model_id)
    for index in indices:
        if not 0 <= index < len(model.classes):
            limits = f"0 to {len(model.classes) - 1}"
            raise CodecError(f"{model.model_id} has no class {index}; give one from {limits}")


def listed(model_classes: Sequence[ClassName], indices: Iterable[int]) -> str:
    """Classes in words: their indices and names."""
    return "; ".join(f"{n} ({model_classes[n].name})" for n in indices)
