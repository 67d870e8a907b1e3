"""The encode job on real files: what is stored, what is refused, what a second run does, what a killed child costs."""

import os
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from encoder.job.events import ClipReady
from encoder.job.pipeline import EncodeOptions, encode, encode_with, local_engine
from encoder.job.reading import ERASED
from encoder.job.report import EncodeReport, Refusal
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.identity import new_encoder
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.worker_process import Child
from index.custody.erasure import erase_patient
from index.errors import InvalidInput, Locked
from index.records import Clip, Video, clip_id
from index.tables.committer import Committer
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import DATA, EXPECTED, tiny_architecture


@pytest.fixture
def job(tiny_encoder, workspace):
    """`job(manifest, **options)` encodes with the tiny encoder and returns the report."""
    embedder = Embedder(tiny_encoder)

    def run(manifest, **options):
        return encode(read_manifest(manifest), embedder, Store(workspace), EncodeOptions(**options))

    return run


def stored_clips(workspace, encoder):
    stored = Store(workspace).clips(encoder.encoder_id)
    return dict(zip(stored.clips, stored.vectors, strict=True))


def test_clips_are_stored_with_their_embeddings(hospital, job, workspace, tiny_encoder):
    report = job(hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2")))

    assert (report.clips_written, report.clips_skipped, report.videos_written, report.refused) == (4, 0, 2, [])
    videos = Store(workspace).videos()
    source = {name: video.source_sha256 for name, video in videos.items()}
    assert videos["v1"] == Video("v1", "p1", source["v1"], duration_s=24.0, clip_count=3)
    found = stored_clips(workspace, tiny_encoder)
    assert list(found) == [
        *(
            Clip(clip_id(source["v1"], "v1", start), "v1", "p1", k, start, 10.0)
            for k, start in enumerate((0.0, 10.0, 14.0))
        ),
        Clip(clip_id(source["v2"], "v2", 0), "v2", "p2", 0, 0.0, 7.0),
    ]
    with Decoder(4, 32) as decoder:
        frames = [clip.frames for clip in decoder.decode(DATA / "videos" / "h264_25fps.mp4")]
    np.testing.assert_allclose(list(found.values())[:3], Embedder(tiny_encoder).embed(frames), atol=1e-6)


def test_batches_in_flight_change_nothing_but_when_they_are_waited_for(hospital, tmp_path, tiny_encoder):
    rows = [("h264_25fps.mp4", "p1", "v1"), ("empty.mp4", "p2", "v2"), ("short_7s.mp4", "p3", "v3")]
    manifest = read_manifest(hospital(*rows, ("h264_vfr.mp4", "p4", "v4")))
    stored = []
    for ahead in (0, 1):
        place, embedder = Workspace(tmp_path / str(ahead)), Embedder(tiny_encoder)
        embedder.batches_ahead = ahead
        report = encode(manifest, embedder, Store(place), EncodeOptions(batch=2))
        again = encode(manifest, embedder, Store(place), EncodeOptions(batch=2))
        clips = {clip: vector.tobytes() for clip, vector in stored_clips(place, tiny_encoder).items()}
        stored.append((clips, report.refused, report.clips_embedded, again.clips_skipped))

    assert stored[0] == stored[1]
    assert stored[0][3] == len(stored[0][0]) == stored[0][2]


def test_a_second_run_decodes_nothing_and_writes_nothing(hospital, job, workspace, tiny_encoder, monkeypatch):
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))
    job(manifest)
    version = Store(workspace).clips(tiny_encoder.encoder_id).table_version
    monkeypatch.setattr(Decoder, "decode", None)

    report = job(manifest)

    assert (report.clips_written, report.clips_skipped, report.videos_updated, report.refused) == (0, 4, 0, [])
    assert Store(workspace).clips(tiny_encoder.encoder_id).table_version == version


def test_every_test_video_is_stored_or_refused_as_expected(hospital, job, workspace):
    names = sorted(EXPECTED)
    # Two of them are one file under two names, and so one patient's.
    manifest = hospital(*((name, f"p{name.split('.')[0]}", f"v{i:02d}") for i, name in enumerate(names)))

    report = job(manifest, decoders=2)

    refused = {refusal.file_name for refusal in report.refused}
    assert refused == {name for name in names if EXPECTED[name]["verdict"] == "reject"}
    videos = Store(workspace).videos()
    assert {names[int(v[1:])]: video.duration_s for v, video in videos.items()} == pytest.approx(
        {name: EXPECTED[name]["seconds"] for name in names if name not in refused}, abs=0.001
    )
    assert report.same_content == [tuple(f"v{names.index(name)}" for name in ("wmv2.asf", "wmv2.wmv"))]


