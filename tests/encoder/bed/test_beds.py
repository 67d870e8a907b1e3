"""Cropping to the bed: the policy's arithmetic, what is done where no bed is found, and the whole way on real films."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoder.bed.crop import CropPolicy, UsedCrop, follows, used_crop
from encoder.bed.detector import FoundBed, detector_id, load_detector
from encoder.job.bed_survey import survey, write_survey
from encoder.job.pipeline import EncodeOptions, encode
from encoder.job.report import Refusal
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import current_encoder, install_encoder
from encoder.model.identity import with_crop
from encoder.picture import Crop
from encoder.video.decoder import Decoder
from encoder.video.writer import write_h264
from index.errors import DamagedData, InvalidInput
from index.tables.schema import vectors_of
from index.tables.store import Store
from semiome.shipped import shipped_bed_detector
from semiome.simulation.beds import bed_of, draw_bedroom, judged, overlap
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.signs import move

DETECTOR = shipped_bed_detector()
SIZE = (320, 240)
WITH_BED = [seed for seed in range(2_000_000, 2_000_030) if draw_bedroom(seed).bed is not None]
WITHOUT = [seed for seed in range(2_000_000, 2_000_030) if draw_bedroom(seed).bed is None]
COLUMNS = ("file_name", "patient_id", "video_id", "camera", "recorded_at", "crop")


def film(folder, name, seed, size=SIZE):
    """A film of a bedroom in which nobody moves, with the noise of a camera."""
    room, random = draw_bedroom(seed, *size), np.random.default_rng(0)
    noise = [random.integers(0, 12, room.picture.shape) for _ in range(29)]
    noisy = [np.clip(room.picture + one, 0, 255).astype(np.uint8) for one in noise]
    write_h264(folder / name, [room.picture, *noisy], 15, *size)
    return room.bed


def with_policy(encoder, **policy):
    return with_crop(encoder, CropPolicy(detector_id(DETECTOR), **policy), DETECTOR)


def crops_of(workspace, encoder):
    return {name: used_crop(video.crop) for name, video in Store(workspace).encoded(encoder.encoder_id).items()}


def run(manifest, encoder, workspace, **options):
    return encode(read_manifest(manifest), Embedder(encoder), Store(workspace), EncodeOptions(**options))


def test_the_shipped_detector_finds_beds_of_rooms_it_has_not_seen():
    """From any corner of the room, half out of the picture or not; measured over 500 rooms: .77."""
    found = judged(DETECTOR, range(3_000_000, 3_000_200))

    assert found["mean_overlap"] >= 0.7
    assert found["mistaken"] <= 0.1


def test_it_finds_every_bed_of_the_demos_rooms():
    """None of which it has seen; measured over 60 recordings: .87 in the mean, .71 at least."""
    detector, policy = load_detector(DETECTOR, confidence=0.5), CropPolicy("d", margin=0.0)
    overlaps = []
    for recording in simulate_cohort(12, 2, seed=1):
        random = np.random.default_rng(recording.seed)
        picture = next(recording.scene.video(move(list(recording.events), 1.0, FPS, random), random))
        found = policy.crop(detector.beds(picture), *SIZE)
        overlaps.append(0.0 if found is None else overlap(found, bed_of(recording.scene.camera, *SIZE)[1]))

    assert np.mean(overlaps) >= 0.8
    assert min(overlaps) >= 0.6


def test_a_box_and_its_overlap():
    assert overlap(Crop(0, 0, 10, 10), Crop(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap(Crop(0, 0, 10, 10), Crop(20, 20, 5, 5)) == 0


sides = st.floats(-50, 400)


@given(left=sides, top=sides, width=st.floats(1, 300), height=st.floats(1, 300), margin=st.floats(0, 1))
def test_the_crop_is_the_bed_and_its_margin_within_the_picture(left, top, width, height, margin):
    bed = FoundBed(left, top, left + width, top + height, 0.9)
    crop = CropPolicy("d", margin=margin).crop([bed], *SIZE)
    if crop is None:  # a strip that no encoder could use
        seen = [min(left + (1 + margin) * width, 320) - max(left - margin * width, 0)]
        seen += [min(top + (1 + margin) * height, 240) - max(top - margin * height, 0)]
        assert min(seen) < 17
        return
    assert 0 <= crop.x < crop.x + crop.w <= 320
    assert 0 <= crop.y < crop.y + crop.h <= 240
    assert crop.x <= max(left, 0) + 0.5
    assert crop.x + crop.w >= min(left + width, 320) - 0.5
    assert crop.w <= (1 + 2 * margin) * width + 1


def test_the_surest_bed_counts_and_an_unsure_one_is_none():
    policy = CropPolicy("d", confidence=0.6, margin=0.0)
    small, large = FoundBed(10, 10, 60, 50, 0.9), FoundBed(0, 0, 300, 200, 0.7)

    assert policy.crop([large, small], *SIZE) == Crop(10, 10, 50, 40)
    assert policy.crop([replace(large, confidence=0.59)], *SIZE) is None
    assert policy.crop([], *SIZE) is None


@pytest.mark.parametrize(
    "used",
    [
        UsedCrop(),
        UsedCrop(None, "whole"),
        UsedCrop(Crop(1, 2, 30, 40), "bed", SIZE),
        UsedCrop(Crop(0, 0, 320, 240), "camera", SIZE),
        UsedCrop(Crop(5, 6, 70, 80), "manifest", SIZE),
    ],
    ids=str,
)
def test_what_was_used_is_read_back_from_the_store_as_it_was(used):
    assert used_crop(str(used)) == used
    assert follows(str(used), None, CropPolicy("d")) == (used.origin not in {"", "manifest"})
    assert follows(str(used), None, None) == (used == UsedCrop())
    assert follows(str(used), Crop(5, 6, 70, 80), CropPolicy("d")) == (used.origin == "manifest")
    assert not follows(str(used), Crop(1, 2, 30, 40), CropPolicy("d"))


def test_policies_out_of_bounds_are_refused():
    for wrong in ({"confidence": 0.0}, {"margin": -0.1}, {"margin": 1.5}, {"no_bed": "guess"}):
        with pytest.raises(InvalidInput, match="expected"):
            CropPolicy("d", **wrong)


def test_the_bed_of_the_first_picture_crops_the_whole_video(hospital, workspace, tiny_encoder):
    manifest = hospital(("a.mp4", "p1", "v1"))
    bed = film(manifest.parent, "a.mp4", WITH_BED[0])
    install_encoder(with_policy(tiny_encoder, margin=0.0), workspace.encoders)
    encoder = current_encoder(workspace.encoders)

    run(manifest, encoder, workspace)

    (used,) = crops_of(workspace, encoder).values()
    assert (used.origin, used.picture) == ("bed", SIZE)
    assert overlap(used.box, bed) >= 0.6
    with Decoder(4, 32) as decoder:
        frames = [clip.frames for clip in decoder.decode(manifest.parent / "a.mp4", used.box)]
        first = decoder.first_picture(manifest.parent / "a.mp4")
    assert first.shape == (240, 320, 3)
    # In some rooms the noise is so small that the clip counts as still: then it is stored and not searched.
    stored = vectors_of(Store(workspace).clip_table(encoder.encoder_id).to_table(["vector"]))
    np.testing.assert_allclose(stored, Embedder(tiny_encoder).embed(frames), atol=1e-6)
    assert Store(workspace).videos()["v1"].crop == ""  # the manifest fixed none


def test_a_bed_that_was_moved_is_looked_for_where_each_part_of_a_recording_begins(hospital, workspace, tiny_encoder):
    folder = hospital().parent
    rooms = [draw_bedroom(seed, *SIZE) for seed in (WITH_BED[0], WITH_BED[4])]
    random = np.random.default_rng(0)
    pictures = [
        np.clip(room.picture + random.integers(0, 12, room.picture.shape), 0, 255).astype(np.uint8)
        for room in rooms
        for _ in range(12 * 5)
    ]
    write_h264(folder / "night.mp4", pictures, 5, *SIZE)
    manifest = folder / "manifest.csv"
    manifest.write_text(
        "file_name,patient_id,video_id,start_s,end_s\nnight.mp4,p1,evening,0,11\nnight.mp4,p1,morning,12.5,23.5\n"
    )
    encoder = with_policy(tiny_encoder, margin=0.0)

    assert run(manifest, encoder, workspace).refused == []

    crops = crops_of(workspace, encoder)
    for name, room in zip(("evening", "morning"), rooms, strict=True):
        assert overlap(crops[name].box, room.bed) > 0.6
        assert overlap(crops[name].box, next(other.bed for other in rooms if other is not room)) < 0.5


def test_a_cropped_video_is_not_decoded_again_and_whole_pictures_stand_beside_it(
    hospital, workspace, tiny_encoder, monkeypatch
):
    manifest = hospital(("a.mp4", "p1", "v1"))
    film(manifest.parent, "a.mp4", WITH_BED[0])
    encoder = with_policy(tiny_encoder)
    run(manifest, encoder, workspace)
    run(manifest, tiny_encoder, workspace)
    monkeypatch.setattr(Decoder, "decode", None)

    again = [run(manifest, one, workspace) for one in (encoder, tiny_encoder)]

    assert [report.clips_skipped for report in again] == [1, 1]
    assert crops_of(workspace, tiny_encoder)["v1"] == UsedCrop()


def test_the_policy_is_part_of_the_encoder_and_goes_with_its_folder(tmp_path, tiny_encoder):
    ids = {
        tiny_encoder.encoder_id,
        *(
            with_policy(tiny_encoder, **one).encoder_id
            for one in ({}, {"margin": 0.2}, {"confidence": 0.6}, {"no_bed": "whole"})
        ),
    }
    assert len(ids) == 5

    install_encoder(with_policy(tiny_encoder), tmp_path)
    loaded = current_encoder(tmp_path)
    assert loaded.crop == with_policy(tiny_encoder).crop
    assert loaded.detector_folder.is_relative_to(tmp_path)
    assert loaded.bed_detector().beds(draw_bedroom(WITH_BED[0], *SIZE).picture)

    (loaded.detector_folder / "config.json").write_text("{}")
    with pytest.raises(DamagedData, match="its files were changed"):
        loaded.bed_detector()
    (loaded.detector_folder.parent / "crop.json").write_text('{"detector_id": "d", "margin": "wide"}')
    with pytest.raises(InvalidInput, match=r"crop\.json can't be read"):
        current_encoder(tmp_path)


def test_without_a_bed_a_video_is_refused_by_name_unless_the_policy_says_whole(hospital, workspace, tiny_encoder):
    manifest = hospital(("a.mp4", "p1", "v1"), ("b.mp4", "p2", "v2"))
    film(manifest.parent, "a.mp4", WITHOUT[0])
    film(manifest.parent, "b.mp4", WITH_BED[0])

    report = run(manifest, with_policy(tiny_encoder), workspace)
    whole = with_policy(tiny_encoder, no_bed="whole")
    run(manifest, whole, workspace)

    reason = "no bed was found in its first frame: give it a crop in the manifest, or another policy"
    assert (report.clips_written, report.refused) == (1, [Refusal("v1", "a.mp4", reason)])
    assert crops_of(workspace, whole)["v1"] == UsedCrop(None, "whole")
    assert crops_of(workspace, whole)["v2"].origin == "bed"


def test_the_last_box_of_the_camera_is_used_whoever_is_decoded_first(hospital, tmp_path, workspace, tiny_encoder):
    """In time: v2 has no bed, v1 and v3 are earlier, v4 is later; v5 is another camera's, v6 of another size, v7 can't
    be read, and v8's box is not in its picture."""
    rows = [
        ("a.mp4", "p1", "v1", "c1", "2024-01-01", ""),
        ("b.mp4", "p1", "v2", "c1", "2024-01-03", ""),
        ("c.mp4", "p1", "v3", "c1", "2024-01-02", ""),
        ("d.mp4", "p1", "v4", "c1", "2024-01-04", ""),
        ("e.mp4", "p1", "v5", "c2", "2024-01-02", ""),
        ("f.mp4", "p1", "v6", "c1", "2024-01-02T12:00:00", ""),
        ("empty.mp4", "p1", "v7", "c1", "2024-01-02T13:00:00", ""),
        ("h.mp4", "p1", "v8", "c1", "2024-01-02T14:00:00", "200 100 300 100"),
    ]
    manifest = hospital(*rows, columns=COLUMNS)
    for row, seed in zip(rows, (WITH_BED[0], WITHOUT[0], *WITH_BED[1:7]), strict=True):
        if row[0] != "empty.mp4":
            film(manifest.parent, row[0], seed, (160, 120) if row[0] == "f.mp4" else SIZE)
    encoder = with_policy(tiny_encoder, no_bed="camera")

    report = run(manifest, encoder, workspace, decoders=3)

    assert {refusal.video_id: refusal.reason for refusal in report.refused} == {
        "v7": "empty file",
        "v8": "crop 200 100 300 100 reaches outside the picture of 320 x 240 pixels",
    }
    crops = crops_of(workspace, encoder)
    assert crops["v2"] == UsedCrop(crops["v3"].box, "camera", SIZE)
    assert {crops[video].origin for video in ("v1", "v3", "v4", "v5", "v6")} == {"bed"}


