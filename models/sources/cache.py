"""Models that are here: looked up, pulled once under a lock, listed, removed.

A pull builds its model in a temporary folder and renames it into place as its last act, so whatever interrupts it
(a wrong hash, a full disk, a kill) leaves the cache as it was; what it left behind goes with the next pull.
"""

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from pathlib import Path

from ...errors import OfflineError, SourceError, StoreError
from ...records import JSON, digest
from .source import Source, parse_source

Progress = Callable[[str, int, int], None]
"""Called with a stage, what of it is done, and of how much (0: not known)."""

MANIFEST = "plait.json"

STAMP = "checked.json"
"""Beside the manifest of a kept model: which checks it passed, and which file of the user's it was made of."""

CHECKS = 1
"""Raise it when `describe` or the reading of GGUF refuses more: models that are kept are then looked at again."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is on this machine.

    Attributes:
        name: As the user wrote the source, or the alias.
        folder: Of config.json, safetensors and tokenizer files.
        model_hash: SHA-256 over config and weights: equal hashes mean equal answers.
        layers: Decoder layers.
        parameters: Numbers in the weights.
        dtype: Their format on disk.
        bytes: Of the weights on disk.
        weights: SHA-256 of each weights file.
    """

    name: str
    folder: Path
    model_hash: str
    layers: int
    parameters: int
    dtype: str
    bytes: int
    weights: dict[str, str]

    def to_json(self) -> JSON:
        """Return plain JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def home() -> Path:
    """Return Plait's cache: $PLAIT_HOME, else $XDG_CACHE_HOME/plait, else ~/.cache/plait."""
    if given := os.environ.get("PLAIT_HOME"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plait"


def ensure(source: str, *, progress: Progress | None = None) -> LocalModel:
    """Return the model that `source` names, fetching it where it is not here yet.

    Safe from many processes: one pulls, the others wait and find it.

    Raises:
        SourceError: the source is unknown, of no supported family, holds no safetensors or GGUF, its parts do not fit
            together, it has another hash, or the disk is full.
        OfflineError: it must be fetched and cannot be.
        StoreError: Plait's cache cannot be written.
    """
    where = parse_source(source)
    with one_line(source):
        found = _find(where)
        if found is not None:
            return found
        with locked(where.slug):
            return _find(where) or _pull(where, progress or (lambda stage, done, total: None))


def list_models() -> list[LocalModel]:
    """Return the models of the cache, by name."""
    models = [_load(folder) for folder in sorted(home().glob(f"models/*/{MANIFEST}"))]
    return sorted((model for model in models if model), key=lambda model: model.name)


def show_model(source: str) -> LocalModel:
    """Return what is known of a model that is here.

    Raises:
        SourceError: it is not here; the error says how to pull it. Or it is a folder that is refused.
    """
    with one_line(source):
        found = _find(parse_source(source))
    if found is None:
        raise SourceError(source, f"not in the cache; fetch it with: plait models pull {source}")
    return found


def remove_model(source: str) -> LocalModel:
    """Remove a model from the cache and return what it was; a user's own folder is never touched."""
    where = parse_source(source)
    kept = _load(home() / "models" / where.slug / MANIFEST)  # one that is refused today can still be removed
    model = kept or show_model(source)
    with one_line(source), locked(where.slug):
        shutil.rmtree(home() / "models" / where.slug, ignore_errors=True)
        for derived in home().glob(f"derived/{model.model_hash[:16]}-*"):
            shutil.rmtree(derived, ignore_errors=True)
    return model


@contextmanager
def one_line(source: str) -> Iterator[None]:
    """Turn what the file system says while a model is read or kept into one line.

    Raises:
        SourceError: the disk is full, or a file of the model cannot be read.
        StoreError: Plait's cache cannot be written.
    """
    from safetensors import SafetensorError

    full = f"the disk is full at {home()}: free some space and pull again"
    try:
        yield
    except SafetensorError as error:  # it writes files without Python's errors
        if "os error 28" in str(error) or "os error 122" in str(error):
            raise SourceError(source, full) from error
        raise SourceError(source, " ".join(str(error).split())[:200]) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(source, full) from error
        place, reason = str(error.filename or home()), error.strerror or str(error)
        if Path(place).absolute().is_relative_to(home().absolute()):
            raise StoreError(str(home()), f"{reason}: {place}; PLAIT_HOME says where models are kept") from error
        raise SourceError(source, f"{place}: {reason}") from error


@contextmanager
def locked(slug: str) -> Iterator[None]:
    """Hold the lock of one cache entry: one process pulls, the others wait."""
    from filelock import FileLock

    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{slug}.lock"):
        yield


@contextmanager
def building(slug: str, final: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `final` when the body ends well, and vanishes when it does not."""
    parent = home() / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{slug}.*"):  # ours alone: the caller holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{slug}.", dir=parent))
    try:
        yield folder
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(folder: Path, name: str) -> LocalModel:
    """Read config and weights of `folder` and return what they are; hashes every weights file.

    Raises:
        SourceError: the family or a switch of the config is not supported; config, weights and tokenizer do not fit
            together; a file is absent or damaged.
    """
    from ..loading import FORMATS, check_weights, load_tokenizer, read_config, weight_files

    parsed, tensors = check_weights(folder, name)
    load_tokenizer(folder, parsed.vocab_size, name)
    config = read_config(folder, name)
    if parsed.tie_word_embeddings and any(key.endswith("embed_tokens.weight") for key in tensors):
        tensors.pop("lm_head.weight", None)  # the embedding stored once more
    dtypes = {tensor.dtype for tensor in tensors.values()}
    dtype = FORMATS.get(next(iter(dtypes), ""), "mixed") if len(dtypes) == 1 else "mixed"
    weights = {file.name: sha256(file) for file in weight_files(folder, name)}
    return LocalModel(
        name=name,
        folder=folder,
        model_hash=digest([{key: config[key] for key in sorted(config) if key not in _VOLATILE}, weights]),
        layers=parsed.num_hidden_layers,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dtype=dtype,
        bytes=sum((folder / file).stat().st_size for file in weights),
        weights=weights,
    )


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def text_hash(folder: Path) -> str:
    """Return a hash over the files of `folder` that decide tokens and where answers stop, which no weights tell.

    Tools write their version and the model's place into some of them: those entries do not count.
    """
    files = sorted({file for pattern in _TEXT_FILES for file in folder.glob(pattern)})
    return digest({file.name: _content(file) for file in files})


_TEXT_FILES = ("*token*", "vocab*", "merges.txt", "*.model", "chat_template*", "generation_config.json")


def _content(file: Path) -> JSON:
    if not file.name.endswith("_config.json"):
        return sha256(file)
    from ..loading import json_object

    entries = json_object(file, str(file.parent))
    return {name: value for name, value in entries.items() if name not in (*_VOLATILE, "name_or_path")}


_VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")
"""Config entries that do not change an answer."""


def _find(source: Source) -> LocalModel | None:
    """Return the model if it is here; a user's folder is described once and again when its files change."""
    if source.kind != "folder":
        kept = home() / "models" / source.slug
        found = _load(kept / MANIFEST)
        return found if found is not None and _still_holds(source, kept, found) else None
    folder = Path(source.place)
    files = [(file.name, *_signature(file)) for file in sorted(folder.glob("*")) if file.is_file()]
    manifest = home() / "folders" / f"{digest([source.place, files, CHECKS])}.json"
    found = _load(manifest)
    if found is None:
        found = describe(folder, source.text)
        write_manifest(manifest, found)
    return replace(found, name=source.text)


def _signature(file: Path) -> list[int]:
    """Return what changes when a file does: its size and times; that of its change cannot be set back."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _still_holds(source: Source, kept: Path, model: LocalModel) -> bool:
    """Return whether a kept model was checked as models are today, and is of the user's file as it is now.

    A model that an older version kept may hold random numbers where its file held none: weights that are here are
    compared again, and what was converted is converted again, unless its source is known by hash.
    """
    if source.sha256:
        return True
    try:
        stamp = json.loads((kept / STAMP).read_text())
    except (OSError, ValueError):
        stamp = {}
    if stamp.get("checks") != CHECKS:
        if source.kind != "hf":
            return False
        describe(model.folder, source.text)
        _stamp(kept, source)
        return True
    file = Path(source.place)
    if source.kind != "gguf" or not file.is_file() or stamp.get("signature") == _signature(file):
        return True  # of a file that is gone, what was made of it is still what it was
    if stamp.get("sha256") != sha256(file):
        return False
    _stamp(kept, source)
    return True


def _stamp(folder: Path, source: Source) -> None:
    """Write which checks a kept model passed, and of which bytes of the user's file it was made."""
    about: dict[str, JSON] = {"checks": CHECKS}
    if source.kind == "gguf":
        file = Path(source.place)
        about |= {"signature": _signature(file), "sha256": sha256(file)}
    draft = folder / f"{STAMP}.{os.getpid()}"
    draft.write_text(json.dumps(about))
    os.replace(draft, folder / STAMP)


def _load(manifest: Path) -> LocalModel | None:
    try:
        values = json.loads(manifest.read_text())
        model = LocalModel(**{**values, "folder": Path(values["folder"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent, or of another version: pulled again
    return model if (model.folder / "config.json").exists() else None


def write_manifest(manifest: Path, model: LocalModel) -> None:
    """Write what a model is, whole or not at all."""
    manifest.parent.mkdir(parents=True, exist_ok=True)
    draft = manifest.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(model.to_json(), indent=1))
    os.replace(draft, manifest)


def _pull(source: Source, progress: Progress) -> LocalModel:
    from .fetch import fetch

    final = home() / "models" / source.slug
    try:
        with building(source.slug, final) as draft:
            before = _signature(Path(source.place)) if source.kind == "gguf" and Path(source.place).is_file() else None
            folder = fetch(source, draft, progress)
            progress("hash", 0, 0)
            model = describe(folder, source.text)
            if folder == draft:
                model = replace(model, folder=final)
            write_manifest(draft / MANIFEST, model)
            _stamp(draft, source)
            if before is not None and before != _signature(Path(source.place)):
                raise SourceError(source.text, "the file changed while it was read; pull again")
    except OfflineError:
        raise
    except SourceError:
        shutil.rmtree(final, ignore_errors=True)  # of another file, or of an older version: it is believed no more
        raise
    progress("done", 1, 1)
    return model
