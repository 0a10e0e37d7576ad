"""Examples as users have them: each form gives the same data, and what is none is one line."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from plait.errors import DataError, PlaitError, SpecError
from plait.models.image_files import _part_name
from plait.models.images import load_images
from plait.orchestrator.recipes.compress import Compress
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset

X = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
Y = np.arange(60) % 3
TX, TY = torch.tensor(X), torch.tensor(Y)
BOTH = TensorDataset(TX, TY)


class Mappings(Dataset):
    classes = ("ant", "bee", "cat")

    def __len__(self):
        return 60

    def __getitem__(self, at):
        return {"image": Image.fromarray(np.moveaxis(X[at], 0, -1)), "label": int(Y[at])}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(TX, TY, strict=True))


class Broken(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, at):
        if at > 9:
            raise OSError("image 10 is\nnot there")
        return TX[at], TY[at]


class Uneven(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, at):
        return TX[at, :, : 4 + at % 2], TY[at]


class Augmented(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, at):
        return TX[at].float() + torch.rand(1), int(Y[at])


ONE_PART = {
    "arrays": (X, Y), "a list": [X, Y], "tensors": (TX, TY), "a dataset": BOTH, "a mapping": {"x": X, "y": Y},
    "a part by name": {"train": (X, Y)}, "an iterable dataset": Stream(), "a subset": Subset(BOTH, range(60)),
    "a loader": DataLoader(BOTH, 7), "a loader that shuffles": DataLoader(BOTH, 7, shuffle=True, drop_last=True),
    "a loader of a stream": DataLoader(Stream(), 7), "a loader without batches": DataLoader(BOTH, batch_size=None),
    "one-hot": (X, np.eye(3)[Y]), "a column": (X, Y[:, None]),
}  # fmt: skip


@pytest.mark.parametrize("form", ONE_PART)
def test_one_part_in_any_form_is_the_same_data(form):
    data = load_images(ONE_PART[form])
    assert data.digest == load_images((X, Y)).digest
    assert (len(data.test_y), data.input) == (12, (3, 8, 8))


TWO_PARTS = {
    "four arrays": (X, Y, X[:9], Y[:9]),
    "two pairs": ((X, Y), (TX[:9], TY[:9])),
    "by name": {"train": DataLoader(BOTH, 7, shuffle=True), "test": Subset(BOTH, range(9))},
    "a validation part": {"train": BOTH, "val": (X[:9], Y[:9])},
}


@pytest.mark.parametrize("form", TWO_PARTS)
def test_two_parts_in_any_form_are_the_same_data(form, tmp_path):
    np.savez(tmp_path / "x.npz", x_train=X, y_train=Y, x_test=X[:9], y_test=Y[:9])
    assert load_images(TWO_PARTS[form]).digest == load_images(tmp_path / "x.npz").digest


def test_a_dataset_of_mappings_and_images_knows_its_classes():
    data = load_images(Mappings())
    assert data.names == ("ant", "bee", "cat")
    assert (data.preparation.layout, data.digest) == ("channels_last", load_images((X, Y)).digest)


def test_a_loader_of_some_examples_yields_those_alone():
    some = DataLoader(BOTH, 7, sampler=SubsetRandomSampler(range(30), torch.Generator().manual_seed(0)))
    data = load_images({"train": some, "test": (X[30:], Y[30:])})
    rows = {x.tobytes() for x in load_images((X[:30], Y[:30], X[30:], Y[30:]), normalisation="none").fit_x}
    got = load_images({"train": some, "test": (X[30:], Y[30:])}, normalisation="none")
    assert len(data.fit_y) + len(data.validation_y) == 30
    assert rows & {x.tobytes() for x in got.fit_x}


NONE = {
    "a number": 3, "nothing": None, "other lengths": (X, Y[:5]), "a list of numbers": [1, 2, 3], "no train": {"a": 1},
    "no label": TensorDataset(TX), "three": (X, Y, X), "a tensor": torch.zeros(3, 4), "empty": [], "texts": ("a", "b"),
    "an example that is another": [(X[0], 0), (X[1], 1), (X[2, 0], 1)], "augmented": Augmented(),
    "a loader of augmented": DataLoader(Augmented(), 4, shuffle=True), "an example without a label": (X, None),
    "a broken dataset": Broken(), "a loader of one": DataLoader(Broken(), 7),
    "a table": pd.DataFrame({"x": [1], "y": [2]}),
    "shapes": Uneven(), "a loader of shapes": DataLoader(Uneven(), 7),
    "two examples": [{"image": X[0], "img": X[0], "label": 1}] * 9,
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_data_is_one_line(case):
    with pytest.raises(PlaitError) as caught:
        load_images(NONE[case])
    assert str(caught.value).startswith("data")
    assert "\n" not in str(caught.value)


def images(folder, modes=("RGB",), size=(8, 6), counts=(9, 7)):
    draw = np.random.default_rng(1)
    for number, name in enumerate(("dog", "ant")):
        (folder / name).mkdir(parents=True)
        for at in range(counts[number]):
            pixels = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
            pixels.convert(modes[at % len(modes)]).save(folder / name / f"{at}.png")


def test_a_folder_of_a_folder_a_class_is_data(tmp_path):
    images(tmp_path / "one")
    data = load_images(tmp_path / "one")
    assert (data.names, data.input, len(data.test_y)) == (("ant", "dog"), (3, 6, 8), 3)
    images(tmp_path / "two" / "train")
    images(tmp_path / "two" / "test", counts=(3, 2))
    both = load_images(tmp_path / "two")
    assert both.test_y.tolist() == [0, 0, 1, 1, 1]
    assert len(both.fit_y) + len(both.validation_y) == 16
    with Image.open(tmp_path / "two" / "test" / "ant" / "0.png") as first:
        assert np.allclose(both.preparation.apply(np.asarray(first)[None]), both.test_x[:1])


def test_grey_images_stay_grey_unless_one_has_colour(tmp_path):
    images(tmp_path / "grey", ("L",))
    images(tmp_path / "mixed", ("L", "RGBA", "P"))
    assert load_images(tmp_path / "grey", layout="no_channels").input == (1, 6, 8)
    assert load_images(tmp_path / "mixed").input == (3, 6, 8)


def test_folders_that_are_no_data_are_one_line(tmp_path):
    with pytest.raises(DataError, match="CLASS/IMAGE"):
        load_images(tmp_path)
    images(tmp_path / "x")
    Image.new("RGB", (4, 4)).save(tmp_path / "x" / "dog" / "z.png")
    with pytest.raises(DataError, match=r"z\.png: got '4 x 4 pixels'.*scale all images"):
        load_images(tmp_path / "x")
    (tmp_path / "x" / "dog" / "z.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"z\.png"):
        load_images(tmp_path / "x")
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "x" / "dog" / "z.png")
    with pytest.raises(DataError, match="8 bits a channel"):
        load_images(tmp_path / "x")


def tables(folder, kind):
    """Write 20 and 9 images as Hugging Face does."""
    arrow = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    from pyarrow import ipc, parquet

    told = {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"}}
    for part, count in (("train", 20), ("test", 9)):
        rows = []
        for x in X[:count]:
            Image.fromarray(np.moveaxis(x, 0, -1)).save(folder / "x.png")
            rows.append({"bytes": (folder / "x.png").read_bytes(), "path": None})
        table = arrow.table({"image": rows, "label": Y[:count]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": told}})})
        if kind == "parquet":
            (folder / "data").mkdir(exist_ok=True)
            parquet.write_table(table, folder / "data" / f"{part}-00000-of-00001.parquet")
        else:
            (folder / part).mkdir()
            place = str(folder / part / "data-00000-of-00001.arrow")
            with arrow.OSFile(place, "wb") as file, ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    return load_images(folder)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_folders_of_hugging_face_tables_are_data(kind, tmp_path):
    data = tables(tmp_path, kind)
    assert data.names == ("ant", "bee", "cat")
    assert data.digest == load_images((X[:20], Y[:20], X[:9], Y[:9])).digest


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("data/train-00000-of-00002.parquet", "train"), ("data/extra-00000-of-00001-abc.parquet", "extra"),
        ("test/data-00000-of-00001.arrow", "test"), ("extra/data-00000-of-00001.arrow", "extra"),
        ("data-00000-of-00001.arrow", "train"), ("validation.parquet", "validation"), ("x.parquet", "train"),
        ("default/test/0000.parquet", "test"),
    ],
)  # fmt: skip
def test_tables_belong_to_parts(name, part, tmp_path):
    assert _part_name(tmp_path / name, tmp_path) == part


def test_parts_on_two_scales_are_refused():
    rows = np.random.default_rng(0).random((20, 8, 8), np.float32)
    with pytest.raises(DataError, match=r"x_test: got 'numbers up to 25\d.*the scale of x_train"):
        load_images((rows, Y[:20], 255 * rows, Y[:20]))


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SpecError, match=r"no package pyarrow.*pip install 'plait\[arrow\]'"):
        load_images(tmp_path)


CODE = """
import torch
from beside import CLASSES
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, CLASSES))
def make():
    return net