def test_a_camera_is_known_from_the_store_and_from_fixed_crops(hospital, workspace, tiny_encoder):
    encoder = with_policy(tiny_encoder, no_bed="camera")
    first = hospital(
        ("a.mp4", "p1", "v1", "c1", "2024-01-01", ""), ("h.mp4", "p1", "v0", "c4", "", "9 8 70 60"), columns=COLUMNS
    )
    film(first.parent, "a.mp4", WITH_BED[0])
    film(first.parent, "h.mp4", WITH_BED[1])
    run(first, encoder, workspace)
    rows = [
        ("b.mp4", "p1", "v2", "c1", "2024-01-02", ""),  # c1 is known from the night before
        ("c.mp4", "p1", "v3", "c2", "2024-01-02", "20 30 100 90"),
        ("d.mp4", "p1", "v4", "c2", "2024-01-03", ""),
        ("e.mp4", "p1", "v5", "c3", "2024-01-03", ""),  # nothing is known of c3
        ("g.mp4", "p1", "v6", "", "2024-01-03", ""),
        ("i.mp4", "p1", "v7", "c4", "2024-01-03", ""),  # a fixed crop of c4 is stored
    ]
    second = hospital(*rows, columns=COLUMNS)
    for row, seed in zip(rows, (WITHOUT * 6)[:6], strict=True):
        film(second.parent, row[0], seed)

    looked = survey(read_manifest(second), encoder, Store(workspace), decoders=2)
    report = run(second, encoder, workspace)

    crops = crops_of(workspace, encoder)
    assert crops["v2"] == UsedCrop(crops["v1"].box, "camera", SIZE)
    assert crops["v3"] == UsedCrop(Crop(20, 30, 100, 90), "manifest", SIZE)
    assert crops["v7"] == UsedCrop(Crop(9, 8, 70, 60), "camera", SIZE)
    assert {one.row.video_id: one.crop for one in looked if not one.reason} == {
        video: used.box for video, used in crops.items() if video not in {"v0", "v1"}
    }
    assert crops["v4"] == UsedCrop(Crop(20, 30, 100, 90), "camera", SIZE)
    assert {refusal.video_id: refusal.reason.split(":")[0] for refusal in report.refused} == {
        "v5": "no bed was found in its first frame, and none is known of camera c3",
        "v6": "no bed was found in its first frame",
    }


