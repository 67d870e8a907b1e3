"""Files that are whole or absent, and the lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from index.errors import Locked, StateError
from index.files.durable import sha256_of_file, write_atomically, write_text_atomically
from index.files.locks import ensure_temporary_folder, exclusive_lock
from index.workspace import current, set_current


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    write_text_atomically(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_digest_is_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")

    assert sha256_of_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_second_process_is_told_who_holds_the_lock(tmp_path):
    code = "import sys; from pathlib import Path; from index.files.durable import exclusive_lock\n"
    code += "with exclusive_lock(Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"

    with pytest.raises(Locked, match=f"held by process {holder.pid}"), exclusive_lock(tmp_path / "lock", "it"):
        pass
    holder.kill()
    holder.communicate()

    with exclusive_lock(tmp_path / "lock", "it"):  # the dead let go
        pass


def test_current_names_what_was_set(tmp_path):
    assert current(tmp_path) is None
    (tmp_path / "a").mkdir()
    set_current(tmp_path, "a")

    assert current(tmp_path) == "a"


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "absent", ".hidden", ""])
def test_current_never_leads_elsewhere(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder" / "CURRENT").write_text(name)

    with pytest.raises(StateError, match="CURRENT"):
        current(tmp_path / "folder")


READ_ONLY = """
set -e
for folder in /tmp /var/tmp; do mount --bind $folder $folder && mount -o remount,bind,ro $folder; done
mount -t tmpfs tmpfs {place}
cd {place}
env -u TMPDIR -u TEMP -u TMP {python} -c '
from pathlib import Path
from tests.conftest import commit, make_cohort
from index.workspace import Workspace
from index.tables.store import Store
place = Workspace(Path("workspace"))
commit(place, make_cohort())
print(len(Store(place).videos()), sorted(path.name[:5] for path in place.root.glob(".tmp-*")))
'
ls -a workspace
"""


@pytest.mark.needs("namespaces")
def test_where_the_system_has_no_room_for_temporary_files_the_workspace_has(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = READ_ONLY.format(place=tmp_path, python=sys.executable)
    ran = subprocess.run(["unshare", "-rm", "bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["15 ['.tmp-']", ".", "..", "commit.lock", "store"]


def test_temporary_folders_of_killed_processes_go_and_those_of_others_stay(tmp_path):
    nowhere = {**os.environ, "TMPDIR": "/nowhere"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=nowhere
    ) as other:
        held = Path(other.stdout.readline().strip())
        ensure_temporary_folder(tmp_path)
        assert held.is_dir()
        other.kill()
        other.wait()
        ensure_temporary_folder(tmp_path)
        assert not held.exists()


HOLDS = """
import os, sys, time
from pathlib import Path
from index.files.locks import ensure_temporary_folder
ensure_temporary_folder(Path(sys.argv[1]))
print(os.environ["TMPDIR"], flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a link to itself", "a link to a file"])
def test_a_lock_that_is_no_file_is_moved_aside(tmp_path, what):
    path, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("kept")
    if what == "a folder":
        (path / "x").mkdir(parents=True)
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if what == "a link to itself" else other)
    for _ in range(2):
        with exclusive_lock(path, "a lock"), pytest.raises(Locked), exclusive_lock(path, "a lock"):
            pass
    assert path.is_file()
    assert other.read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 3
