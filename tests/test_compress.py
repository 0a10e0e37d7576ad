"""plait compress end to end on real digits and a real cluster: small, but every part is the real one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from plait.architectures import Architecture
from plait.errors import PlaitError, SpecError
from plait.models.images import load_images
from plait.orchestrator.recipes.compress import Compress
from plait.orchestrator.recipes.compress_result import CompressResult

pytestmark = pytest.mark.ray

SETTINGS = {
    "teacher": "resnet8:width=4", "data": "plait:digits", "train": 400, "target": "params=0.5x", "budget": 16,
    "teacher_epochs": 8, "final_epochs": 4, "ask": 4, "lag": 8, "seeds": 2,
    "rivals": ("random", "evolution", "uniform", "pruning", "lottery", "n2n-paper"),
    "training": {"learning_rate": 2e-3, "schedule": (1, 2, 4)},
}  # fmt: skip
SMALL = {**SETTINGS, "seeds": 1, "rivals": ("random", "n2n-paper")}


@pytest.fixture(scope="module")
def result(ray_cluster, tmp_path_factory) -> CompressResult:
    return Compress(**SETTINGS).run(tmp_path_factory.mktemp("compress") / "run", address=ray_cluster)


def test_every_method_has_a_finalist_a_seed_within_the_limit(result):
    methods = {row["method"]: row for row in result.summary["methods"]}
    assert list(methods) == ["plait", "random", "evolution", "uniform", "pruning", "n2n-paper"]
    limit = result.summary["target"]["limit"]
    ours = [final for final in result.finalists if final.student.method != "n2n-paper"]
    assert len(ours) == 2 * 5
    for final in ours:
        assert Architecture.parse(final.student.arch).params == final.student.params <= limit
        assert final.n == 359


def test_no_search_spends_more_than_its_budget(result):
    for row in result.summary["methods"]:
        assert 0 < row["epochs"] <= SETTINGS["budget"]


def test_lottery_tickets_reach_the_limits_share(result):
    assert len(result.summary["lottery"]) == 2
    for row in result.summary["lottery"]:
        assert row["density"] <= 0.5


def test_the_page_says_what_the_search_gave_and_shows_the_student(result):
    page = (result.folder / "report.html").read_text()
    assert "At equal student-epochs, plait:" in page
    assert page.count("<svg") == 3
    assert "lottery" in page.lower()
    assert not re.search(r"(src|href)=.http", page)


def test_the_student_runs_without_plait(result):
    """model.py of the export, in a process that cannot import plait, gives the outputs of our own network."""
    data = load_images("plait:digits", None, 400, 0.2, 0)
    x = torch.from_numpy(data.test_x[:5].copy())
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.modules['plait'] = None\n"
        "import json, torch, model\n"
        "net = model.load().eval()\n"
        "print(json.dumps(net(torch.tensor(json.loads(sys.argv[2]))).tolist()))\n"
    )
    command = [sys.executable, "-c", code, str(result.folder / "student"), json.dumps(x.tolist())]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        assert torch.allclose(torch.tensor(json.loads(done.stdout)), result.student().eval()(x), atol=1e-5)


def test_the_same_spec_gives_the_same_bytes_on_one_actor(result, ray_cluster, tmp_path):
    again = Compress(**SETTINGS, run={"actors": 1}).run(tmp_path / "one", address=ray_cluster)
    assert (again.folder / "result.json").read_bytes() == (result.folder / "result.json").read_bytes()
    weights = "student/model.safetensors"
    assert (again.folder / weights).read_bytes() == (result.folder / weights).read_bytes()


def test_running_again_pays_nothing(result, ray_cluster):
    again = Compress.resume(result.folder).run(result.folder, address=ray_cluster)
    assert again.timing["counts"]["paid"] == 0
    assert again.data == result.data


@pytest.mark.slow
def test_a_saved_policy_starts_another_search(result, ray_cluster, tmp_path):
    started = {
        **SMALL,
        "rivals": (),
        "budget": 6,
        "policy": str(result.folder / "policy"),
        "teacher": "resnet14:width=4",
    }
    other = Compress(**started).run(tmp_path / "run", address=ray_cluster)
    assert other.summary["methods"][0]["finalists"] == 1


def driver(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "plait.orchestrator.cli", *map(str, arguments), "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_kill_9_of_driver_and_trainer_and_resume_give_the_same_bytes(ray_cluster, tmp_path):
    calm = Compress(**SMALL).run(tmp_path / "calm", address=ray_cluster)
    spec, killed = tmp_path / "spec.json", tmp_path / "killed"
    spec.write_text(json.dumps({**json.loads((calm.folder / "spec.json").read_text()), "resolved": None}))
    values = json.loads(spec.read_text())
    del values["resolved"]
    spec.write_text(json.dumps(values))
    process = driver("run", spec, "--out", killed, "--address", ray_cluster)
    try:
        wait_for(lambda: len(list((killed / "checkpoints").glob("*"))) >= 4, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not (killed / "result.json").exists()
    process = driver("resume", killed, "--address", ray_cluster)
    there = len(list((killed / "checkpoints").glob("*")))
    wait_for(lambda: len(list((killed / "checkpoints").glob("*"))) > there, process)
    victim = trainer_pid()
    if victim is not None:  # it may have ended by itself
        os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert (killed / "result.json").read_bytes() == (calm.folder / "result.json").read_bytes()


def wait_for(holds, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 150
    while not holds():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the run got nowhere"
        time.sleep(0.05)


def trainer_pid() -> int | None:
    """Return a trainer actor that is alive, among the processes that this one's cluster started."""
    children: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(place.name))
    ours, found = [os.getpid()], []
    while ours:
        ours += (mine := children.get(ours.pop(), []))
        found += [pid for pid in mine if titles[pid].startswith("ray::EvaluatorActor")]
    return found[0] if found else None


