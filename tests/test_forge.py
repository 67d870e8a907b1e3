"""The forge's commands are those that a user starts, and it never forks beside a thread."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys

import pytest

from tests import forge
from tests.forge import Forged
from tests.waiting import PATIENCE_S


def test_a_forged_command_is_the_real_one_in_output_and_status(tmp_path):
    def timeless(text: str) -> str:
        """What is said, without how much of the disk is free at that moment."""
        return re.sub(r"[\d.]+ GB free, \d+%", "", text)

    for arguments in (
        ("--version",),
        ("nonsense",),
        ("doctor", "--json"),
        ("encode", "absent.csv"),
        ("index", "build"),
    ):
        command = [sys.executable, "-m", "semiome", *arguments]
        real = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        forged = forge.run(*arguments, cwd=tmp_path)

        assert forged.returncode == real.returncode
        assert (timeless(forged.stdout), forged.stderr) == (timeless(real.stdout), real.stderr)


def test_folder_environment_and_standard_input_are_the_askers(tmp_path):
    (tmp_path / "asked.py").write_text("import os, sys; print(os.getcwd(), os.environ['WHO'], sys.stdin.read())")
    (tmp_path / "said").write_text("hello")
    with (tmp_path / "said").open() as said:
        done = forge.run(module="asked", cwd=tmp_path, stdin=said, env={"WHO": "me"})

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path} me hello\n", "")


def test_a_signal_ends_it_as_it_ends_any_process(stored):
    for number, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        server = Forged("serve", "-w", stored.root, "--port", "0", "--json", stdout=subprocess.PIPE, stderr=-3)
        assert json.loads(server.stdout.readline())["pid"] == server.pid
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0.01)
        server.send_signal(number)
        server.communicate(PATIENCE_S)
        assert (server.returncode, server.poll()) == (status, status)


def test_it_does_not_fork_beside_a_thread(tmp_path, monkeypatch):
    forge.start(tmp_path, os.getpid(), "with a thread")
    monkeypatch.setenv(forge.FOLDER, str(tmp_path))

    with pytest.raises(RuntimeError, match="the forge has 2 threads, and can't fork safely"):
        forge.run("--version")


def test_no_command_holds_the_streams_of_another(tmp_path):
    """A stream that another one held would never end."""
    (tmp_path / "sleeps.py").write_text("import time; print('begun', flush=True); time.sleep(1000)")
    first, second = (Forged(module="sleeps", cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2))
    assert [first.stdout.readline(), second.stdout.readline()] == ["begun\n", "begun\n"]

    first.kill()
    assert first.communicate(PATIENCE_S) == ("", None)
    assert second.poll() is None
    second.kill()
    second.communicate(PATIENCE_S)


def test_one_who_goes_away_holds_up_no_other():
    assert forge.run("--version").returncode == 0
    for sent in (b"", b'{"module": "semi'):
        with forge._connected() as gone:
            gone.sendall(sent)

    assert forge.run("--version").returncode == 0


def test_one_who_is_slow_hears_what_ended_meanwhile(monkeypatch):
    """On a busy machine the command may have ended before the one that asked for it goes on."""

    class Slow(socket.socket):
        def sendmsg(self, *arguments):
            sent = super().sendmsg(*arguments)
            gone = select.poll()
            gone.register(self, 0)
            assert gone.poll(PATIENCE_S * 1000) == [(self.fileno(), select.POLLHUP)]
            return sent

    connected = forge._connected
    monkeypatch.setattr(forge, "_connected", lambda: Slow(fileno=connected().detach()))

    assert forge.run("--version").stdout.startswith("semiome ")
