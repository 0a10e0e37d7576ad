"""Hosts that refuse namespaces, for real: in a user namespace of the test's own that allows no further ones."""

import json
import os
import shutil
import stat
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml
from plait.tests.fault_server import FaultServer, text

INSIDE = (
    '[ "$(readlink /proc/self/ns/user)" != "$0" ] && echo 0 >/proc/sys/user/max_user_namespaces && '
    'exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all --no-new-privs "$@"'
)
"""The setting is that of the namespace alone that the shell is in; it stays as it is where there is none."""
WHO = {"a user": ("--map-user=1500", "--map-group=1500"), "root without rights": ("--map-root-user",)}
FREE = {"OPENAI_API_KEY": "none", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def refusing(who: str) -> list[str]:
    """Return what starts a command on a host that refuses namespaces: this one, where it does."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("no unshare and setpriv commands")
    start = ["unshare", "--user", *WHO[who], "--keep-caps", "sh", "-c", INSIDE, os.readlink("/proc/self/ns/user")]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode == 0:
        return start
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this host's user namespaces have no limit of their own")
    return []


class Host:
    """A host that refuses namespaces, and a temporary folder shared by all its users."""

    def __init__(self, place: Path, who: str) -> None:
        self.place, self.shared, self._start = place, place / "shared", refusing(who)
        self.shared.mkdir()
        self.shared.chmod(0o1777)
        for name in ("sibling", "plait-sandbox-of-another"):
            (self.shared / name).mkdir()
            (self.shared / name / "kept").write_text("kept")
            (self.shared / name).chmod(0o750)
        self._before = self._looked()

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python there, and look whether what others have in the shared folder is as it was."""
        environment = {
            **FREE, "TMPDIR": str(self.shared), "HOME": str(self.place), "PLAIT_HOME": str(self.place / "home"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }  # fmt: skip
        ran = subprocess.run(
            [*self._start, sys.executable, *arguments], cwd=self.place, env=environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert self._looked() == self._before, ran
        return ran

    def team(self, kind: str, url: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a team over two items of a kind; `url` is where its model is served."""
        schema = {"kind": kind}
        agent = {"name": "solver", "output": schema}
        layer = {"name": "solve", "task": "Answer.", "blocks": [{"name": "one", "agents": [agent]}]}
        (self.place / "team.yaml").write_text(yaml.safe_dump({"layers": [layer], "answer": schema}))
        asked = {"gold": 42} if kind == "number" else {"entry_point": "f", "tests": ["assert f(1) == 2"]}
        rows = [{"question": f"Case {n}?", "kind": kind, **asked} for n in range(2)]
        (self.place / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.python(
            "-m", "plait.orchestrator.cli", "team", "run", "team.yaml", "--data", "items.jsonl", "--model",
            f"openai:m@{url}", "--out", "run", "--json", "--quiet", *more,
        )  # fmt: skip

    def answers(self) -> list[float]:
        """Return the scores of the last run."""
        return [json.loads(line)["score"] for line in (self.place / "run" / "answers.jsonl").read_text().splitlines()]

    def _looked(self) -> list[tuple[str, int, int]]:
        kept = (
            self.shared,
            *sorted(self.shared.glob("sibling/**")),
            *sorted(self.shared.glob("plait-sandbox-of-*/**")),
        )
        return [(str(each), stat.S_IMODE(each.stat().st_mode), each.stat().st_ino) for each in kept]


@pytest.fixture(params=WHO)
def host(tmp_path, request):
    return Host(tmp_path, request.param)


def test_the_host_says_that_it_refuses(host):
    ran = host.python("-c", "import json\nfrom plait.agents.sandbox import offered\nprint(json.dumps(offered()))")
    assert ran.returncode == 0, ran
    offered = json.loads(ran.stdout)
    assert (offered["level"], offered["namespaces"], offered["view"]) == ("none", False, False)
    assert offered["problem"]
    assert offered["no_view"]


def test_a_team_of_numbers_runs(host):
    with FaultServer(lambda index, body: text("42"), keep=False) as server:
        ran = host.team("number", server.url)
    assert ran.returncode == 0, ran
    assert host.answers() == [1, 1]


def test_a_team_of_programs_is_refused_in_one_line_and_runs_where_it_is_allowed(host):
    calls = []

    def reply(index, body):
        calls.append(index)
        removes = "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)\n"
        return text(f"```python\n{removes}def f(x):\n    return x + 1\n```")

    with FaultServer(reply, keep=False) as server:
        ran = host.team("code", server.url)
        assert (ran.returncode, calls) == (2, []), ran
        (line,) = ran.stderr.splitlines()
        assert "run.allow_network=true" in line
        assert "namespaces" in line
        ran = host.team("code", server.url, "--set", "run.allow_network=true")
    assert ran.returncode == 0, ran
    assert host.answers() == [1, 1]
    timing = json.loads((host.place / "run" / "timing.json").read_text())
    assert timing["sandbox"].startswith("none: programs reach the network")
    assert timing["sandbox"] in unescape((host.place / "run" / "report.html").read_text())


HOSTILE = (
    "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)",
    "import os\nos.chmod('..', 0o700)\nos.chmod('.', 0)",
    "import os\nhere = os.getcwd()\nos.rename(here, here + '-moved')\nos.symlink('../..', here)",
)


@pytest.mark.parametrize("program", HOSTILE)
def test_nothing_is_touched_but_the_programs_own_folder(host, program):
    code = (
        "import asyncio, sys\nfrom plait.agents.sandbox import Sandbox\n"
        "print(asyncio.run(Sandbox(allow_network=True).run(sys.argv[1])).reason or 'ran')"
    )
    ran = host.python("-c", code, program)
    assert ran.stdout in {"ran\n", "Exit\n"}, ran
    assert {path.name for path in host.shared.iterdir()} == {"sibling", "plait-sandbox-of-another"}
