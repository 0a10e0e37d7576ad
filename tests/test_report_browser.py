"""Reports in a real headless browser, at a desktop's and a phone's width: they draw, and the console is silent."""

import shutil
import subprocess

import pytest
from plait import CoLa
from plait.orchestrator.report.team_page import render
from plait.tests.team_runs import TIMING, Play

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.slow
SIZES = pytest.mark.parametrize(("width", "height"), [(1280, 2400), (390, 3200)])
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0"]  # fmt: skip


@pytest.fixture(scope="module")
def report(ray_cluster, tiny_folder, tmp_path_factory):
    run = CoLa(str(tiny_folder), limit=8, simulations=12, menu=2).run(tmp_path_factory.mktemp("report") / "run")
    return run.folder / "report.html"


@pytest.fixture(scope="module")
def team_report(tmp_path_factory):
    file = tmp_path_factory.mktemp("team") / "report.html"
    controls = ("single", "best-of-n", "random", "static", "oracle")
    page = render(Play(spec={"controls": controls, "steps": 2}, failing=0.03).result(), TIMING)
    file.write_text(page.replace("<details", "<details open"), encoding="utf-8")
    return file


@pytest.mark.ray
@pytest.mark.weights
@SIZES
def test_report_draws_without_a_console_error(report, width, height, tmp_path):
    _draws(report, width, height, tmp_path)


@SIZES
def test_team_report_draws_with_every_edit_open(team_report, width, height, tmp_path):
    _draws(team_report, width, height, tmp_path)


def _draws(file, width, height, tmp_path):
    import matplotlib.image as images

    assert BROWSER, "install chromium: .ci/full does"
    shot = tmp_path / "shot.png"
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}/profile", f"--window-size={width},{height}"]
    done = subprocess.run(
        [*command, f"--screenshot={shot}", file.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    picture = images.imread(shot)
    assert picture.shape[1] == width
    colours = {tuple(pixel) for pixel in (picture[::7, ::7, :3].reshape(-1, 3) * 255).astype(int)}
    assert len(colours) > 30, "an empty page has few colours"
