"""What a decoding child that a file has taken over can and can't do, on kernels that lack this or that."""

import ctypes
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from encoder.model.folder import install_encoder
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.sandbox import LEVELS, check_level, least_sandbox, level_here
from encoder.video.syscalls import _ALLOWED
from index.errors import InvalidInput, StateError
from tests.conftest import DATA, commit, publish_all

VIDEOS = DATA / "videos"
pytestmark = pytest.mark.needs("libseccomp")
NEEDED = {"read its own file", "start a thread"}
NO_LANDLOCK, NO_SECCOMP = ("landlock_create_ruleset",), ("seccomp", "prctl:22")
SEMIOME = str(Path(sys.executable).with_name("semiome"))


@pytest.fixture
def prison(tmp_path):
    """What a prisoner did: by what its kernel lacks."""
    inside = tmp_path / "inside"
    inside.mkdir()

    def shut(lacking=()):
        own, other = tmp_path / "own", tmp_path / "other"
        own.write_text("mine")
        other.write_text("another patient's")
        other.chmod(0o600)
        path = str(tmp_path / "socket")
        Path(path).unlink(missing_ok=True)
        victim = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
        try:
            with (
                socket.create_server(("127.0.0.1", 0)) as server,
                socket.socket(socket.AF_UNIX) as named,
                socket.socket(socket.AF_UNIX) as abstract,
            ):
                named.bind(path)
                named.listen()
                abstract.bind("\0" + path)
                abstract.listen()
                port = str(server.getsockname()[1])
                given = (own, other, inside, port, path, victim.pid, *lacking)
                command = [sys.executable, "-m", "tests.encoder.video.prisoner", *map(str, given)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            if not lacking:
                assert victim.poll() is None
                assert (other.read_text(), other.stat().st_mode & 0o777) == ("another patient's", 0o600)
                assert own.read_text() == "mine"
                assert list(inside.iterdir()) == []
        finally:
            victim.kill()
            victim.wait()
        said = json.loads(done.stdout)
        return said["level"], set(said["done"])

    return shut


def test_a_child_that_was_taken_over_can_read_its_own_file_and_nothing_else(prison):
    assert prison() == ("full", NEEDED)


def test_without_landlock_it_can_read_and_still_change_start_and_reach_nothing(prison):
    assert prison(NO_LANDLOCK) == ("calls", NEEDED | {"read another file", "list a folder"})


def test_without_seccomp_other_files_stay_out_of_reach(prison):
    level, done = prison(NO_SECCOMP)

    kept = {"read another file", "list a folder", "make a file", "write to its own file", "remove a file"}
    assert (level, done & kept, done & NEEDED) == ("files", set(), NEEDED)


def test_with_neither_its_limits_are_all_there_is(prison):
    level, done = prison((*NO_SECCOMP, *NO_LANDLOCK))

    assert level == "limits"
    assert {*NEEDED, "read another file", "UDP"} <= done


def on_such_a_kernel(lacking, *command):
    whole = [sys.executable, "-m", "tests.encoder.video.prisoner", "--without", ",".join(lacking)]
    return subprocess.run([*whole, SEMIOME, *map(str, command)], capture_output=True, text=True, check=False)


def test_doctor_says_how_far_decoders_are_shut_in(tmp_path):
    for lacking, state, level in ((("uselib",), "ok", "full"), (NO_LANDLOCK, "warning", "calls")):
        findings = json.loads(on_such_a_kernel(lacking, "doctor", "-w", tmp_path, "--json").stdout)["findings"]
        [found] = [one for one in findings if one["what"] == "decoders"]
        assert found["state"] == state
        assert f"level {level}" in found["says"]


def test_encode_and_serve_refuse_below_the_level_that_was_asked_for(workspace, cohort, tiny_encoder):
    manifest = workspace.root / "videos.csv"
    commit(workspace, cohort)
    publish_all(workspace)
    manifest.write_text("video_id,file_name,patient_id\nv,short_7s.mp4,p\n")
    config = workspace.root / "semiome.toml"
    config.write_text('least_sandbox = "full"\n')
    install_encoder(tiny_encoder, workspace.encoders)
    options = ("encode", manifest, "-w", workspace.root, "--media-root", VIDEOS, "--least-sandbox", "full")

    for command in (options, ("serve", "-w", workspace.root, "--port", "0", "--config", config)):
        done = on_such_a_kernel(NO_LANDLOCK, *command)
        said = "decoders are sandboxed at level calls here, and at least full was asked for: docs/decoding.md"
        assert done.returncode == 4, done
        assert said in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr


def test_the_filter_knows_each_of_its_calls():
    library = ctypes.CDLL("libseccomp.so.2")
    numbers = {name: library.seccomp_syscall_resolve_name(name.encode()) for name in _ALLOWED.split()}

    assert [name for name, number in numbers.items() if number == -1] == []


def test_below_the_level_that_was_asked_for_nothing_is_decoded(monkeypatch):
    assert level_here() == "full"
    with pytest.raises(StateError, match="at level calls here, and at least full was asked for"):
        check_level("calls", "full")
    for level in LEVELS:
        check_level(level, "limits")
    with Decoder(4, 32, DecodeLimits(least_sandbox="full")) as decoder:
        assert decoder.count(VIDEOS / "short_7s.mp4") == 1
    monkeypatch.setenv("SEMIOME_LEAST_SANDBOX", "files")
    assert (least_sandbox(), DecodeLimits().least_sandbox) == ("files", "files")
    monkeypatch.setenv("SEMIOME_LEAST_SANDBOX", "everything")
    with pytest.raises(InvalidInput, match="expected limits, files, calls, full in SEMIOME_LEAST_SANDBOX"):
        least_sandbox()
