"""Models that are here: looked up, pulled once under a lock, listed, removed.

A pull builds its model in a temporary folder and renames it into place as its last act, so whatever interrupts it
(a wrong hash, a full disk, a kill) leaves the cache as it was; what it left behind goes with the next pull.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from pathlib import Path

from ...errors import SourceError
from ...records import JSON, digest
from .source import Source, parse_source

Progress = Callable[[str, int, int], None]
"""Called with a stage, what of it is done, and of how much (0: not known)."""

MANIFEST = "plait.json"


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
        SourceError: the source is unknown, holds no safetensors or GGUF, has another hash, or the disk is full.
        OfflineError: it must be fetched and cannot be.
    """
    where = parse_source(source)
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
        SourceError: it is not here; the error says how to pull it.
    """
    found = _find(parse_source(source))
    if found is None:
        raise SourceError(source, f"not in the cache; fetch it with: plait models pull {source}")
    return found


def remove_model(source: str) -> LocalModel:
    """Remove a model from the cache and return what it was; a user's own folder is never touched."""
    model, where = show_model(source), parse_source(source)
    with locked(where.slug):
        shutil.rmtree(home() / "models" / where.slug, ignore_errors=True)
        for derived in home().glob(f"derived/{model.model_hash[:16]}-*"):
            shutil.rmtree(derived, ignore_errors=True)
    return model


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
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(slug, f"the disk is full at {home()}: free some space and pull again") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(folder: Path, name: str) -> LocalModel:
    """Read config and weights of `folder` and return what they are; hashes every weights file.

    Raises:
        SourceError: there is no config, no safetensors, or a weights file is cut short.
    """
    from safetensors import SafetensorError, safe_open

    config = _config(folder, name)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        found = f"only pickle files ({', '.join(pickles[:3])}), which can run code" if pickles else "no weights"
        raise SourceError(name, f"{folder} holds {found}; expected *.safetensors or a GGUF file")
    parameters, dtypes = 0, set()
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  not a mapping
                    part = tensors.get_slice(key)
                    size = 1
                    for length in part.get_shape():
                        size *= length
                    parameters += size
                    dtypes.add(part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise SourceError(name, f"{file.name} is damaged or cut short ({error}); fetch it again") from error
    weights = {file.name: sha256(file) for file in files}
    text = config.get("text_config", config)
    return LocalModel(
        name=name,
        folder=folder,
        model_hash=digest([{key: config[key] for key in sorted(config) if key not in _VOLATILE}, weights]),
        layers=int(text.get("num_hidden_layers", 0)),
        parameters=parameters,
        dtype={"F32": "float32", "BF16": "bfloat16", "F16": "float16"}.get("".join(dtypes), "mixed"),
        bytes=sum(file.stat().st_size for file in files),
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
    entries = json.loads(file.read_text())
    return {name: value for name, value in entries.items() if name not in (*_VOLATILE, "name_or_path")}


_VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")
"""Config entries that do not change an answer."""


def _config(folder: Path, name: str) -> dict[str, JSON]:
    try:
        config: dict[str, JSON] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SourceError(name, f"{folder} holds no readable config.json") from error
    return config


def _find(source: Source) -> LocalModel | None:
    """Return the model if it is here; a user's folder is described once and again when its files change."""
    if source.kind != "folder":
        return _load(home() / "models" / source.slug / MANIFEST)
    folder = Path(source.place)
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(folder.glob("*.*"))]
    manifest = home() / "folders" / f"{digest([source.place, files])}.json"
    found = _load(manifest)
    if found is None:
        found = describe(folder, source.text)
        write_manifest(manifest, found)
    return replace(found, name=source.text)


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
    with building(source.slug, final) as draft:
        folder = fetch(source, draft, progress)
        progress("hash", 0, 0)
        model = describe(folder, source.text)
        if folder == draft:
            model = replace(model, folder=final)
        write_manifest(draft / MANIFEST, model)
    progress("done", 1, 1)
    return model
