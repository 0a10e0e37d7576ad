"""Examples for small networks: what is read, how it is split, and what is refused."""

import io

import numpy as np
import pytest
from conftest import SHARED
from plait.errors import DataError
from plait.models.images import array_digest, load_images, permutation

IMAGES = SHARED / "images"


def arrays(x=None, y=None, **more):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (20, 6, 6), dtype=np.uint8) if x is None else x
    y = np.arange(20) % 4 if y is None else y
    return {"x_train": x, "y_train": y, "x_test": x[:8], "y_test": y[:8], **more}


def saved(folder, **made):
    np.savez(folder / "data.npz", **made)
    return folder / "data.npz"


def rows(x):
    return {row.tobytes() for row in x}


def test_digits_are_split_into_parts_that_share_no_example():
    data = load_images("plait:digits")
    parts = [data.fit_x, data.validation_x, data.test_x]
    assert [len(x) for x in parts] == [1150, 288, 359]
    assert data.input == (1, 8, 8)
    assert data.classes == 10
    assert not rows(data.fit_x) & rows(data.validation_x)
    assert not rows(data.fit_x) & rows(data.test_x)
    assert not rows(data.validation_x) & rows(data.test_x)
    assert {x.dtype.name for x in parts} == {"float32"}
    assert data.fit_y.dtype == np.int64


def test_the_statistics_are_those_of_the_fit_part(tmp_path):
    data = load_images(saved(tmp_path, **arrays()))
    assert abs(data.fit_x.mean()) < 1e-6
    assert abs(data.fit_x.std() - 1) < 1e-6
    assert abs(data.validation_x.mean()) > 1e-4, "validation took part in the statistics"


def test_a_seed_draws_the_split_and_never_the_test_part():
    one, two = load_images("plait:digits", seed=1), load_images("plait:digits", seed=2)
    assert rows(one.fit_x) != rows(two.fit_x)
    assert (one.test_y == two.test_y).all()
    assert one.digest != two.digest
    assert one.digest == load_images("plait:digits", seed=1).digest


def test_a_trainers_data_hold_no_test_example_and_keep_the_digest():
    data = load_images("plait:digits")
    bare = data.without_test()
    assert len(bare.test_x) == len(bare.test_y) == 0
    assert bare.test_x.base is None, "a view would keep the whole alive"
    assert bare.digest == data.digest
    assert data.test()[0] is data.test_x


def test_fewer_training_examples_are_drawn_and_then_split(tmp_path):
    data = load_images(saved(tmp_path, **arrays()), train=10, validation=0.3)
    assert [len(data.fit_x), len(data.validation_x), len(data.test_x)] == [7, 3, 8]


def test_colour_images_come_channels_first_and_signals_get_a_channel(tmp_path):
    draw = np.random.default_rng(1)
    colour = load_images(saved(tmp_path, **arrays(draw.random((20, 6, 5, 3), np.float32))))
    assert colour.input == (3, 6, 5)
    assert np.allclose(colour.fit_x.mean((0, 2, 3)), 0, atol=1e-6)
    signal = load_images(saved(tmp_path, **arrays(draw.random((20, 9), np.float32))))
    assert signal.input == (1, 9)


def test_smaller_images_are_averages(tmp_path):
    x = np.zeros((20, 4, 4), np.float32)
    x[:, :2, :2] = np.arange(20)[:, None, None]
    x[:, 0, 0] += 4
    data = load_images(saved(tmp_path, **arrays(x)), size=2)
    corner = data.test_x[:, 0, 0, 0] - data.test_x[:, 0, 1, 1]
    scale = corner[1] - corner[0]
    assert data.input == (1, 2, 2)
    assert np.allclose(corner / scale, np.arange(8) + 1, atol=1e-4)


def test_a_constant_channel_stays_finite(tmp_path):
    data = load_images(saved(tmp_path, **arrays(np.full((20, 3, 3), 9, np.uint8))))
    assert (data.fit_x == 0).all()


def jpegs(count, size=(8, 8)):
    from PIL import Image

    stream, offsets = b"", [0]
    for at in range(count):
        file = io.BytesIO()
        Image.new("RGB", size, (at * 10, 100, 200)).save(file, "jpeg")
        stream += file.getvalue()
        offsets.append(len(stream))
    return np.frombuffer(stream, np.uint8), np.array(offsets)


def jpeg_archive(folder, **changed):
    (stream, offsets), y = jpegs(12), np.arange(12) % 2
    made = {"jpeg_train": stream, "offsets_train": offsets, "y_train": y, "y_test": y}
    made |= {"jpeg_test": stream, "offsets_test": offsets, **changed}
    return saved(folder, **made)


def test_jpeg_files_end_to_end_are_decoded(tmp_path):
    data = load_images(jpeg_archive(tmp_path))
    assert data.input == (3, 8, 8)
    means = data.test_x[:, 0].mean((1, 2))
    assert (np.diff(means) > 0).all(), "the images' reds rise"


def test_a_broken_jpeg_is_named(tmp_path):
    stream, offsets = jpegs(12)
    broken = stream.copy()
    broken[offsets[3] : offsets[4]] = 0
    with pytest.raises(DataError, match=r"jpeg_train\[3\].*expected a JPEG image"):
        load_images(jpeg_archive(tmp_path, jpeg_train=broken))
    with pytest.raises(DataError, match="offsets_test"):
        load_images(jpeg_archive(tmp_path, offsets_test=offsets[:1]))
    other, places = jpegs(1, (4, 4))
    mixed = np.concatenate([stream, other]), np.append(offsets, len(stream) + places[1])
    with pytest.raises(DataError, match=r"jpeg_train\[12\].*as the first image"):
        load_images(jpeg_archive(tmp_path, jpeg_train=mixed[0], offsets_train=mixed[1]))


