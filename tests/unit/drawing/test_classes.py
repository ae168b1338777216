from __future__ import annotations

import pytest
from tiny_classes import CLASSES

from vqcodec.drawing.classes import find_classes
from vqcodec.errors import CodecError


class TestClasses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1", [1]),
            ("005", [5]),
            ("n01847000", [1]),
            ("N01847000", [1]),
            ("drake", [1]),
            (" DRAKE ", [1]),
            ("tench", [0]),
            ("tinca  tinca", [0]),
            ("tench, Tinca tinca", [0]),
            ("tinca", [0]),
            ("husky", [5]),  # a whole synonym, where 4 has the word only
            ("siberian", [4]),
            ("eskimo dog", [5]),
            ("esk", [5]),
            ("all", [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_are_found(self, text: str, expected: list[int]) -> None:
        assert find_classes(CLASSES, text) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("crane", r"class 'crane' may be 2 \(crane\); 3 \(crane\); give the index"),
            ("k", r"may be 1 \(drake\); 4 \(Siberian husky\); 5 \(Eskimo dog, husky\); give"),
            ("drke", r"no class 'drke'; did you mean 1 \(drake\)\?"),
            ("huskey", r"no class 'huskey'; did you mean 5 \(Eskimo dog, husky\)"),
            ("zebra", "no class 'zebra'; vqcodec models --classes lists them"),
            ("", "no class ''"),
            ("6", "no class 6; give an index from 0 to 5"),
            ("-1", "no class '-1'"),
            ("9" * 5000, "no class"),
        ],
    )
    def test_are_suggested(self, text: str, message: str) -> None:
        with pytest.raises(CodecError, match=message):
            find_classes(CLASSES, text)

    def test_many_that_may_be_meant_are_counted(self) -> None:
        many = [CLASSES[1]._replace(name=f"drake {n}") for n in range(20)]
        with pytest.raises(CodecError, match=r"7 \(drake 7\) and 12 more; give the index"):
            find_classes(many, "drake")
