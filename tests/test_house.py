"""The house keeps its shape: who may import whom, what an import loads, what the wheel holds, what files say."""

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("orchestrator", "agents", "models", "search")
ALLOWED = {
    "": set(),  # the root's modules: contracts, below all
    "search": {""},
    "models": {""},
    "agents": {"", "models"},
    "orchestrator": {"", "search", "models", "agents"},
}
SOURCES = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")] + list(ROOT.glob("*.py"))


def room(file: Path) -> str:
    first = file.relative_to(ROOT).parts[0]
    return first if first in FOLDERS else ""


def imports(file: Path):
    """Yield (level, module) of each import of the file; absolute ones have level 0."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, name.name) for name in node.names)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    if file == ROOT / "__init__.py":
        return  # its lazy names reach everything
    depth = len(file.relative_to(ROOT).parts)
    for level, module in imports(file):
        assert not (level == 0 and module.split(".")[0] == "plait"), f"absolute import of {module}"
        if level >= depth:
            target = module.split(".")[0]
            target = target if target in FOLDERS else ""
            assert target == room(file) or target in ALLOWED[room(file)], f"{file.name} imports {module}"


@pytest.mark.parametrize("folder", ["search", ""])
def test_what_is_pure_stays_pure(folder):
    policies = {ROOT / "search" / name for name in ("policy_nets.py", "policy_learning.py")}  # networks themselves
    for file in SOURCES:
        if room(file) == folder:
            heavy = {"ray", "transformers", "sqlalchemy"} | ({"torch"} if file not in policies else set())
            for level, module in imports(file):
                assert level or module.split(".")[0] not in heavy, file


def run(code: str, python: str = sys.executable, cwd: Path | None = None) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_importing_plait_loads_neither_torch_nor_ray():
    code = "import sys, plait; print([m for m in ('torch', 'ray', 'transformers', 'matplotlib') if m in sys.modules])"
    assert run(code) == "[]"


def test_every_public_name_resolves():
    run("import plait\nfor name in plait.__all__: getattr(plait, name)")


def test_help_loads_no_heavy_library():
    code = (
        "import sys; sys.argv = ['plait', '--help']\n"
        "from plait.orchestrator.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'transformers', 'sqlalchemy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_the_wheel_is_complete(tmp_path):
    """Built, installed outside the checkout, every module imported from there."""
    checkout = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "dist", checkout], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "site"
    # The dependencies are this environment's; the package itself comes from the wheel alone.
    venv.create(tmp_path / "venv", system_site_packages=False, with_pip=False)
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    libraries = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    python = str(tmp_path / "venv" / "bin" / "python")
    code = (
        f"import sys; sys.path[:0] = [{str(target)!r}]; sys.path.append({str(libraries)!r})\n"
        "import importlib, pkgutil, plait\n"
        f"assert plait.__file__.startswith({str(target)!r}), plait.__file__\n"
        "names = [m.name for m in pkgutil.walk_packages(plait.__path__, 'plait.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "from plait.orchestrator.data import SHIPPED, load_questions\n"
        "print(len(names), len(load_questions(SHIPPED)))"
    )
    modules, questions = run(code, python, tmp_path).split()
    assert int(modules) == len([file for file in SOURCES if file.name != "__init__.py"]) + len(
        [file for file in SOURCES if file.name == "__init__.py"]
    )
    assert int(questions) == 64
    assert (target / "plait" / "py.typed").exists()
    assert list((target / "plait" / "orchestrator" / "report" / "templates").glob("*.j2"))
    script = f"import sys; sys.path[:0] = [{str(target)!r}]; sys.path.append({str(libraries)!r})\n"
    script += "sys.argv = ['plait', '--help']\n"
    assert "demo" in run(script + "from plait.orchestrator.cli import main; main()", python, tmp_path)


def test_files_are_of_readable_length():
    long = {str(file.relative_to(ROOT)): n for file in SOURCES if (n := len(file.read_text().splitlines())) > 400}
    assert long == {}


def test_decisions_are_numbered_once():
    names = [file.name for file in (ROOT / "docs" / "decisions").glob("*.md")]
    numbers = [name[:4] for name in names]
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name) for name in names)
    assert len(numbers) == len(set(numbers)) > 0


def test_no_path_of_a_machine_is_written_down():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        file = ROOT / name
        if file.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".sh", ".j2"} and file.name != "test_house.py":
            text = file.read_text()
            assert not re.search(r"/root/|/home/\w+/|/work/|index-url|\d+\.\d+\.\d+\.\d+:\d{4}/simple", text), name
