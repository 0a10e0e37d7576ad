"""The teacher of a compression run and its students' files: trained or loaded, kept, exported, timed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...architectures import Architecture
from ...errors import SpecError
from ...intervals import share_interval
from ...models.distill import (
    SoftTargets,
    Training,
    check_fits,
    check_teacher,
    measure,
    one_thread,
    soft_targets,
    train_teacher,
)
from ...models.export import export, load_export
from ...models.images import Array, ImageData, array_digest, image_data
from ...models.latency import LatencyTable, milliseconds
from ...models.network import Network, build, state_of
from ...models.students import StudentSetup, StudentTrainer
from ...models.tracing import UnreadableModel, from_module
from ...models.zoo import NAMES, named
from ...records import EventSink, digest, seed_of
from ...user_objects import FORM
from .compress_data import INLINE, as_trained, check_labels, check_preparation, is_as_trained, is_export
from .compress_phases import final_training, student_seed, training_of
from .compress_records import Student
from .compress_spec import CompressSpec
from .compress_target import Target

TEACHING = {"learning_rate": 2e-3, "loss": "hard", "decay": "cosine", "init": "random"}
"""How a teacher is trained here, where the spec's training does not say: on labels, to a rate of 0."""


def teacher_architecture(teacher: Any, data: ImageData) -> Architecture:
    """Return what a teacher is: a name's architecture for these examples, an exported network's, a module's.

    Raises:
        SpecError: there is no such name, or the network is not for these examples.
    """
    if not isinstance(teacher, str):
        return _read(teacher, data).arch
    if _is_name(teacher):
        return named(_known(teacher), data.input, data.classes)
    check_labels(teacher, data)
    return load_export(Path(teacher)).arch


def as_features(module: Any, data: ImageData, spec: CompressSpec) -> ImageData:
    """Return rows of numbers without an axis of channels, where a module takes them so and in no other way."""
    how = data.preparation
    if how is None or len(how.shape) != 1 or _reads(module, data):
        return data
    how = replace(how, layout="features")
    if spec.normalisation == "data":  # of each feature, in place of the one channel
        how = how.normalised_by(_rows(data, data.fit_x), "data")
    parts = [how.normalise(_rows(data, x)) for x in (data.fit_x, data.validation_x, data.test_x)]
    ys = (data.fit_y, data.validation_y, data.test_y)
    fit, validation, test = zip(parts, ys, strict=True)
    rows = replace(image_data(fit, validation, test, data.classes), preparation=how, names=data.names)
    return rows if _reads(module, rows) else data


def _rows(data: ImageData, x: Array) -> Array:
    """Return examples [count, 1, length] as [count, length], before they were normalised."""
    assert data.preparation is not None
    return data.preparation.undone(x)[:, 0]


def _reads(module: Any, data: ImageData) -> bool:
    try:
        _read(module, data)
    except UnreadableModel:
        return False
    return True


def module_of(teacher: Any) -> Any:
    """Return what was handed over as a teacher, a `torch.nn.Module`.

    Raises:
        SpecError: it is none.
    """
    from torch import nn

    if not isinstance(teacher, nn.Module):
        raise SpecError("compress.teacher", type(teacher).__name__, "a torch.nn.Module, a name or a folder")
    return teacher


def _known(teacher: str) -> str:
    """Return a network's name; raises SpecError where it is none, and says what a teacher may be."""
    place = Path(teacher)
    may_be = f"{', '.join(NAMES)}; FOLDER of an exported network; or {FORM}"
    if teacher.partition(":")[0] in NAMES:
        return teacher
    if teacher == INLINE:
        expected = "the module that it was started with: go on in Python, with the same arguments and out="
        raise SpecError("compress.teacher", "a run that was started in Python", expected)
    if place.is_dir():
        inside = next((one for one in ("student", "teacher") if is_export(str(place / one))), None)
        expected = f"an exported network: {place / inside}" if inside else "a config.json in it, as exports have"
        raise SpecError("compress.teacher", teacher, expected)
    if place.is_file():
        expected = f"no file that is unpickled; name code that loads it: {FORM}"
        raise SpecError("compress.teacher", teacher, expected)
    raise SpecError("compress.teacher", teacher, f"one of {may_be}")