def test_salvage_keeps_the_whole_clips_before_the_damage_and_says_so(hospital, job, workspace):
    rows = (
        ("truncated_half.mkv", "p1", "v1"),
        ("truncated_faststart.mp4", "p2", "v2"),
        ("corrupt_middle.mp4", "p3", "v3"),
    )
    manifest = hospital(*rows)

    assert [refusal.video_id for refusal in job(manifest).refused] == ["v1", "v2", "v3"]
    report = job(manifest, salvage=True)

    assert (report.clips_written, [refusal.video_id for refusal in report.refused]) == (3, ["v3"])
    assert [refusal.video_id for refusal in report.salvaged] == ["v1", "v2"]
    videos = Store(workspace).videos()
    assert {name: (v.salvaged, v.duration_s, v.clip_count) for name, v in videos.items()} == {
        "v1": (True, 12.08, 2),
        "v2": (True, 10.0, 1),
    }


def test_files_that_are_missing_or_lead_out_are_refused_and_the_rest_is_stored(hospital, job, tmp_path):
    manifest = hospital(("absent.mp4", "p1", "v1"), ("link.mp4", "p1", "v2"), ("short_7s.mp4", "p1", "v3"))
    shutil.copy(DATA / "videos" / "exactly_10s.mp4", tmp_path / "elsewhere.mp4")
    (manifest.parent / "link.mp4").symlink_to(tmp_path / "elsewhere.mp4")

    report = job(manifest)

    assert report.clips_written == 1
    assert report.refused == [
        Refusal("v1", "absent.mp4", "the file is missing, or may not be read"),
        Refusal("v2", "link.mp4", "a symbolic link leads out of the manifest's folder"),
    ]


def test_a_new_label_updates_the_video_and_decodes_nothing(hospital, job, workspace, monkeypatch):
    columns = ("file_name", "patient_id", "video_id", "label")
    job(hospital(("short_7s.mp4", "p1", "v1", ""), columns=columns))
    monkeypatch.setattr(Decoder, "decode", None)

    report = job(hospital(("short_7s.mp4", "p1", "v1", "exTLE"), columns=columns))

    assert (report.clips_written, report.videos_updated) == (0, 1)
    assert Store(workspace).videos()["v1"].label == "exTLE"


def test_a_corrected_patient_updates_the_clips_and_decodes_nothing(hospital, job, workspace, tiny_encoder, monkeypatch):
    job(hospital(("short_7s.mp4", "p1", "v1")))
    before = list(stored_clips(workspace, tiny_encoder).values())
    monkeypatch.setattr(Decoder, "decode", None)

    report = job(hospital(("short_7s.mp4", "p2", "v1")))

    after = stored_clips(workspace, tiny_encoder)
    assert report.videos_updated == 1
    assert [clip.patient_id for clip in after] == ["p2"]
    np.testing.assert_array_equal(list(after.values()), before)


def test_a_changed_file_and_a_changed_crop_are_encoded_again(hospital, job, workspace, tiny_encoder):
    columns = ("file_name", "patient_id", "video_id", "crop")
    manifest = hospital(("short_7s.mp4", "p1", "v1", ""), columns=columns)
    job(manifest)
    first = stored_clips(workspace, tiny_encoder)

    assert job(hospital(("short_7s.mp4", "p1", "v1", "0 0 100 100"), columns=columns)).clips_written == 1
    second = stored_clips(workspace, tiny_encoder)
    assert list(first) == list(second)
    assert not np.allclose(list(first.values()), list(second.values()), atol=1e-4)

    shutil.copy(DATA / "videos" / "exactly_10s.mp4", manifest.parent / "short_7s.mp4")
    assert job(manifest).clips_written == 1
    assert [clip.valid_seconds for clip in stored_clips(workspace, tiny_encoder)] == [10.0]


def test_a_file_that_changes_while_it_is_read_is_refused(hospital, job, monkeypatch):
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))
    after_decoding(monkeypatch, "h264_25fps.mp4", grow)

    report = job(manifest)

    assert [(r.video_id, r.reason) for r in report.refused] == [
        ("v1", "the file changed while it was read: encode it again once it is complete")
    ]
    assert report.clips_written == 1


