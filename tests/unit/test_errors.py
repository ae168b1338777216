from __future__ import annotations

import copy
import pickle

import pytest

from vqcodec import errors
from vqcodec.errors import CodecError

SUBCLASSES = [
    (errors.ImageError, CodecError),
    (errors.OutputError, CodecError),
    (errors.FormatError, CodecError),
    (errors.NotVqzError, errors.FormatError),
    (errors.VersionError, errors.FormatError),
    (errors.TruncatedError, errors.FormatError),
    (errors.ChecksumError, errors.FormatError),
    (errors.HeaderError, errors.FormatError),
    (errors.SectionError, errors.FormatError),
    (errors.TrailingDataError, errors.FormatError),
    (errors.TooGoodError, CodecError),
    (errors.ModelError, CodecError),
    (errors.UnknownModelError, errors.ModelError),
    (errors.WeightsError, errors.ModelError),
]


@pytest.mark.parametrize(("error", "base"), SUBCLASSES)
def test_tree(error: type[CodecError], base: type[CodecError]) -> None:
    assert error.__base__ is base


def test_without_a_file_name_the_message_stands_alone() -> None:
    assert str(CodecError("is wrong; mend it")) == "is wrong; mend it"


def test_in_file_names_the_file_and_keeps_the_error() -> None:
    error = errors.ChecksumError("is wrong; mend it")
    assert error.in_file("a.vqz") is error
    assert str(error) == "a.vqz: is wrong; mend it"
    assert error.filename == "a.vqz"


def test_the_first_file_name_stays() -> None:
    error = CodecError("is wrong").in_file("model.safetensors").in_file("a.vqz")
    assert str(error) == "model.safetensors: is wrong"


def test_one_line_whatever_the_file_is_called() -> None:
    text = str(CodecError("is\nwrong").in_file("a\r\nb\x1b[31m\udcff\u2028é.png"))
    assert text == r"a\r\nb\x1b[31m\udcff\u2028é.png: is\nwrong"
    assert text.encode()


def test_errors_cross_process_borders() -> None:
    error = errors.HeaderError("is wrong").in_file("a.vqz")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is errors.HeaderError
        assert str(twin) == "a.vqz: is wrong"
