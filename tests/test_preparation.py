"""What is done to raw examples: an export's own `prepared` does what the run did, whatever form they have."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plait.architectures import Architecture, Layer
from plait.errors import DataError, SpecError
from plait.models.export_source import source_of
from plait.models.images import load_images
from plait.models.preparation import Preparation, Statistics, layout_of, parsed
from plait.orchestrator.recipes.compress import Compress


@st.composite
def forms(draw):
    """Draw raw examples, and how they are to be prepared."""
    axes, size = draw(st.integers(1, 3)), None
    flat = draw(st.sampled_from(["no_channels", "features"]))
    layout = (
        None
        if axes == 1
        else draw(st.sampled_from(["channels_first", "channels_last", "no_channels"][: 4 - (axes == 3)]))
    )
    if axes == 3 and layout == "no_channels":
        layout = "channels_last"
    channels, sides = draw(st.integers(1, 5)), [draw(st.sampled_from([4, 6, 8])) for _ in range(3)]
    shape = {
        None: (sides[0],), "no_channels": (sides[0], sides[1]),
        "channels_first": (channels, *sides[: axes - 1]), "channels_last": (*sides[: axes - 1], channels),
    }[layout]  # fmt: skip
    if len(shape) - (layout != "no_channels") == 2 and draw(st.booleans()):
        size = 2
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = seed.integers(0, 256, (7, *shape), dtype=np.uint8)
    if draw(st.booleans()):
        x = (x * draw(st.sampled_from([1.0, 1 / 255, 1e-3])) - draw(st.sampled_from([0, 0.5]))).astype(
            draw(st.sampled_from(["f4", "f8", "f2"]))
        )
    scale = draw(st.sampled_from([None, None, 1.0, 16.0]))
    how = Preparation.of(x, "x", layout=layout or flat, scale=scale, size=size)
    channels = how.input[0]
    own = Statistics(mean=[0.1 * at for at in range(channels)], std=[1 + at for at in range(channels)])
    return x, how.normalised_by(how.scaled(x), draw(st.sampled_from(["data", "none", own])))


def exported(how, folder):
    """Return `prepared` of the text that an export of a network for such examples has."""
    arch = Architecture(input=how.input, layers=(Layer(op="flatten"), Layer(op="linear", out=2)))
    told = how.to_json()
    config = {"preparation": told, "normalisation": {"mean": told["mean"], "std": told["std"]}}
    (folder / "config.json").write_text(json.dumps(config))
    scope = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(source_of(arch), scope)
    return scope["prepared"]


@settings(max_examples=150, deadline=None)
@given(forms())
def test_an_exports_prepared_does_what_the_run_did(tmp_path_factory, form):
    x, how = form
    prepared, expected = exported(how, tmp_path_factory.mktemp("export")), how.apply(x)
    assert expected.shape == (len(x), *how.input)
    assert expected.dtype == np.float32
    for raw in (x, torch.from_numpy(x.copy())):
        made = prepared(raw)
        assert made.dtype == torch.float32
        np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert Preparation.from_json(json.loads(json.dumps(how.to_json()))) == how


@settings(max_examples=60, deadline=None)
@given(forms())
def test_what_normalisation_did_can_be_undone(form):
    x, how = form
    np.testing.assert_allclose(how.undone(how.apply(x)), how.scaled(x), rtol=1e-3, atol=1e-3)


def test_prepared_takes_the_other_layout_and_scale_where_they_are_clear(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    how = Preparation.of(x, "x")
    prepared, expected = exported(how, tmp_path), torch.from_numpy(how.apply(x))
    for form in (np.moveaxis(x, -1, 1).copy(), (x / 255).astype(np.float32), np.moveaxis(x / 255, -1, 1).copy()):
        torch.testing.assert_close(prepared(form), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.astype(np.float32), "expected bytes"),
        (lambda x: x.astype(np.int64), "expected uint8"),
        (lambda x: x[:, :4], "examples of shape"),
        (lambda x: x[..., 0], "examples of shape"),
        (lambda x: np.full(x.shape, np.nan, np.float32), "NaN"),
    ],
)
def test_prepared_refuses_what_it_cannot_know(change, said, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=said):
        exported(Preparation.of(x, "x"), tmp_path)(change(x))


def test_bytes_are_no_numbers_where_numbers_were_trained_on(tmp_path):
    x = np.random.default_rng(0).random((5, 8), np.float32)
    with pytest.raises(ValueError, match="expected floating-point"):
        exported(Preparation.of(x, "x"), tmp_path)((x * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((8, 8), "no_channels"), ((28, 28), "no_channels"), ((1, 40), "channels_first"), ((40, 2), "channels_last"),
     ((3, 32, 32), "channels_first"), ((32, 32, 4), "channels_last"), ((2, 8, 8), "channels_first"),
     ((9,), "no_channels")],
)  # fmt: skip
def test_clear_layouts(shape, layout):
    assert layout_of(shape, "x") == layout


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 8, 1), (8, 8, 8), (16, 5, 5), (2, 4), (9, 128), (28, 20)])
def test_a_layout_that_is_not_clear_is_asked_for_and_held_where_it_is_given(shape):
    with pytest.raises(DataError, match="layout="):
        layout_of(shape, "x")
    assert layout_of(shape, "x", "channels_last") == "channels_last"


def test_a_grey_image_is_no_image_of_three_axes():
    with pytest.raises(DataError, match="layout: got 'no_channels'"):
        layout_of((8, 8, 3), "x", "no_channels")


@pytest.mark.parametrize("text", ["", "mean", "1", "0.5/0", "0.5/-1", "a/b", "1/2/3", "0.5/nan"])
def test_what_is_no_normalisation_is_one_line(text):
    with pytest.raises(SpecError, match="normalisation: got"):
        parsed(text)
    with pytest.raises(SpecError, match=r"compress\.normalisation: got"):
        Compress(normalisation=text)


@pytest.mark.parametrize(
    "form",
    [
        "0.5/0.25",
        (0.5, 0.25),
        [[0.5], [0.25]],
        {"mean": 0.5, "std": [0.25]},
        (np.array([0.5]), np.float32(0.25)),
    ],
)
def test_statistics_have_several_forms(form):
    assert Compress(normalisation=form).spec.normalisation == Statistics(mean=(0.5,), std=(0.25,))


def test_statistics_of_another_number_of_channels_are_refused():
    with pytest.raises(SpecError, match=r"normalisation\.mean: got .*, expected 1 number or 1"):
        Compress(normalisation="0.5,0.5/0.5,0.5").data


def stored(folder, y, classes=None, test=None):
    x = np.random.default_rng(0).random((len(y), 8, 8), np.float32)
    more = {} if classes is None else {"classes": classes}
    np.savez(folder / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y if test is None else test, **more)
    return load_images(folder / "x.npz")


Y = np.arange(20) % 4


@pytest.mark.parametrize(
    "labels", [Y, Y.astype(np.uint8), Y[:, None], Y.astype(np.float32), np.eye(4)[Y], np.eye(4, dtype=bool)[Y]]
)
def test_labels_are_read_whichever_way_they_are_written(labels, tmp_path):
    data = stored(tmp_path, labels)
    assert (data.test_y == Y).all()
    assert (data.classes, data.test_y.dtype, data.names) == (4, np.int64, None)


def test_words_are_numbered_by_the_alphabet_or_as_the_data_name_them(tmp_path):
    words = np.array(["dog", "cat", "ant", "bee"])[Y]
    data = stored(tmp_path, words)
    assert data.names == ("ant", "bee", "cat", "dog")
    assert data.test_y[:4].tolist() == [3, 2, 0, 1]
    named = stored(tmp_path, words, classes=np.array(["dog", "cat", "ant", "bee", "cow"]))
    assert (named.classes, named.test_y[:4].tolist()) == (5, [0, 1, 2, 3])


WRONG = {
    "from 1": (Y + 1, r"y_train\[3\]: got 4, expected 0 to 3"), "negative": (Y - 1, r"y_train\[0\]: got -1"),
    "two ones": (np.ones((20, 4)), r"y_train\[0\]: got \[1\.0, 1\.0"), "a fraction": (Y + 0.5, r"y_train\[0\]: got"),
    "none": (np.full(20, np.nan), r"y_train\[0\]: got"),
    "scores": (np.random.default_rng(0).random((20, 4)), "a single one"),
    "times": (np.arange(20).astype("datetime64[s]"), "whole numbers, or of words"),
    "rows": (np.zeros((20, 2, 2), int), "whole numbers, or of words"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_label_is_one_line(case, tmp_path):
    labels, said = WRONG[case]
    with pytest.raises(DataError, match=said) as caught:
        stored(tmp_path, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (np.array(["a", "b"] * 10), Y, "labels as in"),
        (np.array(["a", "b"] * 10), np.array(["a", "c"] * 10), r"y_test\[1\]: got 'c'.*classes: a, b"),
        (np.eye(4)[Y], Y, "labels as in"),
        (np.eye(4)[Y], np.eye(5)[Y], "labels as in"),
        (np.array(["a"] * 20), np.array(["a"] * 20), "two classes or more"),
    ],
)  # fmt: skip
def test_labels_of_two_forms_are_one_line(train, test, said, tmp_path):
    with pytest.raises(DataError, match=said):
        stored(tmp_path, train, test=test)