def test_a_survey_shows_every_video_and_writes_a_manifest_with_the_boxes(hospital, tmp_path, workspace, tiny_encoder):
    rows = [
        ("a.mp4", "p1", "v1", "c1", "", ""),
        ("b.mp4", "p1", "v2", "c1", "", ""),
        ("c.mp4", "p1", "v3", "c0", "", "20 30 100 90"),
        ("empty.mp4", "p1", "v4", "c9", "", ""),
    ]
    manifest = hospital(*rows, columns=COLUMNS)
    film(manifest.parent, "a.mp4", WITH_BED[0])
    film(manifest.parent, "b.mp4", WITHOUT[0])
    film(manifest.parent, "c.mp4", WITHOUT[1])

    found = survey(read_manifest(manifest), with_policy(tiny_encoder), Store(workspace), decoders=2)
    boxes, sheet = write_survey(found, tmp_path / "run")

    assert [(one.row.video_id, one.kind) for one in found] == [
        ("v1", "bed"),
        ("v2", "refused"),
        ("v3", "manifest"),
        ("v4", "refused"),
    ]
    written = read_manifest(boxes, manifest.parent)
    assert [row.crop for row in written.rows] == [found[0].crop, None, Crop(20, 30, 100, 90), None]
    picture = np.asarray(Image.open(sheet).convert("RGB"))
    # Sorted by camera: v3 of c0 first, its box at three quarters of its size, in the manifest's blue.
    x, y = 8 + round(20 * 0.75), 80 + round(30 * 0.75)
    assert tuple(picture[y, x]) == (90, 170, 250)
    assert (picture == (70, 200, 120)).all(-1).sum() > 200  # the bed's green
    with pytest.raises(InvalidInput, match="takes whole pictures"):
        survey(read_manifest(manifest), tiny_encoder, Store(workspace), decoders=1)


