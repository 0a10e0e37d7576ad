"""The teacher of a compression run and its students' files: trained or loaded, kept, exported, timed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...architectures import Architecture
from ...errors import SpecError
from ...intervals import share_interval
from ...models.distill import (
    SoftTargets,
    Training,
    check_teacher,
    measure,
    one_thread,
    soft_targets,
    train_teacher,
)
from ...models.export import export, load_export
from ...models.images import ImageData, array_digest
from ...models.latency import LatencyTable, milliseconds
from ...models.network import Network, build, state_of
from ...models.students import StudentSetup, StudentTrainer
from ...models.tracing import from_module
from ...models.zoo import named
from ...records import EventSink, seed_of
from .compress_phases import final_training, student_seed
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
        return named(teacher, data.input, data.classes)
    return load_export(Path(teacher)).arch


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
    validated = check_teacher(network, data)
    if not (place / "config.json").exists():
        export(network, place, {"teacher": spec.teacher, "data": spec.data, "normalisation": data.normalisation})
    return network, _facts(network, data, spec, validated.accuracy, trained=_is_name(teacher))


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
    setup = student_setup(data, spec, final_training(spec, chosen["method"]), teacher)
    trainer = StudentTrainer(setup, folder / "checkpoints")
    network = trainer.network(f"{chosen['arch']}@0", student_seed(spec, chosen["seed"]))
    figures = {name: chosen[name] for name in ("params", "macs", "validation", "test")}
    about = {"teacher": spec.teacher, "data": spec.data, "normalisation": data.normalisation}
    export(network, folder / "student", {**about, **figures})


def student_setup(data: ImageData, spec: CompressSpec, training: Training, teacher: Network) -> StudentSetup:
    """Return what students learn from: the teacher or those in its place, and the assistants beside.

    Raises:
        SpecError: a folder holds no network, or one that is not for these examples or classes.
    """
    assistants = [load_export(Path(folder)) for folder in spec.assistants]
    instead = [_said_by(text, data) for text in spec.teachers]
    return StudentSetup.of(data, training, teacher, assistants=assistants, targets=instead or None)


def _said_by(text: str, data: ImageData) -> SoftTargets:
    folder, hash_, listed = text.partition("#")
    if hash_ and not all(part.strip().isdigit() for part in listed.split(",")):
        raise SpecError("compress.teachers", text, "FOLDER, or FOLDER#0,3: the classes that its outputs stand for")
    network = load_export(Path(folder))
    classes = tuple(int(part) for part in listed.split(",")) if hash_ else tuple(range(data.classes))
    if network.arch.input != data.input or network.arch.shapes[-1] != (len(classes),):
        found = f"{network.arch.input} to {network.arch.shapes[-1]}"
        raise SpecError(f"compress.teachers: {folder}", found, f"a network from {data.input} to {len(classes)} classes")
    return soft_targets(network, data.fit_x, classes if hash_ else None)


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
    return isinstance(teacher, str) and not (Path(teacher) / "config.json").exists()


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
