"""Digests that an earlier job has taken: believed as long as nothing about the file is different, and erased."""

import os
import sqlite3
import time
from contextlib import closing, suppress

import pytest

from encoder.job import digests as job_digests
from encoder.job.digests import FileDigests
from index.custody.erasure import erase_patient
from index.errors import Locked, NotFound
from index.files import side_file
from index.files.durable import sha256_of_file
from index.files.kept_digests import KeptDigests
from index.workspace import Workspace
from tests.conftest import commit, make_cohort


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read as a whole."""
    names = []

    def counted(path):
        names.append(path.name)
        return sha256_of_file(path)

    monkeypatch.setattr(job_digests, "sha256_of_file", counted)
    return names


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(range(256)) * 4096)
    settle(path)
    return path


def settle(path):
    """As if the file had been there for a while: its time of change can't be set."""
    os.utime(path, ns=(10**18, 10**18))
    while time.time_ns() - path.stat().st_ctime_ns < 2.1e9:
        time.sleep(0.1)


def asked(tmp_path, path, **options):
    return FileDigests(KeptDigests(tmp_path / "digests.sqlite"), **options).sha256(path, "p1")


def test_a_file_is_read_once_for_all_jobs_and_again_where_that_is_wanted(film, tmp_path, reads):
    first = asked(tmp_path, film)

    assert first == sha256_of_file(film)
    assert asked(tmp_path, film) == first
    assert reads == ["film.mp4"]
    assert asked(tmp_path, film, rehash=True) == first
    assert reads == ["film.mp4"] * 2
    assert KeptDigests(tmp_path / "digests.sqlite").patients() == {"p1"}
    assert film.name.encode() not in (tmp_path / "digests.sqlite").read_bytes()


@pytest.mark.parametrize("place", [5, 500_000])
def test_a_file_that_is_changed_in_place_is_read_again_even_if_its_time_is_put_back(film, tmp_path, reads, place):
    before, times = asked(tmp_path, film), film.stat()
    with film.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"another")
    os.utime(film, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert asked(tmp_path, film) == sha256_of_file(film) != before
    assert len(reads) == 2


def test_another_file_of_the_same_name_and_a_copy_are_read(film, tmp_path, reads):
    asked(tmp_path, film)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(film.read_bytes())
    settle(copy)
    asked(tmp_path, copy)
    film.unlink()
    copy.rename(film)

    asked(tmp_path, film)
    assert len(reads) == 3


def test_a_file_that_has_just_been_changed_is_not_believed_the_next_time(tmp_path, reads):
    path = tmp_path / "new.mp4"
    path.write_bytes(b"new")

    asked(tmp_path, path)
    asked(tmp_path, path)

    assert len(reads) == 2


def test_a_damaged_database_costs_a_reading_and_nothing_else(film, tmp_path, reads):
    database = tmp_path / "digests.sqlite"
    database.write_bytes(b"not a database" * 1000)

    assert asked(tmp_path, film) == asked(tmp_path, film) == sha256_of_file(film)
    assert 1 <= len(reads) <= 2
    assert asked(tmp_path, film)
    assert len(reads) <= 2


def test_a_patient_of_whom_only_a_digest_is_there_can_be_erased(film, tmp_path):
    """As after a job that refused their one video."""
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort(patients=1))
    FileDigests(KeptDigests(workspace.digests)).sha256(film, "lone")

    with suppress(NotFound):
        erase_patient(workspace, "lone")

    assert not workspace.digests.exists()


def test_who_is_in_it_is_not_passed_over_where_another_process_has_it(film, tmp_path, monkeypatch):
    database = tmp_path / "digests.sqlite"
    asked(tmp_path, film)
    monkeypatch.setattr(side_file, "_WAIT_S", 0.1)
    with closing(sqlite3.connect(database)) as other:
        other.execute("begin exclusive")
        with pytest.raises(Locked):
            KeptDigests(database).patients()
        assert asked(tmp_path, film) == sha256_of_file(film)  # a job waits for nothing