def settled_teacher(
    folder: Path, teacher: Any, data: ImageData, spec: CompressSpec, events: EventSink
) -> tuple[Network, dict[str, Any]]:
    """Return the teacher with its weights, and its figures; a run folder that has one already keeps it.

    Raises:
        SpecError: it is no better than naming the commonest class.
    """
    place = folder / "teacher"
    if (place / "config.json").exists():
        network = load_export(place)
    elif not isinstance(teacher, str):
        network = _read(teacher, data)
    elif _is_name(teacher):
        events("phase", {"phase": "teacher", "strands": 1, "total": spec.teacher_epochs})
        network = _trained(teacher, data, spec)
    else:
        network = load_export(Path(teacher))
    check_fits(network.arch, data)
    sure = spec.accept_lower or (isinstance(teacher, str) and is_export(teacher) and is_as_trained(teacher, data))
    shares = {} if _is_name(teacher) else check_preparation(network, data, accept_lower=sure)
    validated = check_teacher(network, data)
    if not (place / "config.json").exists():
        export(network, place, about(spec, data))
    facts = _facts(network, data, spec, validated.accuracy, trained=_is_name(teacher))
    return network, {**facts, "prepared": shares}


def predicted(folder: Path, teacher: Architecture, target: str) -> Callable[[Architecture], float] | None:
    """Return the device's latency table as a cost, where the target is in milliseconds; kept in the run folder."""
    if Target.parse(target).measure != "ms":
        return None
    place = folder / "latency.json"
    table = LatencyTable.load(place) if place.exists() else LatencyTable.measured(teacher)
    if not place.exists():
        table.save(place)
    return table.predict


def kept_student(
    folder: Path, data: ImageData, spec: CompressSpec, teacher: Network, chosen: Mapping[str, Any] | None
) -> None:
    """Export the chosen student to `student/`: its weights come from its checkpoint, or are trained again, the same."""
    if chosen is None:
        return
    network = _student(folder, data, spec, teacher, chosen)
    figures = {name: chosen[name] for name in ("params", "macs", "validation", "test")}
    export(network, folder / "student", {**about(spec, data), **figures})


def unfinished(
    folder: Path, data: ImageData, spec: CompressSpec, teacher: Network, students: Sequence[Student]
) -> dict[str, Any] | None:
    """Return the best student of a run that ended before any was trained to the end, measured on the test examples.

    Args:
        folder: Of the run.
        data: Its examples.
        spec: Of the run.
        teacher: With its weights.
        students: Each search's choice, within the limit; accuracies of different rungs do not compare, so that those
            trained longest come first.
    """
    mine = [student for student in students if spec.take in (None, student.method)]
    best = max(mine, key=lambda one: (one.epochs, one.accuracy, -one.cost), default=None)
    if best is None:
        return None
    searched = f"{len(mine)} of {spec.seeds * len([name for name in spec.methods if name != 'lottery'])} searches"
    chosen: dict[str, Any] = {
        "why": "the best so far on validation examples, among those trained longest: the run ended before any final "
        f"training, after {searched} had a student within the limit", "finished": False, "epochs": best.epochs,
        "method": best.method, "seed": best.seed, "arch": best.arch, "params": best.params, "macs": best.macs,
        "cost": best.cost, "validation": best.accuracy,
    }  # fmt: skip
    tested = measure(_student(folder, data, spec, teacher, chosen), *data.test())
    return {**chosen, "test": share_interval(tested.correct, tested.n)}