def test_a_picture_that_no_detector_can_take_has_no_bed_or_is_refused(hospital, tmp_path, workspace, tiny_encoder):
    manifest = hospital(("a.mp4", "p1", "v1"), ("b.mp4", "p2", "v2"))
    flat = np.full((8, 320, 3), 90, np.uint8)
    write_h264(manifest.parent / "a.mp4", [flat] * 30, 15, 320, 8)
    film(manifest.parent, "b.mp4", WITH_BED[0])

    report = run(manifest, with_policy(tiny_encoder), workspace)

    assert (report.clips_written, [refusal.video_id for refusal in report.refused]) == (1, ["v1"])


def test_the_bed_of_a_picture_is_where_its_corners_are():
    from semiome.simulation.render import Camera

    above = Camera((0.0, -0.01, 5.55), (0.0, 0.0, 0.0), 1.0)  # 5 m over the mattress, looking down
    shown, box = bed_of(above, 320, 240)
    assert shown == 1.0
    assert (box.w, box.h) == pytest.approx((1.0 / 4.9 * 320, 2.15 / 4.9 * 320), abs=2)
    assert bed_of(replace(above, target=(0.0, 0.0, 9.0)), 320, 240) == (0.0, None)  # the ceiling


def test_a_detector_learns_where_a_bed_is():
    from encoder.bed.small_detector import detection_loss
    from trainer.bed_detector import train_detector

    rooms = [draw_bedroom(seed) for seed in range(8)]
    pictures, beds = np.stack([room.picture for room in rooms]), [room.bed for room in rooms]

    losses = [
        detection_loss(train_detector(pictures, beds, steps, 8, seed=0), pictures, beds).item() for steps in (1, 200)
    ]
    assert losses[1] < 0.8 * losses[0]


def test_the_card_and_the_preprocessing_say_how_is_cropped(tmp_path, tiny_encoder):
    install_encoder(with_policy(tiny_encoder), tmp_path)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())

    assert f"the bed that detector {detector_id(DETECTOR)} finds" in (folder / "README.md").read_text()
    said = json.loads((folder / "preprocessor_config.json").read_text())["semiome"]["crop"]
    assert said == {"detector_id": detector_id(DETECTOR), "confidence": 0.5, "margin": 0.1, "no_bed": "refuse"}
