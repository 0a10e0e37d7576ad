"""LayerPath: one text per path, and edits told relative to the identity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait import LayerPath, PlaitError


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_print_and_parse_are_inverse(layers):
    path = LayerPath(tuple(layers))
    assert LayerPath.parse(path.key).layers == tuple(layers)
    assert LayerPath.parse(path.key).key == path.key


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("0-1,2x3,3", (0, 1, 2, 2, 2, 3)),
        ("(1-2)x2", (1, 2, 1, 2)),
        ("((0)x2,1)x2", (0, 0, 1, 0, 0, 1)),
    ],
)
def test_parse(text, layers):
    assert LayerPath.parse(text).layers == layers


def test_different_paths_have_different_texts():
    assert LayerPath((0, 1, 1)).key != LayerPath((0, 1)).key
    assert LayerPath.identity(30).key == "0-29"


@pytest.mark.parametrize("text", ["", "a", "0-", "0,,1", "(0-3", "3-1x", "0x0", "-1", "0-3)x2", "0x999999999"])
def test_bad_text_is_one_clear_error(text):
    with pytest.raises(PlaitError) as error:
        LayerPath.parse(text)
    assert "\n" not in str(error.value)


def test_layer_out_of_range_is_refused():
    with pytest.raises(PlaitError, match="30"):
        LayerPath.parse("0-30").check(30)
