from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import Container, Header, pack, peek, unpack
from vqcodec.errors import CodecError, TruncatedError


@st.composite
def headers(draw: st.DrawFn) -> Header:
    if draw(st.booleans()):
        width, height = draw(st.integers(1, 20000)), draw(st.integers(1, 10000))
        return Header.of_lossless(width, height, draw(st.booleans()))
    return Header(
        width=draw(st.integers(1, 300)),
        height=draw(st.integers(1, 100)),
        grey=draw(st.booleans()),
        model_id=draw(st.text("abz019.-", min_size=1, max_size=32)),
        weights_hash=draw(st.binary(min_size=8, max_size=8)),
        tile=1 << draw(st.integers(7, 12)),
        quality=draw(st.integers(1, 255)),
        levels=draw(st.integers(1, 8)),
    )


@st.composite
def containers(draw: st.DrawFn) -> Container:
    header = draw(headers())
    level = st.tuples(*[st.binary(max_size=200)] * header.tiles)
    return Container(
        header=header,
        extras=draw(st.dictionaries(st.integers(0, 255), st.binary(max_size=200), max_size=8)),
        sections=draw(st.tuples(*[level] * header.levels)),
        indices_crc=None if header.lossless else draw(st.integers(0, 2**32 - 1)),
        complete=True,
    )


@settings(deadline=None)
@given(containers())
def test_unpack_undoes_pack(container: Container) -> None:
    data = pack(container)
    assert unpack(data) == container
    assert peek(data) == container.header
    assert pack(unpack(data)) == data


@settings(deadline=None)
@given(containers(), st.data())
def test_a_cut_file_is_told_so_and_gives_a_beginning(
    container: Container, data: st.DataObject
) -> None:
    packed = pack(container)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises(TruncatedError):
        unpack(cut)
    try:
        restored = unpack(cut, partial=True)
    except TruncatedError:
        return
    assert restored.sections
    assert restored == dataclasses.replace(
        container,
        sections=container.sections[: len(restored.sections)],
        indices_crc=None,
        complete=False,
    )


@settings(deadline=None)
@given(containers(), st.data(), st.booleans())
def test_a_changed_byte_is_never_taken_for_the_file(
    container: Container, data: st.DataObject, partial: bool
) -> None:
    packed = bytearray(pack(container))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        restored = unpack(bytes(packed), partial=partial)
    except CodecError:
        return
    # A changed length looks like a cut: the levels before it are still as they were written.
    assert partial
    assert not restored.complete
    assert restored.sections == container.sections[: len(restored.sections)]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(rubbish)