def test_the_job_goes_on_when_decoding_children_are_killed(hospital, job, workspace, tiny_encoder, monkeypatch):
    names = [name for name in EXPECTED if EXPECTED[name]["verdict"] == "ok"][:8]
    manifest = hospital(*((name, "p1", name.replace(".", "-")) for name in names))
    disturbed = signal_first_child(monkeypatch, signal.SIGKILL, names)

    report = job(manifest)

    assert disturbed == set(names)
    assert report.refused == []
    clips = [EXPECTED[name]["seconds"] for name in names]
    assert report.clips_written == sum(int(s // 10) + (s % 10 >= 1) for s in clips)
    assert len(stored_clips(workspace, tiny_encoder)) == report.clips_written


def test_a_hung_decoder_costs_its_video_only(hospital, job, monkeypatch):
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))
    signal_first_child(monkeypatch, signal.SIGSTOP, ["h264_25fps.mp4"])

    report = job(manifest, limits=DecodeLimits(stall_s=10.0), batch=1)

    assert [(r.video_id, r.reason) for r in report.refused] == [("v1", "the decoder made no progress for 10 s")]
    assert report.clips_written == 1


def signal_first_child(monkeypatch, number, names):
    """The first child of each of these files gets a signal before it is asked for anything; the set of files so far.

    Later would be a race: a child may have said all it has to say, into the pipe, before the signal comes.
    """
    disturbed = set()
    real = Child.decode

    def decode(child, request, *rest):
        name = Path(request["path"]).name
        if name in names and name not in disturbed:
            disturbed.add(name)
            os.kill(child.pid, number)
        return real(child, request, *rest)

    monkeypatch.setattr(Child, "decode", decode)
    return disturbed


def after_decoding(monkeypatch, name, act):
    """`act(path)` once a file's clips are decoded, before the job has closed it."""
    real = Decoder.decode

    def decode(self, source, crop=None, skip=0):
        yield from real(self, source, crop, skip)
        if source.path.name == name:
            act(source.path)

    monkeypatch.setattr(Decoder, "decode", decode)


def grow(path):
    with path.open("ab") as stream:
        stream.write(b"more")


def test_a_bug_while_decoding_ends_the_job_with_its_error(hospital, job, monkeypatch):
    def broken(self, path, crop=None, track=None):
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(Decoder, "decode", broken)
    with pytest.raises(ZeroDivisionError):
        job(hospital(("short_7s.mp4", "p1", "v1")))


def test_what_was_refused_is_known_when_a_job_is_interrupted(hospital, tiny_encoder, workspace):
    manifest = read_manifest(hospital(("empty.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2")))
    whole = local_engine(Embedder(tiny_encoder), EncodeOptions())
    report = EncodeReport()

    @contextmanager
    def interrupted(*arguments):
        def until_the_first_clip(events):
            for event in events:
                if isinstance(event, ClipReady):
                    raise KeyboardInterrupt
                yield event

        with whole(*arguments) as events:
            yield until_the_first_clip(events)

    with pytest.raises(KeyboardInterrupt):
        encode_with(interrupted, manifest, tiny_encoder, Store(workspace), report=report)
    assert [(refusal.video_id, refusal.reason) for refusal in report.refused] == [("v1", "empty file")]


def test_two_encoders_are_stored_side_by_side(hospital, job, workspace, tiny_encoder):
    manifest = hospital(("short_7s.mp4", "p1", "v1"))
    job(manifest)
    other = new_encoder(tiny_architecture(), seed=1)
    report = encode(read_manifest(manifest), Embedder(other), Store(workspace))

    assert report.clips_written == 1
    assert set(Store(workspace).encoder_ids()) == {tiny_encoder.encoder_id, other.encoder_id}


def test_progress_counts_videos_and_parts_of_them_and_says_where_the_time_goes(hospital, workspace, tiny_encoder):
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("empty.mp4", "p1", "v2"))
    seen = []

    report = encode(
        read_manifest(manifest),
        Embedder(tiny_encoder),
        Store(workspace),
        EncodeOptions(batch=1),
        progress=lambda *told: seen.append(told),
    )

    assert [done for done, _, _ in seen] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 2])
    assert {total for _, total, _ in seen} == {2}
    assert seen[0][2] == ""
    words = r"\d+\.\d\d clips/s: \d+% in the model \(at \d+% of the hardware's limit\), \d+% waiting for frames, .*"
    assert all(re.fullmatch(words, now) for _, _, now in seen[1:])
    assert report.clips_embedded == report.clips_written == 3
    assert sum(report.seconds[part] for part in ("model", "waiting", "committing")) <= report.seconds["total"]
    assert 0 < report.clips_embedded / report.seconds["model"] < report.clips_per_s_at_most