def _student(folder: Path, data: ImageData, spec: CompressSpec, teacher: Network, chosen: Mapping[str, Any]) -> Network:
    """Return a chosen student: after its final training, or as far as its search came."""
    finished = chosen.get("finished", True)
    training = (final_training if finished else training_of)(spec, chosen["method"])
    rung = training.schedule.index(chosen["epochs"])
    trainer = StudentTrainer(student_setup(data, spec, training, teacher), folder / "checkpoints")
    return trainer.network(f"{chosen['arch']}@{rung}", student_seed(spec, chosen["seed"]))


def about(spec: CompressSpec, data: ImageData) -> dict[str, Any]:
    """Return what an export says of where its network comes from, and of what it takes."""
    how, names = data.preparation, data.names
    return {
        "teacher": spec.teacher, "data": spec.data,
        "preparation": None if how is None else how.to_json(), "labels": None if names is None else list(names),
    }  # fmt: skip


def student_setup(data: ImageData, spec: CompressSpec, training: Training, teacher: Network) -> StudentSetup:
    """Return what students learn from: the teacher or those in its place, and the assistants beside.

    Raises:
        SpecError: a folder holds no network, or one that is not for these examples or classes.
    """
    instead = [_said_by(text, data, "teachers") for text in spec.teachers]
    beside = [_said_by(text, data, "assistants") for text in spec.assistants]
    if beside and not instead:
        instead = [soft_targets(teacher, data.fit_x)]
    return StudentSetup.of(data, training, teacher, targets=[*instead, *beside] or None)


def _said_by(text: str, data: ImageData, field: str) -> SoftTargets:
    """Return what an exported network says of the fit examples, prepared as it was trained."""
    folder, hash_, listed = text.partition("#")
    if hash_ and not all(part.strip().isdigit() for part in listed.split(",")):
        raise SpecError(f"compress.{field}", text, "FOLDER, or FOLDER#0,3: the classes that its outputs stand for")
    network = load_export(Path(folder))
    classes = tuple(int(part) for part in listed.split(",")) if hash_ else tuple(range(data.classes))
    if network.arch.input != data.input or network.arch.shapes[-1] != (len(classes),):
        found = f"{network.arch.input} to {network.arch.shapes[-1]}"
        raise SpecError(f"compress.{field}: {folder}", found, f"a network from {data.input} to {len(classes)} classes")
    if not hash_:
        check_labels(folder, data)
    its = as_trained(folder, data)
    said = soft_targets(network, its.fit_x, classes if hash_ else None)
    return said if its is data else replace(said, source=digest([said.source, its.digest]))


def latencies(nets: Sequence[Architecture]) -> dict[str, float]:
    """Return measured milliseconds for one example on one thread, by canonical text; nothing else should run."""
    with one_thread():
        return {
            net.key: round(milliseconds(build(net, 0), batch=1), 5) for net in {net.key: net for net in nets}.values()
        }


def _read(module: Any, data: ImageData) -> Network:
    import torch

    return from_module(module, torch.from_numpy(data.fit_x[:1].copy()))


def _trained(teacher: str, data: ImageData, spec: CompressSpec) -> Network:
    training = Training(**{**spec.training.model_dump(), **TEACHING, "schedule": (spec.teacher_epochs,)})
    arch = named(teacher, data.input, data.classes)
    network, _ = train_teacher(arch, data, training, seed_of(spec.seed, "teacher") >> 1)
    return network


def _is_name(teacher: Any) -> bool:
    return isinstance(teacher, str) and not is_export(teacher)


def _facts(
    network: Network, data: ImageData, spec: CompressSpec, validation: float, *, trained: bool
) -> dict[str, Any]:
    tested = measure(network, *data.test())
    counts = [int((data.test_y == label).sum()) for label in range(data.classes)]
    state = state_of(network)
    return {
        "arch": network.arch.key, "params": network.arch.params, "macs": network.arch.macs,
        "validation": validation, "test": share_interval(tested.correct, tested.n), "majority": max(counts) / tested.n,
        "epochs": spec.teacher_epochs if trained else 0,
        "hash": array_digest(*(state[name] for name in sorted(state)))[:16],
    }  # fmt: skip
