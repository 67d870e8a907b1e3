"""What commands do where the system does not let them write: they name it, lose nothing, and still read."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from index.errors import CannotWrite, DiskFull
from index.files.failures import failed_write, naming_failed_writes
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import DATA, commit, make_video, publish_all, tiny_architecture


def _slow(arguments):
    return pytest.param(arguments, marks=pytest.mark.slow)


SEMIOME = [sys.executable, "-m", "semiome"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a video, its manifest, and a workspace `ws` that is served."""
    shutil.copy(DATA / "videos" / "short_7s.mp4", tmp_path)
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\nshort_7s.mp4,p9,v9\n")
    workspace = Workspace(tmp_path / "ws")
    encoder = new_encoder(tiny_architecture(), seed=0)
    install_encoder(encoder, workspace.encoders)
    random = np.random.default_rng(0)
    commit(workspace, [make_video(p, v, 2, random, 768) for p in range(6) for v in range(2)], encoder.encoder_id)
    publish_all(workspace, encoder.encoder_id)
    (tmp_path / "ro").mkdir()
    return tmp_path


def read_only(folder, script):
    """Run a shell script that finds the workspace once more in `ro`, where nothing can be written."""
    mount = 'mount --bind "$PWD/ws" "$PWD/ro" && mount -o remount,ro,bind "$PWD/ro" || exit 99'
    return subprocess.run(
        ["unshare", "-rm", "bash", "-c", f"{mount}\n{script}"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    "arguments",
    [
        *("encode m.csv", "index build", "erase --patient p1 --yes", "doctor --repair"),
        *map(
            _slow,
            (
                *("remove --video v0-0 --yes", "store compact", "store backup saved", "encoder init"),
                "feedback export ro/x.tsv",
            ),
        ),
    ],
)
def test_a_read_only_workspace_ends_a_command_that_writes_with_what_cannot_be_written(folder, arguments):
    before = {path: path.read_bytes() for path in (folder / "ws").rglob("*") if path.is_file()}

    done = read_only(folder, f"{sys.executable} -m semiome {arguments} -w ro --json")

    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert "can't use ro/" in done.stderr
    assert "the file system is read-only" in json.loads(done.stdout)["error"]["message"]
    assert {path: path.read_bytes() for path in (folder / "ws").rglob("*") if path.is_file()} == before


@pytest.mark.needs("namespaces")
def test_a_read_only_workspace_is_searched_and_served(folder):
    script = f"""
{sys.executable} -m semiome serve -w ro --port 0 --json >served 2>said &
until grep -q address served; do kill -0 $! || {{ cat said >&2; exit 98; }}; sleep .2; done
address=$(sed 's/.*"address": "\\([^"]*\\)".*/\\1/' served)
{sys.executable} -m semiome search --video v0-0 --group-by video --server "$address" --json
kill %1; wait %1
"""
    done = read_only(folder, script)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["neighbours"]
    assert len(found) == 10
    assert "without an audit log" in (folder / "said").read_text()
    assert not (folder / "ws" / "audit").exists()


@pytest.mark.needs("namespaces")
def test_a_server_with_sign_in_serves_nothing_without_an_audit_log(folder):
    keys = subprocess.run([*SEMIOME, "access", "init", "keys"], cwd=folder, capture_output=True, text=True, check=False)
    assert keys.returncode == 0, keys.stderr

    done = read_only(folder, f"{sys.executable} -m semiome serve -w ro --port 0 --config keys/serve.toml")

    assert done.returncode == 4, done.stderr
    assert "Nothing is answered without an audit log" in done.stderr


def test_a_tmpdir_that_is_gone_is_named_before_any_work(folder):
    done = subprocess.run(
        [*SEMIOME, "encode", "m.csv", "-w", "new", "--json"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "gone")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert f"can't use {folder / 'gone'}: TMPDIR names no folder that can be written" in done.stderr
    assert not (folder / "new").exists()


@pytest.mark.parametrize("most", [24, pytest.param(40, marks=pytest.mark.slow)])
def test_too_few_descriptors_are_named_and_the_same_command_goes_on_with_more(folder, most):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    command = [*SEMIOME, "encode", "m.csv", "-w", "ws", "--json"]
    done = subprocess.run(command, cwd=folder, preexec_fn=limit, capture_output=True, text=True, check=False)

    if done.returncode:  # it may be just enough
        assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
        assert "too many open files" in done.stderr
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "v9" in Store(Workspace(folder / "ws")).videos()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO])
def test_each_error_of_a_write_is_our_own_whether_it_has_a_number_or_words(code):
    with pytest.raises(CannotWrite) as numbered, naming_failed_writes():
        raise OSError(code, os.strerror(code), "/where/it/is")
    with pytest.raises(CannotWrite) as worded, naming_failed_writes():
        raise RuntimeError(f"lance error: LanceError(IO): {os.strerror(code)} (os error {code}), file.rs:76")

    assert numbered.value.path == "/where/it/is"
    assert str(numbered.value) == str(worded.value)
    assert "/where" not in str(numbered.value)