def test_an_unreachable_target_is_told_before_anything_is_trained(tmp_path):
    with pytest.raises(SpecError, match=r"target: got 5.*the smallest network of this teacher"):
        Compress(teacher="resnet8:width=4", target="params=5").run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_knows_nothing_is_refused(ray_cluster, tmp_path):
    settings = dict(SMALL)
    data = load_images("plait:digits", None, 20, 0.5, 0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    with torch.no_grad():
        net[3].weight.zero_()
        net[3].bias.copy_(-torch.bincount(torch.from_numpy(data.validation_y), minlength=10).float())
    del settings["teacher"], settings["data"]
    with pytest.raises(PlaitError, match="teacher: validation accuracy"):
        Compress(teacher=net, data=data, **settings).run(tmp_path / "run", address=ray_cluster)


def test_a_module_of_ones_own_is_compressed(ray_cluster, tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(1, 12, 3, padding=1), torch.nn.Conv2d(12, 12, 3, padding=1)
            self.norm, self.head = torch.nn.BatchNorm2d(12), torch.nn.Linear(12, 10)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = torch.relu(self.norm(self.second(x)) + x)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    net, data = Net(), load_images("plait:digits", None, 400, 0.2, 0)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    x, y = torch.from_numpy(data.fit_x.copy()), torch.from_numpy(data.fit_y.copy())
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    settings = {**SMALL, "rivals": ("uniform",)}
    del settings["teacher"], settings["data"]
    found = Compress(teacher=net, data=data, **settings).run(tmp_path / "run", address=ray_cluster)
    assert found.architecture.params < sum(weight.numel() for weight in net.parameters())
    assert found.summary["methods"][0]["test"]["mean"] > found.summary["teacher"]["majority"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "resnet9"}, "resnet8"),
        ({"data": "missing.npz"}, "missing.npz"),
        ({"target": "weights=0.2x"}, "params=0.2x"),
        ({"profile": "plait", "rivals": ["plait"]}, "rivals other than the profile"),
        ({"teacher": "lenet"}, "too small"),
        ({"policy": "nowhere"}, "saved policies"),
    ],
)
def test_bad_input_is_one_line(changes, said, tmp_path, ray_cluster):
    with pytest.raises(PlaitError) as caught:
        Compress(**{**SMALL, **changes}).run(tmp_path / "run", address=ray_cluster)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dry_run_prices_the_plan():
    plan = Compress(**SETTINGS).plan()
    assert plan["searches"] == 2 * 7
    assert plan["search_epochs"] == 2 * 7 * 16


def test_a_language_model_goes_to_the_decoder_method(plait, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("A first paragraph of words.\n\nA second one of other words.\n" * 40)
    code, out, _ = plait("compress", "--teacher", "smollm2-135m", "--data", text, "--dry-run", "--json")
    assert (code, json.loads(out)["tokens_trained"]) == (0, 57344)


@pytest.mark.slow
def test_students_learn_from_an_assistant_and_from_specialists(result, ray_cluster, tmp_path):
    """Exported networks say what they know: the teacher in its own place, and a smaller one beside it."""
    folder = str(result.folder / "teacher")
    few = {**SMALL, "rivals": (), "budget": 8}
    plain = Compress(**few).run(tmp_path / "plain", address=ray_cluster)
    instead = Compress(**few, teachers=(f"{folder}#0,1,2,3,4,5,6,7,8,9",)).run(tmp_path / "a", address=ray_cluster)
    beside = Compress(**few, assistants=(str(result.folder / "student"),)).run(tmp_path / "b", address=ray_cluster)
    found = [{final.validation for final in run.finalists} for run in (plain, instead, beside)]
    assert found[0] == found[1], "ten classes by name are all of them"
    assert found[2] != found[0], "a second set of logits is another loss"


@pytest.mark.parametrize(
    ("given", "said"), [("#0,x", "FOLDER#0,3"), ("#0,1", "a network from"), ("/none", "no such file")]
)
def test_a_teacher_in_place_that_does_not_fit_is_one_line(given, said, result, ray_cluster, tmp_path):
    wrong = f"{result.folder / 'teacher'}{given}"
    with pytest.raises(SpecError, match=re.escape(said)):
        Compress(**{**SMALL, "teachers": (wrong,)}).run(tmp_path / "run", address=ray_cluster)