def changed(y, at, label):
    y = y.copy()
    y[at] = label
    return y


Y = np.arange(20) % 4
FAULTS = {
    "a label far out": (arrays(y=changed(Y, 13, 255)), r"y_train\[13\]: got 255, expected 0 to 4"),
    "a negative label": (arrays(y=changed(Y, 5, -1)), r"y_train\[5\]: got -1"),
    "labels from 1": (arrays(y=Y + 1), r"y_train\[3\]: got 4, expected 0 to 3"),
    "a label of the test part alone": (arrays(y_test=changed(Y[:8], 2, 4)), r"y_test\[2\]: got 4, expected 0 to 3"),
    "fractions as labels": (arrays(y=Y / 2), r"y_train\[1\]: got 'float64 0.5', expected one row of whole numbers"),
    "labels for other examples": (arrays(y_train=Y[:19]), "y_train: got '19 labels'"),
    "one class": (arrays(y=Y * 0), "two classes or more"),
    "no examples": (arrays(x_test=np.zeros((0, 6, 6), np.uint8), y_test=Y[:0]), "y_test: got '0 labels'"),
    "five axes": (arrays(np.zeros((20, 2, 2, 2, 2), np.uint8)), r"x_train: got \(20, 2, 2, 2, 2\)"),
    "one axis": (arrays(np.zeros(20, np.float32)), r"x_train: got \(20,\)"),
    "no axis": (arrays(x_train=np.float32(1)), "y_train: got '20 labels'"),
    "whole numbers as images": (arrays(np.zeros((20, 6, 6), np.int64)), "x_train: got 'int64', expected bytes"),
    "NaN": (arrays(changed(np.zeros((20, 6), np.float32), 7, np.nan)), r"x_train\[7\]: got 'NaN"),
    "another test shape": (arrays(x_test=np.zeros((8, 5, 5), np.uint8)), "x_test.*as in x_train"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_named(fault, tmp_path):
    made, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        load_images(saved(tmp_path, **made))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4}, "size: got 4, expected a divisor"),
        ({"size": 0}, "size: got 0"),
        ({"train": 21}, "train: got 21, expected 3 to 20"),
        ({"train": 2}, "train: got 2"),
        ({"validation": 0.0}, "validation: got 0.0"),
        ({"validation": 0.95}, "validation: got 0.95"),
        ({"classes": 3}, r"y_train\[3\]: got 3, expected 0 to 2"),
    ],
)
def test_settings_that_do_not_fit_the_examples_are_named(settings, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_images(saved(tmp_path, **arrays()), **settings)


def test_named_classes_are_counted_even_where_one_has_no_example(tmp_path):
    assert load_images(saved(tmp_path, **arrays(classes=np.array(["a", "b", "c", "d", "e"])))).classes == 5


def test_files_that_are_no_archive_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz: got 'No such file"):
        load_images(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"text\.npz"):
        load_images(tmp_path / "text.npz")
    with pytest.raises(DataError, match="x_test among its arrays"):
        load_images(saved(tmp_path, x_train=Y, y_train=Y))
    with pytest.raises(DataError, match="plain arrays"):
        load_images(saved(tmp_path, **arrays(classes=np.array([{}], object))))
    np.save(tmp_path / "lone.npy", Y)
    with pytest.raises(DataError, match=r"lone\.npy"):
        load_images(tmp_path / "lone.npy")


def test_a_permutation_belongs_to_seed_and_purpose():
    assert permutation(5, 7, "doc").tolist() == [0, 1, 4, 3, 2]
    assert sorted(permutation(1000, 3, "epoch", 1).tolist()) == list(range(1000))
    assert permutation(50, 3, "epoch", 1).tolist() != permutation(50, 3, "epoch", 2).tolist()
    assert permutation(0, 1).tolist() == []


def test_a_digest_sees_type_shape_and_bytes():
    flat = np.arange(6, dtype=np.float32)
    found = {array_digest(x) for x in (flat, flat.reshape(2, 3), flat.reshape(3, 2), flat.astype(np.float64), flat + 1)}
    assert len(found) == 5
    assert array_digest(flat.reshape(2, 3).T) == array_digest(flat.reshape(2, 3).T.copy())


@pytest.mark.skipif(not IMAGES.is_dir(), reason="needs ../shared/data/images")
@pytest.mark.parametrize(
    ("name", "settings", "shape", "counts"),
    [
        ("mnist1d.npz", {}, (1, 40), (3200, 800, 1000)),
        ("mnist_full.npz", {"size": 14, "train": 10000}, (1, 14, 14), (8000, 2000, 10000)),
        ("cifar10_small.npz", {"size": 16}, (3, 16, 16), (8000, 2000, 2000)),
    ],
)
def test_data_sets_beside_the_project_load(name, settings, shape, counts):
    data = load_images(IMAGES / name, **settings)
    assert data.input == shape
    assert (len(data.fit_x), len(data.validation_x), len(data.test_x)) == counts
    assert data.classes == 10
    assert 0.1 <= data.chance < 0.13
