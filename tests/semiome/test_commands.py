"""The command, as its user meets it: streams, JSON, exit codes, the whole way on real files."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest

from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from encoder.video.writer import write_h264
from index.errors import (
    DamagedData,
    EncoderMismatch,
    InvalidInput,
    Locked,
    NotFound,
    SemiomeError,
    ServiceError,
    StateError,
    VideoRefused,
)
from index.tables.store import Store
from index.workspace import Workspace, current, set_current
from semiome.__main__ import exit_code
from semiome.commands.models.head import labelled_clips
from semiome.console import Screen
from semiome.simulation.beds import draw_bedroom
from tests import forge
from tests.conftest import DATA, WIDTH, commit, make_video, tiny_architecture
from tests.forge import Forged
from tests.waiting import PATIENCE_S


def semiome(*arguments, cwd):
    return forge.run(*arguments, cwd=cwd)


def result_of(done, code=0):
    """The one JSON object on stdout."""
    assert done.returncode == code, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout
    return json.loads(lines[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a labelled cohort of test videos was encoded, a head trained, an index built."""
    folder = tmp_path_factory.mktemp("hospital")
    names = ("h264_25fps.mp4", "mjpeg.avi", "vp9.webm", "exactly_10s.mp4", "h264_gray.mp4", "h264_vfr.mp4")
    rows = ["file_name,patient_id,video_id,label,split"]
    for i, name in enumerate(names):
        (folder / name).write_bytes((DATA / "videos" / name).read_bytes())
        rows.append(f"{name},p{i},v{i},{('TLE', 'exTLE')[i % 2]},{'test' if i > 3 else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    bad = [*rows, "corrupt_middle.mp4,p9,v9,,"]
    (folder / "corrupt_middle.mp4").write_bytes((DATA / "videos" / "corrupt_middle.mp4").read_bytes())
    (folder / "with_bad.csv").write_text("\n".join(bad))
    return folder


def test_the_whole_way(folder):
    encoded = result_of(semiome("encode", "manifest.csv", "--json", cwd=folder))
    assert (encoded["clips_written"], encoded["clips_skipped"], encoded["refused"]) == (12, 0, [])
    assert encoded["encoder_trained"] is False
    assert encoded["seconds"]["model"] > 0

    again = semiome("encode", "with_bad.csv", "--json", cwd=folder)
    report = result_of(again, code=3)
    assert (report["clips_written"], report["clips_skipped"]) == (0, 12)
    assert report["refused"] == [
        {"video_id": "v9", "file_name": "corrupt_middle.mp4", "reason": "damaged picture data about 7.1 s in"}
    ]
    assert report["encoder_id"] == encoded["encoder_id"]
    assert "random weights" in again.stderr

    head = result_of(semiome("head", "train", "--json", cwd=folder))
    assert (head["patients"], head["held_out_patients"], head["clips"]) == (4, 2, 8)
    built = result_of(semiome("index", "build", "--json", cwd=folder))
    assert (built["clips"], built["videos"], built["recall"], built["published"]) == (12, 6, 1.0, True)
    listed = result_of(semiome("index", "list", "--json", cwd=folder))
    assert listed["serving"] == built["generation"]
    encoders = result_of(semiome("encoder", "list", "--json", cwd=folder))
    assert encoders == {
        "encoders": [encoded["encoder_id"]],
        "encoder_id": encoded["encoder_id"],
        "kinds": {encoded["encoder_id"]: "random"},
        "backbones": {encoded["encoder_id"]: "timesformer"},
    }

    server = Forged("serve", "--port", "0", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)
    try:
        address = json.loads(server.stdout.readline())["address"]
        found = result_of(
            semiome(
                "search", "--video", "v4", "--group-by", "video", "-k", "9", "--server", address, "--json", cwd=folder
            )
        )
        assert sorted(n["video_id"] for n in found["neighbours"]) == ["v0", "v1", "v2", "v3", "v5"]
        assert "p4" not in {n["patient_id"] for n in found["neighbours"]}
        assert (found["generation"], found["head_id"]) == (built["generation"], head["head_id"])

        np.save(folder / "q.npy", np.ones(768, np.float32))
        vector = ("--vector", "q.npy", "--encoder", encoded["encoder_id"], "--server", address, "--json")
        assert len(result_of(semiome("search", *vector, cwd=folder))["neighbours"]) == 8

        judged = result_of(
            semiome("classify", "--video", "v4", "--video", "nobody", "--server", address, "--json", cwd=folder), code=3
        )
        assert [verdict["code"] for verdict in judged["verdicts"]] == ["OK", "NOT_FOUND"]
        assert judged["verdicts"][0]["label"] in {"TLE", "exTLE"}

        ask_in_other_ways(folder, address)

        shown = semiome("search", "--video", "v4", "--server", address, cwd=folder)
        assert "similarity" in shown.stdout
        assert "random weights" in shown.stderr
        shown = semiome("classify", "--video", "v4", "--server", address, cwd=folder)
        assert "research use only" in shown.stdout

        refused = semiome("search", "--clip", "x", "--server", address, "--json", cwd=folder)
        assert result_of(refused, code=2)["error"]["type"] == "ServiceError"
        for arguments in (("--video", "v4", "-k", "0"), ("--video", "v4", "-k", "1001"), ("--video", "v4", "-k", "-3")):
            refused = semiome("search", *arguments, "--server", address, cwd=folder)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert "expected" in refused.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0


def ask_in_other_ways(folder, address):
    """A file, examples, whole videos, exactly, and what is new: each as a user would type it."""
    asked = ("--server", address, "--json")
    name = (folder / "manifest.csv").read_text().splitlines()[1].split(",")[0]
    known = semiome("search", "--file", name, *asked, cwd=folder)
    found = result_of(known)
    assert (found["known_as"], found["patient_known"], found["encoder_kind"]) == ("v0", True, "random")
    assert "p0" not in {n["patient_id"] for n in found["neighbours"]}
    shutil.copy(DATA / "videos" / "h264_ntsc.mp4", folder / "fresh.mp4")
    stranger = semiome("search", "--file", "fresh.mp4", *asked, cwd=folder)
    assert result_of(stranger)["patient_known"] is False
    assert "not known whose video this is" in stranger.stderr
    named = result_of(semiome("search", "--file", "fresh.mp4", "--patient", "p1", *asked, cwd=folder))
    assert "p1" not in {n["patient_id"] for n in named["neighbours"]}

    refined = result_of(semiome("search", "--like", "v4", "--unlike", "v1", *asked, cwd=folder))
    assert refined["neighbours"]
    aligned = result_of(semiome("search", "--video", "v4", "--aligned", "--exact", *asked, cwd=folder))
    assert sorted(n["video_id"] for n in aligned["neighbours"]) == ["v0", "v1", "v2", "v3", "v5"]
    for wrong in (("--like", "v4", "--video", "v1"), (), ("--new", "yesterday")):
        assert result_of(semiome("search", *wrong, *asked, cwd=folder), code=2)["error"]["type"] == "InvalidInput"

    first = result_of(semiome("classify", "--new", "last", *asked, cwd=folder))
    assert [one["id"] for one in first["verdicts"]] == ["v0", "v1", "v2", "v3", "v4", "v5"]
    assert {one["trained_on_this_patient"] for one in first["verdicts"]} == {True, False}
    assert all(one["set"] is None for one in first["verdicts"])
    assert result_of(semiome("classify", "--new", "last", *asked, cwd=folder))["verdicts"] == []
    assert len(result_of(semiome("search", "--new", "last", "-k", "1", *asked, cwd=folder))["new"]) == 6
    assert result_of(semiome("search", "--new", "2030-01-01", *asked, cwd=folder))["new"] == []
    words = semiome("classify", "--video", "v0", "--video", "v4", "--server", address, cwd=folder)
    assert "learned from this patient" in words.stdout
    assert "not calibrated" in words.stdout


def encode_process(folder, workspace):
    command = ("encode", "manifest.csv", "-w", workspace, "--batch", "1")
    return Forged(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)


def rows_of(workspace):
    stored = Store(Workspace(workspace)).clips(current(Workspace(workspace).encoders))
    return {clip: vector.tolist() for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_job_that_was_ended_at_any_moment_is_finished_by_the_next(folder, tmp_path, number):
    began = time.monotonic()
    undisturbed = encode_process(folder, tmp_path / "undisturbed")
    undisturbed.communicate()
    whole = time.monotonic() - began
    for moment in (0.2 * whole, 0.5 * whole, 0.8 * whole):
        process = encode_process(folder, tmp_path / "ended")
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode in {-number, 130, 0}
            assert "Traceback" not in said

    last = encode_process(folder, tmp_path / "ended")
    last.communicate()

    assert last.returncode == 0
    ended, wanted = rows_of(tmp_path / "ended"), rows_of(tmp_path / "undisturbed")
    assert ended.keys() == wanted.keys()
    for clip, vector in wanted.items():
        assert ended[clip] == pytest.approx(vector, abs=1e-6)


def test_a_dry_run_says_what_would_be_encoded_and_writes_nothing_and_what_was_refused_is_a_manifest(folder, tmp_path):
    videos, place = tmp_path / "videos", tmp_path / "ws"
    shutil.copytree(folder, videos, ignore=shutil.ignore_patterns("workspace*"))
    rows = (folder / "manifest.csv").read_text().splitlines()
    (videos / "manifest.csv").write_text(
        "\n".join([*rows, "late.mp4,late-patient,late,TLE" + "," * (rows[0].count(",") - 3)])
    )
    encode = ("encode", "videos/manifest.csv", "-w", str(place), "--json")

    forecast = result_of(semiome(*encode, "--dry-run", cwd=tmp_path), code=3)
    assert not (place / "runs").exists()
    assert not (place / "store").exists()
    done = result_of(semiome(*encode, cwd=tmp_path), code=3)

    assert forecast["refused"] == done["refused"]
    assert [refusal["video_id"] for refusal in done["refused"]] == ["late"]
    assert (forecast["videos"], forecast["clips"]) == (done["videos_written"], done["clips_written"])
    assert 0.1 < forecast["seconds"] * forecast["clips_per_s"] / forecast["clips"] < 10
    stored = sum(path.stat().st_size for path in (place / "store").rglob("*.lance"))
    assert stored / 3 < forecast["store_bytes"] < 3 * stored

    shutil.copy(DATA / "videos" / "short_7s.mp4", videos / "late.mp4")
    again = ("encode", done["refused_csv"], "--media-root", str(videos), "-w", str(place), "--json")
    mended = result_of(semiome(*again, cwd=tmp_path))
    assert (mended["videos_written"], mended["refused"], mended["refused_csv"]) == (1, [], "")
    second = result_of(semiome("encode", "videos/manifest.csv", "-w", str(place), "--dry-run", "--json", cwd=tmp_path))
    assert (second["clips"], second["seconds"]) == (0, 0.0)
    assert second["clips_stored"] == done["clips_written"] + mended["clips_written"]


def test_importing_original_weights_and_encoding_with_them(folder, tmp_path):
    checkpoint = DATA / "timesformer" / "tiny_96d_12f.pyth"
    done = semiome("encoder", "import", checkpoint, "--heads", "4", "-w", tmp_path / "w", "--json", cwd=folder)
    imported = result_of(done)
    assert (imported["num_frames"], imported["image_size"], imported["trained"]) == (12, 64, True)
    assert "CC-BY-NC-4.0" in done.stderr

    encoded = result_of(semiome("encode", "manifest.csv", "-w", tmp_path / "w", "--json", cwd=folder))
    assert (encoded["encoder_id"], encoded["clips_written"]) == (imported["encoder_id"], 12)


@pytest.mark.slow
def test_cropping_to_the_bed(tmp_path):
    seeds = range(2_000_000, 2_000_030)
    beds = {draw_bedroom(seed, 320, 240).bed is None: draw_bedroom(seed, 320, 240).picture for seed in seeds}
    for name, without in (("a", False), ("b", True)):
        write_h264(tmp_path / f"{name}.mp4", [beds[without]] * 30, 15, 320, 240)
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id,camera\na.mp4,p1,v1,c1\nb.mp4,p2,v2,c1\n")
    whole = result_of(semiome("encoder", "init", "--json", cwd=tmp_path))
    nothing = semiome("beds", "m.csv", cwd=tmp_path)

    done = semiome("encoder", "crop", "--crop-detector", "simulated", "--margin", "0.2", "--json", cwd=tmp_path)
    made = result_of(done)
    found = result_of(semiome("beds", "m.csv", "--json", cwd=tmp_path), code=3)
    encoded = result_of(semiome("encode", "m.csv", "--json", cwd=tmp_path), code=3)
    boxes = semiome("encode", found["boxes_csv"], "--media-root", tmp_path, "--json", cwd=tmp_path)

    assert (nothing.returncode, "semiome encoder crop" in nothing.stderr) == (2, True)
    assert "simulated rooms only" in done.stderr
    assert made["crop"]["margin"] == 0.2
    assert made["encoder_id"] != whole["encoder_id"]
    assert [(video["video_id"], video["kind"]) for video in found["videos"]] == [("v1", "bed"), ("v2", "refused")]
    assert (tmp_path / found["sheets"][0]).read_bytes().startswith(b"\x89PNG")
    assert (encoded["encoder_id"], encoded["clips_written"]) == (made["encoder_id"], 1)
    assert [refusal["video_id"] for refusal in encoded["refused"]] == ["v2"]
    # Now a fixed crop, the same box: another way to say it, and encoded anew.
    assert result_of(boxes, code=3)["clips_embedded"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--crop-detector", "."), "config.json is missing"),
        (("--crop-detector", "maskrcnn"), "needs torchvision 0.28 beside this torch"),
        (("--crop-detector", "simulated", "--margin", "2"), "expected a confidence"),
        (("--crop-detector", "simulated", "--no-bed", "guess"), "expected refuse, whole, camera"),
        (("--crop-detector", "simulated", "--weights", "w.pth"), "for maskrcnn only"),
    ],
)
def test_a_crop_that_can_not_be_is_wrong_input_and_installs_nothing(tmp_path, arguments, says):
    place = Workspace(tmp_path / "workspace")
    install_encoder(new_encoder(tiny_architecture(), 0), place.encoders)
    before = current(place.encoders)

    done = semiome("encoder", "crop", *arguments, cwd=tmp_path)

    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert current(place.encoders) == before


@pytest.mark.parametrize("name", ["bad_missing_key.pyth", "bad_pickle_payload.pyth"])
def test_bad_weights_are_wrong_input_and_install_nothing(tmp_path, name):
    done = semiome("encoder", "import", DATA / "timesformer" / name, "--heads", "4", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("encode", "absent.csv"), 2, "the manifest absent.csv can't be read"),
        (("manifest", "check", "absent.csv"), 2, "the manifest absent.csv can't be read"),
        (("head", "train"), 4, "semiome encode"),
        (("index", "build"), 4, "semiome encode"),
        (("serve",), 4, "no store yet"),
        (("serve", "--host", "0.0.0.0"), 2, "loopback"),
        (("search",), 2, "exactly one of --clip, --video, --file, --vector, --like and --new"),
        (("search", "--video", "v", "--group-by", "room"), 2, "--group-by"),
        (("search", "--vector", "absent.npy"), 2, "--vector can't be read"),
        (("search", "--video", "v", "--server", "127.0.0.1:9"), 4, "semiome serve"),
        (("classify",), 2, "either clips and videos, or --new"),
        (("encoder", "init", "--preset", "timesformer-xl"), 2, "expected a preset"),
        (("encoder", "import", "shipped", "--heads", "3"), 2, "--heads is for .pyth files"),
        (("encoder", "import", "absent.pyth", "--pooling", "mean"), 2, "--pooling is for folders"),
        (("encode",), 2, "Missing argument"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_what_is_wrong_is_said_on_stderr_with_its_exit_code(tmp_path, arguments, code, says):
    done = semiome(*arguments, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (code, "")
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_what_is_printed_is_what_was_given(capsys):
    """Brackets in names are no markup, and ids are never cut."""
    screen = Screen(as_json=False)
    screen.say("2024[night]/0001[bold].mp4 [/x]")
    screen.table("[t]", ("file[a]", "clip"), [("2024[night]/0001[bold].mp4", "0123456789abcdef" * 2)] * 2)

    shown = capsys.readouterr().out
    assert shown.count("2024[night]/0001[bold].mp4") == 3
    assert shown.count("0123456789abcdef" * 2) == 2
    assert "[/x]" in shown
    assert "file[a]" in shown


def test_patients_of_the_held_out_split_are_left_out_whichever_of_their_videos_is_labelled(tmp_path):
    cohort = [make_video(p, v, 2, np.random.default_rng(p), WIDTH, split="train") for p in range(6) for v in range(2)]
    cohort[3] = (replace(cohort[3][0], split="test", label=""), cohort[3][1])  # of p1, unlabelled
    workspace = Workspace(tmp_path)
    commit(workspace, cohort)

    data, held_out = labelled_clips(Store(workspace), "enc1", "test")

    assert held_out == ["p1"]
    assert {clip.patient_id for clip in data.clips} == {"p0", "p1", "p3", "p4"}  # p2 and p5 have no label


def test_an_error_is_one_json_object_too(tmp_path):
    values = result_of(semiome("index", "build", "--json", cwd=tmp_path), code=4)

    assert values["error"]["type"] == "StateError"


def test_checking_a_manifest_lists_what_it_holds_and_what_is_missing(folder):
    values = result_of(semiome("manifest", "check", "manifest.csv", "--json", cwd=folder))
    assert values == {
        **{"videos": 6, "patients": 6, "labels": {"TLE": 3, "exTLE": 3}, "refused": [], "doubtful": []},
        **{"clips": 12, "hours": 0.025, "metadata": []},
    }

    (folder / "more.csv").write_text("file_name,patient_id,video_id\nabsent.mp4,p1,v1\n")
    assert result_of(semiome("manifest", "check", "more.csv", "--json", cwd=folder), code=3)["refused"] == [
        {"video_id": "v1", "file_name": "absent.mp4", "reason": "the file is missing, or may not be read"}
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("x"), 2),
        (NotFound("x"), 2),
        (VideoRefused("x"), 2),
        (StateError("x"), 4),
        (Locked("x"), 4),
        (EncoderMismatch("x", "a", "b"), 4),
        (DamagedData("x"), 4),
        (ServiceError("INVALID_ARGUMENT", "x"), 2),
        (ServiceError("NOT_FOUND", "x"), 2),
        (ServiceError("UNAVAILABLE", "x"), 4),
        (ServiceError("FAILED_PRECONDITION", "x"), 4),
        (ServiceError("INTERNAL", "x"), 1),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert exit_code(error) == code
    assert isinstance(error, SemiomeError)


def test_the_index_is_looked_after_by_command(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    cohort = [make_video(p, v, 2, np.random.default_rng(10 * p + v)) for p in range(4) for v in range(2)]
    commit(workspace, cohort)
    (workspace.encoders / "enc1").mkdir(parents=True)
    set_current(workspace.encoders, "enc1")
    first, second = (result_of(semiome("index", "build", "--json", cwd=tmp_path))["generation"] for _ in range(2))
    third = result_of(semiome("index", "build", "--no-publish", "--kind", "ivf-rabitq", "--json", cwd=tmp_path))
    assert third["effort"]["cells"] >= 1
    commit(workspace, [make_video(8, 0, 2, np.random.default_rng(8))])

    verified = result_of(semiome("index", "verify", "--json", cwd=tmp_path))
    assert verified == {"generation": second, "clips": 16, "newer_clips": 2, "gone_clips": 0}
    assert result_of(semiome("index", "rollback", "--json", cwd=tmp_path))["generation"] == first
    listed = result_of(semiome("index", "list", "--json", cwd=tmp_path))
    assert (listed["serving"], listed["served_before"]) == (first, second)
    assert "served before" in semiome("index", "list", cwd=tmp_path).stdout
    active = semiome("index", "activate", third["generation"], "--force", "--json", cwd=tmp_path)
    assert result_of(active)["generation"] == third["generation"]
    assert result_of(semiome("index", "gc", "--keep", "0", "--json", cwd=tmp_path)) == {"removed": [second]}
    missing = result_of(semiome("index", "activate", "000099-x", "--json", cwd=tmp_path), code=2)
    assert missing["error"]["message"] == "no generation '000099-x' in this workspace"


def test_the_doctor_of_a_path_without_a_workspace_calls_nothing_healthy(tmp_path):
    done = semiome("doctor", "-w", "mistyped", cwd=tmp_path)

    assert done.returncode == 0  # it is asked of new machines too
    assert "is this the right workspace?" in done.stdout
    assert "healthy" not in done.stdout


def test_a_patient_is_erased_by_command_and_the_doctor_finds_all_well(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, [make_video(p, 0, 2, np.random.default_rng(p)) for p in range(4)])

    asked = semiome("erase", "--patient", "p1", cwd=tmp_path)
    assert asked.returncode == 2  # nobody answers: nothing is erased
    assert len(Store(workspace).clips("enc1").clips) == 8
    receipt = result_of(semiome("erase", "--patient", "p1", "--yes", "--json", cwd=tmp_path))
    assert receipt["scan"]["files_with_finds"] == []
    (path,) = workspace.erasures.glob("*.json")
    assert result_of(semiome("erase", "--check", path, "--json", cwd=tmp_path)) == {
        "genuine": True,
        "complete": True,
    }
    path.write_text(path.read_text().replace("store", "stare"))
    assert result_of(semiome("erase", "--check", path, "--json", cwd=tmp_path), code=4) == {
        "genuine": False,
        "complete": False,
    }
    assert result_of(semiome("erase", "--patient", "p1", "--yes", "--json", cwd=tmp_path))["complete"]
    assert result_of(semiome("erase", "--patient", "p99", "--yes", "--json", cwd=tmp_path), code=2)
    assert result_of(semiome("erase", "--json", cwd=tmp_path), code=2)

    assert result_of(semiome("doctor", "--json", cwd=tmp_path))["healthy"] is True
    assert "every row as it was written" in " ".join(semiome("doctor", cwd=tmp_path).stdout.split())
    (workspace.store / "clips_enc1.lance" / "_versions" / "1.manifest").write_bytes(b"")
    assert result_of(semiome("doctor", "--json", cwd=tmp_path), code=4)["healthy"] is False
    assert result_of(semiome("doctor", "--repair", "--json", cwd=tmp_path))["healthy"] is True


def test_ids_that_look_misspelled_are_asked_about(tmp_path):
    for name, source in (("a", "short_7s"), ("b", "exactly_10s")):
        shutil.copy(DATA / "videos" / f"{source}.mp4", tmp_path / f"{name}.mp4")
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\na.mp4,P01,v1\nb.mp4,p1,v2\n")

    refused = semiome("encode", "m.csv", "--json", cwd=tmp_path)
    assert "patient_id: P01, p1" in result_of(refused, code=2)["error"]["message"]
    assert result_of(semiome("manifest", "check", "m.csv", "--json", cwd=tmp_path))["doubtful"] == [
        "patient_id: P01, p1"
    ]
    assert result_of(semiome("encode", "m.csv", "--distinct-ids", "--json", cwd=tmp_path))["videos_written"] == 2
    assert result_of(semiome("encode", "m.csv", "--json", cwd=tmp_path))["clips_skipped"] == 2

    near = semiome("erase", "--patient", "P1", "--yes", "--json", cwd=tmp_path)
    assert "similar ids are: P01, p1" in result_of(near, code=2)["error"]["message"]
    readable = [path for path in (tmp_path / "workspace").rglob("*") if path.stat().st_mode & 0o077]
    assert readable == []


def test_a_recording_of_another_patient_needs_a_reason_which_is_kept(tmp_path):
    for name in ("a", "b"):
        shutil.copy(DATA / "videos" / "short_7s.mp4", tmp_path / f"{name}.mp4")
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\na.mp4,p1,v1\n")
    (tmp_path / "n.csv").write_text("file_name,patient_id,video_id\nb.mp4,p2,v2\n")
    semiome("encode", "m.csv", cwd=tmp_path)

    assert result_of(semiome("encode", "n.csv", "--same-recording", " ", "--json", cwd=tmp_path), code=2)
    assert result_of(semiome("encode", "n.csv", "--json", cwd=tmp_path), code=3)["refused"][0]["video_id"] == "v2"
    reason = ("--same-recording", "two patients in one room")
    assert result_of(semiome("encode", "n.csv", *reason, "--json", cwd=tmp_path))["same_content"] == [["v2", "v1"]]
    (kept,) = (tmp_path / "workspace" / "runs").glob("*/same-recording.json")
    assert json.loads(kept.read_text())["reason"] == "two patients in one room"

    (tmp_path / "wrong.csv").write_text("file_name,patient_id,video_id\nzz.mp4,p9,v2\n")
    for refused in (("--manifest", "wrong.csv", "--yes"), ("--video", "v2")):
        assert result_of(semiome("remove", *refused, "--json", cwd=tmp_path), code=2)
    removed = result_of(semiome("remove", "--manifest", "n.csv", "--json", "--yes", cwd=tmp_path))
    assert (removed["videos"], removed["patients"]) == (1, 1)
    assert result_of(semiome("remove", "--video", "v2", "--json", "--yes", cwd=tmp_path), code=2)


def test_what_an_erasure_would_do_is_listed_first(tmp_path):
    shutil.copy(DATA / "videos" / "short_7s.mp4", tmp_path / "a.mp4")
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\na.mp4,1,film-77\n")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "n.txt").write_text("patient 1 came\nfilm-77 is dark\nkept\n")
    semiome("encode", "m.csv", cwd=tmp_path)

    dry = result_of(semiome("erase", "--patient", "1", "--also", "notes", "--dry-run", "--json", cwd=tmp_path))
    assert (dry["videos"], dry["clips"]) == (1, 1)
    assert sorted(one["kind"] for one in dry["traces"]) == ["doubtful", "goes"]
    assert "film-77" in (notes / "n.txt").read_text()

    assert "--yes" in result_of(semiome("erase", "--patient", "1", "--json", cwd=tmp_path), code=2)["error"]["message"]

    erased = semiome("erase", "--patient", "1", "--also", "notes", "--yes", cwd=tmp_path)
    assert (erased.returncode, "undecided" in erased.stderr) == (3, True)
    assert (notes / "n.txt").read_text() == "patient 1 came\n(erased)\nkept\n"
    doctor = result_of(semiome("doctor", "--json", cwd=tmp_path))
    assert any("--also-text" in one["says"] for one in doctor["findings"])
    done = result_of(
        semiome("erase", "--patient", "1", "--also", "notes", "--yes", "--also-text", "--json", cwd=tmp_path)
    )
    assert (done["complete"], (notes / "n.txt").read_text()) == (True, "(erased)\n(erased)\nkept\n")

    lifted = result_of(semiome("erase", "--lift", "1", "--reason", "wrong patient", "--json", cwd=tmp_path))
    assert lifted["reason"] == "wrong patient"
    assert result_of(semiome("encode", "m.csv", "--json", cwd=tmp_path))["videos_written"] == 1
