"""A job reads whole files only where no earlier one has taken their digests."""

from encoder.job import digests
from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from index.custody.erasure import erase_patient
from index.custody.removal import remove_videos
from index.files.durable import sha256_of_file
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import DATA
from tests.index.files.test_kept_digests import settle


def test_a_job_reads_no_file_that_the_last_one_stored_until_somebody_is_erased(tmp_path, tiny_encoder, monkeypatch):
    reads = []
    monkeypatch.setattr(digests, "sha256_of_file", lambda path: reads.append(path.name) or sha256_of_file(path))
    folder = tmp_path / "hospital"
    folder.mkdir()
    for number, name in enumerate(("h264_25fps.mp4", "short_7s.mp4")):
        (folder / f"{number}.mp4").write_bytes((DATA / "videos" / name).read_bytes())
        settle(folder / f"{number}.mp4")
    (folder / "manifest.csv").write_text("file_name,patient_id,video_id\n0.mp4,p0,v0\n1.mp4,p1,v1\n")
    workspace, embedder = Workspace(tmp_path / "workspace"), Embedder(tiny_encoder)

    def job(**options):
        reads.clear()
        report = encode(read_manifest(folder / "manifest.csv"), embedder, Store(workspace), EncodeOptions(**options))
        return sorted(reads), report.videos_written, len(report.refused)

    both = ["0.mp4", "1.mp4"]
    assert job() == (both, 2, 0)
    assert job() == ([], 0, 0)
    assert job(rehash=True) == (both, 0, 0)
    digest = Store(workspace).videos()["v1"].source_sha256.encode()
    assert digest in workspace.digests.read_bytes()

    erase_patient(workspace, "p1")

    assert not workspace.digests.exists()
    assert job() == (["0.mp4"], 0, 1)  # of an erased patient nothing is read, and nothing kept
    assert digest not in workspace.digests.read_bytes()
    remove_videos(workspace, ["v0"])
    assert not workspace.digests.exists()
