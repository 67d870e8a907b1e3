"""What goes out of one store comes into another as it was; what is wrong is refused as a whole."""

import csv
import json
from dataclasses import replace

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from index.custody.erasure import erase_patient
from index.errors import InvalidInput, NotFound, StateError
from index.records import clip_id
from index.tables.exchange import Moved, export_parquet, export_projector, import_parquet
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import commit


def rows_of(workspace):
    stored = Store(workspace).clips("enc1")
    return {clip: vector.tobytes() for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


def test_parquet_goes_out_and_comes_in_as_it_was(stored, tmp_path):
    other = Workspace(tmp_path / "other")

    out = export_parquet(Store(stored), "enc1", tmp_path / "out")
    came = import_parquet(Store(other), tmp_path / "out")
    again = import_parquet(Store(other), tmp_path / "out")

    assert out == came == Moved("enc1", 60, 15, 5)
    assert again == Moved("enc1", 0, 15, 5)
    assert rows_of(other) == rows_of(stored)
    assert Store(other).videos() == Store(stored).videos()
    assert Store(other).encoded("enc1") == Store(stored).encoded("enc1")
    written = pq.read_table(tmp_path / "out" / "clips.parquet")
    assert not {"patient_key", "row_sha256", "commit_number"} & set(written.column_names)
    assert pq.read_table(tmp_path / "out" / "videos.parquet").num_rows == 15


def test_an_export_of_an_earlier_version_has_no_metadata(stored, tmp_path):
    export_parquet(Store(stored), "enc1", tmp_path / "out")
    videos = pq.read_table(tmp_path / "out" / "videos.parquet")
    pq.write_table(videos.drop_columns(["metadata"]), tmp_path / "out" / "videos.parquet")
    other = Workspace(tmp_path / "other")

    import_parquet(Store(other), tmp_path / "out")

    assert Store(other).videos() == {n: replace(v, metadata=()) for n, v in Store(stored).videos().items()}


def test_an_export_is_whole_or_not_there(stored, tmp_path):
    with pytest.raises(NotFound):
        export_parquet(Store(stored), "enc2", tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []
    export_parquet(Store(stored), "enc1", tmp_path / "out")
    with pytest.raises(InvalidInput, match="there already"):
        export_parquet(Store(stored), "enc1", tmp_path / "out")


def test_an_erased_patient_does_not_come_in_again(stored, tmp_path):
    export_parquet(Store(stored), "enc1", tmp_path / "out")
    erase_patient(stored, "p3")

    with pytest.raises(StateError, match="was erased"):
        import_parquet(Store(stored), tmp_path / "out")

    assert len(rows_of(stored)) == 48


def test_a_video_that_is_stored_from_another_file_stays(stored, cohort, tmp_path):
    """Two hospitals may use the same names."""
    other = Workspace(tmp_path / "other")
    clips = [replace(e, clip=replace(e.clip, clip_id=clip_id("f" * 64, "v0-0", e.clip.start_s))) for e in cohort[0][1]]
    commit(other, [(replace(cohort[0][0], source_sha256="f" * 64, clip_count=2), clips[:2])])
    export_parquet(Store(other), "enc1", tmp_path / "out")
    before = rows_of(stored)

    with pytest.raises(InvalidInput, match="from another file"):
        import_parquet(Store(stored), tmp_path / "out")

    assert rows_of(stored) == before


def test_clips_without_their_video_are_not_exported(stored, tmp_path):
    lancedb.connect(str(stored.store)).open_table("videos").delete("video_id = 'v0-0'")
    with pytest.raises(StateError, match="have no video"):
        export_parquet(Store(stored), "enc1", tmp_path / "out")


def spoiled(table, column, value, row=3):
    field = table.schema.field(column)
    values = table.column(column).to_pylist()
    values[row] = value
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))