class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(192, CLASSES))
def examples():
    x = torch.arange(60 * 192).reshape(60, 3, 8, 8) % 251
    return x.to(torch.uint8), torch.arange(60) % 3
def broken():
    raise RuntimeError("no weights\\nhere")
number = 3
"""


@pytest.mark.parametrize("name", ["net", "make", "Net"])
def test_a_file_names_the_teacher_and_the_data(name, tmp_path):
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")
    (tmp_path / "net.py").write_text(CODE)
    run = Compress(f"module:{tmp_path / 'net.py'}:{name}", f"module:{tmp_path / 'net.py'}:examples")
    assert (run.data.input, run.data.normalisation) == ((3, 8, 8), {"mean": [0.0], "std": [1.0]})
    assert run.teacher.params == 192 * 3 + 3
    assert run.spec.teacher.endswith(f":{name}"), "a resumed run reads the file again"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("module:net.py", "NAME"),
        ("module:none.py:net", "no such file"),
        ("module:net.py:nest", "net?"),
        ("module:net.py:broken", "RuntimeError: no weights"),
        ("module:net.py:number", "got 'int', expected a torch.nn.Module"),
        ("module:bad.py:net", "SyntaxError"),
        ("weights.pt", "no file that is unpickled"),
        (".", "a config.json in it"),
        ("resnet9", "FOLDER of an exported network"),
    ],
)
def test_what_is_no_teacher_is_one_line(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("CLASSES = 3\n")
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "bad.py").write_text("net = (\n")
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(SpecError) as caught:
        Compress(text).teacher
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["teacher", "data"])
def test_a_run_of_python_objects_is_continued_in_python(field):
    with pytest.raises(SpecError, match="go on in Python"):
        Compress(**{field: "inline"}).teacher


def test_a_teacher_that_is_no_module_is_one_line():
    with pytest.raises(SpecError, match=r"compress\.teacher: got 'dict'"):
        Compress({"state": 1})
