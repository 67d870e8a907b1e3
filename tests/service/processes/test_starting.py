"""Processes that are started in one way: told, heard, ended, and never left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index.errors import StateError
from service.processes.starting import Child, server_process
from tests.waiting import until

CHILD = """
import os, signal, sys, time
from service.processes.starting import answer_parent, end_with_parent, request_of_parent
{before}
told = request_of_parent()
end_with_parent()
answer_parent({{"told": told, "pid": os.getpid()}})
time.sleep(1000)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module(before="")`: the name of a module to start that answers what it is told, and sleeps."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))  # noqa: PTH109

    def write(before="", text=CHILD):
        (tmp_path / "a_child.py").write_text(text.format(before=before))
        return "a_child"

    return write


def test_a_child_is_told_and_answers(module):
    child = Child(module(), request={"workspace": "ä", "lock": 3})

    assert child.answer() == {"told": {"workspace": "ä", "lock": 3}, "pid": child.pid}
    assert child.status is None
    assert child.end(60)
    assert child.status == -signal.SIGTERM


def test_one_that_does_not_end_when_asked_is_killed(module):
    child = Child(module("signal.signal(signal.SIGTERM, signal.SIG_IGN)"), request={})
    child.answer()

    assert not child.end(0.2)
    assert child.status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys; sys.exit(7)", "ended with status 7 before it was ready"),
        ("print('hello')", "said something other"),
        ("""print('{{"error": {{"type": "StateError", "message": "the port is taken"}}}}')""", "the port is taken"),
    ],
)
def test_one_that_can_not_begin_says_why(module, text, says):
    child = Child(module(text=text))
    with pytest.raises(StateError, match=says):
        child.answer()
    child.end(60)


def test_children_end_with_a_parent_that_is_killed(module):
    code = (
        "import json, sys, time; from service.processes.starting import Child\n"
        f"print(json.dumps(Child({module()!r}, request={{}}).answer()), flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = json.loads(parent.stdout.readline())["pid"]
        parent.kill()

    until(lambda: not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


def test_one_that_outlives_its_parent_goes_on(module):
    before = "from pathlib import Path; Path(os.environ['SAID']).write_text(str(os.getpid()))"
    text = f"import os, time\n{before}\ntime.sleep(1000)"
    said = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]) / "said"
    code = f"from service.processes.starting import Child; Child({module(text=text)!r}, outlives=True).tell({{}})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "SAID": str(said)}, check=True)
    pid = int(until(lambda: said.exists() and said.read_text()))

    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)


def test_a_server_that_can_not_start_says_why(tmp_path):
    with (
        pytest.raises(StateError, match="the server did not start: this workspace has no store yet"),
        server_process(tmp_path),
    ):
        pass
    refused = pytest.raises(StateError, match=r"(?s)ended with status 2 .*--nonsense")
    with refused, server_process(tmp_path, "--nonsense"):
        pass