@pytest.mark.parametrize(
    ("file", "spoil", "says"),
    [
        ("clips", lambda t: spoiled(t, "vector", [float("nan")] * 8), "finite vectors"),
        ("clips", lambda t: spoiled(t, "vector", [float("inf")] + [0.0] * 7), "finite vector"),
        ("clips", lambda t: spoiled(t, "vector", [2.0] * 8), "unit length"),
        ("clips", lambda t: spoiled(t, "clip_id", t.column("clip_id")[0].as_py()), "a clip twice"),
        ("clips", lambda t: spoiled(t, "patient_id", "somebody"), "another patient"),
        ("clips", lambda t: spoiled(t, "video_id", "unknown"), "expected the id"),
        ("clips", lambda t: spoiled(t, "clip_id", "odd 'id"), "expected the id"),
        ("clips", lambda t: spoiled(t, "start_s", float("nan")), "to begin after"),
        ("clips", lambda t: spoiled(t, "clip_index", -1), "a whole number"),
        ("videos", lambda t: spoiled(t, "patient_id", ""), "as patient_id of a video"),
        ("clips", lambda t: t.drop_columns(["crop"]), "expected a folder with"),
        ("clips", lambda t: t.replace_schema_metadata({}), "does not say which encoder"),
        ("clips", lambda t: t.replace_schema_metadata({b"semiome": b"[]"}), "does not say which encoder"),
        ("videos", lambda t: spoiled(t, "label", "both"), "expected TLE or exTLE"),
        ("videos", lambda t: spoiled(t, "video_id", t.column("video_id")[0].as_py()), "a video twice"),
        ("videos", lambda t: spoiled(t, "recorded_at", "yesterday"), "recorded_at"),
        ("videos", lambda t: spoiled(t, "semiology", [None]), "semiology"),
        ("videos", lambda t: spoiled(t, "semiology", ["<script>"]), "semiology"),
        ("videos", lambda t: spoiled(t, "duration_s", float("nan")), "duration_s"),
        ("videos", lambda t: spoiled(t, "clip_count", -1), "clip_count"),
        ("videos", lambda t: spoiled(t, "camera", "a room"), "camera"),
        ("videos", lambda t: spoiled(t, "split", "a\nb"), "split"),
        ("videos", lambda t: spoiled(t, "crop", "all of it"), "crop"),
        ("videos", lambda t: spoiled(t, "source_sha256", "0" * 63), "source_sha256"),
        ("clips", lambda t: spoiled(t, "valid_seconds", 0.0), "to last at most"),
        ("clips", lambda t: spoiled(t, "valid_seconds", 11.0), "to last at most"),
        ("clips", lambda t: spoiled(t, "source_sha256", "1" * 64), "expected the id"),
    ],
)
def test_what_no_store_may_hold_is_refused(stored, tmp_path, file, spoil, says):
    export_parquet(Store(stored), "enc1", tmp_path / "out")
    path = tmp_path / "out" / f"{file}.parquet"
    pq.write_table(spoil(pq.read_table(path)), path)

    with pytest.raises(InvalidInput, match=says):
        import_parquet(Store(Workspace(tmp_path / "other")), tmp_path / "out")


def test_a_truncated_export_and_no_export_are_named(stored, tmp_path):
    export_parquet(Store(stored), "enc1", tmp_path / "out")
    path = tmp_path / "out" / "clips.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    for folder in (tmp_path / "out", tmp_path / "nowhere"):
        with pytest.raises(InvalidInput, match="expected a folder with"):
            import_parquet(Store(stored), folder)


def test_the_projector_gets_whole_videos_and_what_they_are(stored, cohort, tmp_path):
    commit(stored, [(replace(cohort[0][0], camera="room-1"), cohort[0][1])])

    moved = export_projector(Store(stored), "enc1", tmp_path / "out", clips=30)

    assert (moved.clips, moved.videos) == (28, 7)
    config = text_format.Parse((tmp_path / "out" / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    vectors = np.loadtxt(tmp_path / "out" / embedding.tensor_path, delimiter="\t", dtype=np.float32)
    with (tmp_path / "out" / embedding.metadata_path).open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    known = {e.clip.clip_id: (e, video) for video, clips in cohort for e in clips}
    assert len(rows) == len(vectors) == 28
    for row, vector in zip(rows, vectors, strict=True):
        embedded, video = known[row["clip_id"]]
        np.testing.assert_allclose(vector, embedded.vector, atol=1e-6)
        assert (row["patient_id"], row["label"]) == (video.patient_id, video.label or "unlabelled")
    assert json.dumps(rows).count("unlabelled") == sum(row["label"] == "unlabelled" for row in rows)
    with pytest.raises(InvalidInput, match="no whole video"):
        export_projector(Store(stored), "enc1", tmp_path / "none", clips=3)