def test_only_damage_is_salvaged(hospital, job, monkeypatch):
    """A file that changed or a decoder that hung says nothing of where the right clips end."""
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"))
    after_decoding(monkeypatch, "h264_25fps.mp4", grow)

    report = job(manifest, salvage=True)

    assert report.clips_written == 0
    assert [refusal.video_id for refusal in report.refused] == ["v1"]


def test_a_file_that_vanishes_while_it_is_read_is_refused_and_the_rest_is_stored(hospital, job, monkeypatch):
    manifest = hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))
    after_decoding(monkeypatch, "h264_25fps.mp4", Path.unlink)

    report = job(manifest)

    assert [(r.video_id, r.reason) for r in report.refused] == [
        ("v1", "the file can't be read: No such file or directory")
    ]
    assert report.clips_written == 1


def test_a_crash_between_clips_and_video_row_is_repaired_by_the_next_run(hospital, job, workspace, monkeypatch):
    manifest = hospital(("short_7s.mp4", "p1", "v1"), ("exactly_10s.mp4", "p2", "v2"))

    def crash(self, videos):
        if videos:
            raise RuntimeError("power cut")
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(Committer, "update_videos", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            job(manifest)
    assert Store(workspace).videos() == {}

    report = job(manifest)
    assert report.refused == []
    assert set(Store(workspace).videos()) == {"v1", "v2"}
    assert job(manifest).clips_skipped == 2


def test_a_corrected_patient_reaches_every_encoder(hospital, workspace, tiny_encoder):
    other = new_encoder(tiny_architecture(), seed=1)
    embedders = [Embedder(tiny_encoder), Embedder(other)]
    for patient in ("p1", "p2"):
        manifest = read_manifest(hospital(("short_7s.mp4", patient, "v1")))
        for embedder in embedders:
            encode(manifest, embedder, Store(workspace))

    for encoder in (tiny_encoder, other):
        assert [clip.patient_id for clip in stored_clips(workspace, encoder)] == ["p2"]


def test_finished_videos_are_stored_when_the_job_fails_later(hospital, job, workspace, monkeypatch):
    manifest = hospital(("short_7s.mp4", "p1", "v1"), ("exactly_10s.mp4", "p2", "v2"))
    real = Decoder.decode

    def fails(self, source, crop=None, skip=0):
        if source.path.name == "exactly_10s.mp4":
            raise ZeroDivisionError
        yield from real(self, source, crop, skip)

    monkeypatch.setattr(Decoder, "decode", fails)
    with pytest.raises(ZeroDivisionError):
        job(manifest, batch=1)

    assert set(Store(workspace).videos()) == {"v1"}


@pytest.mark.parametrize("options", [{"batch": 0}, {"decoders": 0}])
def test_options_out_of_bounds_are_refused(hospital, job, options):
    with pytest.raises(InvalidInput, match="at least 1"):
        job(hospital(("short_7s.mp4", "p1", "v1")), **options)


@pytest.mark.parametrize("when", ["before it is decoded", "before it is stored"])
def test_a_patient_erased_meanwhile_is_not_taken_in_and_the_rest_is(hospital, job, workspace, tiny_encoder, when):
    job(hospital(("vp9.webm", "p1", "v0"), ("exactly_10s.mp4", "p3", "v9")))
    manifest = read_manifest(
        hospital(
            *(("exactly_10s.mp4", "p3", "v9"), ("h264_25fps.mp4", "p1", "v1"), ("vp9.webm", "p1", "v0")),
            ("short_7s.mp4", "p2", "v2"),
        )
    )
    asked = []

    def erase(done, total, now):
        if not asked and done >= (0 if when == "before it is decoded" else 2):
            asked.append("p1")
            with pytest.raises(Locked, match="this patient no longer appears in any answer"):
                erase_patient(workspace, "p1")

    report = encode(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions(), erase)

    assert asked == ["p1"]
    assert sorted(report.refused, key=lambda one: one.video_id) == [
        Refusal("v0", "vp9.webm", ERASED),
        Refusal("v1", "h264_25fps.mp4", ERASED),
    ]
    assert Store(workspace).videos().keys() == {"v0", "v2", "v9"}
    assert erase_patient(workspace, "p1")["complete"]
    assert Store(workspace).videos().keys() == {"v2", "v9"}