def test_a_full_disk_keeps_its_name_and_other_errors_are_not_touched():
    assert isinstance(failed_write(OSError(errno.ENOSPC, "")), DiskFull)
    assert failed_write(OSError(errno.ENOENT, "no such file")) is None
    with pytest.raises(FileNotFoundError), naming_failed_writes():
        raise FileNotFoundError(errno.ENOENT, "x")


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("-f 1", "a file would be larger than is allowed here"),
        pytest.param("-f 20", "a file would be larger than is allowed here", marks=pytest.mark.slow),
    ],
)
def test_a_limit_of_the_process_is_named_and_costs_nothing_stored(folder, limit, says):
    before = Store(Workspace(folder / "ws")).videos()
    script = f"ulimit {limit}; PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} -m semiome encode m.csv -w ws"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert Store(Workspace(folder / "ws")).videos() == before


@pytest.mark.parametrize("kilobytes", [10**6, pytest.param(2 * 10**6, marks=pytest.mark.slow)])
def test_too_little_memory_costs_nothing_stored_and_is_named_where_python_learns_of_it(folder, kilobytes):
    """Libraries end the process themselves, by one signal or another, when a small allocation of their own fails.

    How much is enough differs from run to run: threads take memory as they come to it. Half of it never is.
    """
    before = Store(Workspace(folder / "ws")).videos()
    command = f"{sys.executable} -m semiome encode m.csv -w ws"
    script = f"ulimit -v {kilobytes}; PYTHONDONTWRITEBYTECODE=1 exec {command}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode == 0 and kilobytes > 10**6:
        assert set(Store(Workspace(folder / "ws")).videos()) == {*before, "v9"}
        return
    assert done.returncode in (4, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV), done.stderr
    if done.returncode == 4:
        assert "no memory or no thread is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert Store(Workspace(folder / "ws")).videos() == before
    again = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "v9" in Store(Workspace(folder / "ws")).videos()


def test_a_limit_tighter_than_a_decoders_own_leaves_it_working(folder):
    """As batch systems set them: the decoder's own limit would be above it, which only root may ask for."""
    script = f"ulimit -v {4 * 10**6}; exec {sys.executable} -m semiome encode m.csv -w ws"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "v9" in Store(Workspace(folder / "ws")).videos()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
@pytest.mark.parametrize("arguments", [("doctor",), ("index", "list"), ("serve", "--port", "0")])
def test_what_an_account_may_not_read_is_not_called_damaged(folder, arguments):
    """Files of another account, and a root that has no right to read them all the same."""
    for path in (folder / "ws").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o600)
        shutil.chown(path, 12345)
    rights = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *SEMIOME, *arguments, "-w", "ws"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 4, said
    assert "this account may not read all of the workspace" in said or "permission denied" in said, said
    assert "publish" not in said
    assert "backup" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_who_writes_for_another_account_is_told(folder):
    shutil.chown(folder / "ws" / "store", 12345)
    command = [*SEMIOME, "index", "build", "-w", "ws"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "another account owns this workspace" in done.stderr
