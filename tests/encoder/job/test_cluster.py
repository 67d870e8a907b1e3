"""The same job on Ray: the table of the local engine to the bit, also when actors are killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from encoder.bed.crop import CropPolicy, used_crop
from encoder.bed.detector import detector_id
from encoder.job.cluster import ClusterOptions, ray_engine
from encoder.job.pipeline import EncodeOptions, encode, encode_with
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.identity import with_crop
from index.errors import InvalidInput, StateError
from index.tables.store import Store
from index.workspace import Workspace
from semiome.shipped import shipped_bed_detector
from tests.waiting import PATIENCE_S

# Ray warns of its own settings, and leaves sockets to the end of the process.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
NAMES = ("h264_25fps.mp4", "empty.mp4", "short_7s.mp4", "h264_vfr.mp4", "truncated_half.mkv", "mjpeg.avi", "vp9.webm")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=2**28)
    yield
    ray.shutdown()


def table(workspace, encoder):
    stored = Store(workspace).clips(encoder.encoder_id)
    return {clip: vector.tobytes() for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


def actors(name):
    """Processes of actors of one kind."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"ray::MapWorker(MapBatches({name}))" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_the_table_is_the_local_one_to_the_bit_and_a_second_run_decodes_nothing(
    cluster, hospital, tmp_path, tiny_encoder
):
    """With a bed detector, which the actors get too: in these pictures it finds no bed, or takes something for one."""
    policy = CropPolicy(detector_id(shipped_bed_detector()), no_bed="whole")
    tiny_encoder = with_crop(tiny_encoder, policy, shipped_bed_detector())
    manifest = read_manifest(hospital(*((name, f"p{n}", f"v{n}") for n, name in enumerate(NAMES))))
    local, there = Workspace(tmp_path / "local"), Workspace(tmp_path / "there")
    wanted = encode(manifest, Embedder(tiny_encoder), Store(local), EncodeOptions(salvage=True))
    engine = ray_engine(tiny_encoder, ClusterOptions(workers=2, decoders=2, batch=3))

    found = encode_with(engine, manifest, tiny_encoder, Store(there), salvage=True)
    again = encode_with(engine, manifest, tiny_encoder, Store(there), salvage=True)

    assert table(there, tiny_encoder) == table(local, tiny_encoder)
    crops = Store(there).encoded(tiny_encoder.encoder_id)
    assert crops == Store(local).encoded(tiny_encoder.encoder_id)
    assert {used_crop(video.crop).origin for video in crops.values()} <= {"bed", "whole"}
    assert Store(there).videos() == Store(local).videos()
    assert (found.clips_written, found.refused, found.salvaged) == (
        wanted.clips_written,
        wanted.refused,
        wanted.salvaged,
    )
    assert found.clips_embedded == wanted.clips_embedded == found.clips_written
    assert (again.clips_written, again.clips_embedded) == (0, 0)
    assert again.clips_skipped == found.clips_written


@pytest.mark.parametrize("kind", ["_Decode", "_Embed"])
def test_a_killed_actor_costs_nothing_but_time(kind, cluster, hospital, tmp_path, tiny_encoder):
    manifest = read_manifest(hospital(*((name, f"p{n}", f"v{n}") for n, name in enumerate(NAMES))))
    local, there = Workspace(tmp_path / "local"), Workspace(tmp_path / "there")
    encode(manifest, Embedder(tiny_encoder), Store(local))
    killed = []

    def kill_one():
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            for process in actors(kind)[:1]:
                time.sleep(0.5)  # it holds a video or a batch by now
                with suppress(ProcessLookupError):  # Ray has put another in its place: that one then
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    engine = ray_engine(tiny_encoder, ClusterOptions(workers=2, decoders=2, batch=1))
    report = encode_with(engine, manifest, tiny_encoder, Store(there))
    killer.join()

    assert killed
    assert table(there, tiny_encoder) == table(local, tiny_encoder)
    assert len(report.refused) == 2


def test_copies_of_what_is_stored_are_told_as_on_one_machine(cluster, hospital, workspace, tiny_encoder):
    first = read_manifest(hospital((NAMES[0], "p1", "v1")))
    encode(first, Embedder(tiny_encoder), Store(workspace))
    again = read_manifest(hospital((NAMES[0], "p1", "v2")))

    engine = ray_engine(tiny_encoder, ClusterOptions(workers=1, decoders=1))
    report = encode_with(engine, again, tiny_encoder, Store(workspace))

    assert report.same_content == [("v2", "v1")]


def test_a_cluster_that_is_too_small_is_said_at_once(cluster, tiny_encoder):
    with pytest.raises(
        StateError, match="the job needs 9 CPUs and the cluster has 4: use fewer workers, or more nodes"
    ):
        ray_engine(tiny_encoder, ClusterOptions(workers=9))
    with pytest.raises(StateError, match="the job needs 2 GPUs and the cluster has 0"):
        ray_engine(tiny_encoder, ClusterOptions(device="cuda"))


@pytest.mark.parametrize("options", [{"workers": 0}, {"decoders": 0}, {"cpus": 0}, {"device": "tpu"}])
def test_bad_options_are_refused(options):
    with pytest.raises(InvalidInput, match="expected"):
        ClusterOptions(**options)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_said_within_seconds(address, hospital, tmp_path):
    manifest = hospital(("short_7s.mp4", "p1", "v1"))
    command = ("-m", "semiome", "encode", manifest, "-w", tmp_path / "ws", "--engine", "ray", "--json")

    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == 4
    assert "no Ray cluster answers at RAY_ADDRESS" in json.loads(done.stdout)["error"]["message"]


def test_a_cluster_that_asks_for_a_token_is_joined_with_it_and_named_without(hospital, tmp_path):
    ray = Path(sys.executable).with_name("ray")
    manifest = hospital(("short_7s.mp4", "p1", "v1"))
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    port = free_port()
    started = ("start", "--head", "--port", str(port), "--num-cpus", "2", "--include-dashboard=false")
    home = {**os.environ, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": f"127.0.0.1:{port}"}
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # its sockets' paths must be short
    subprocess.run([ray, *started, "--temp-dir", folder], env={**home, **with_token}, check=True, capture_output=True)
    try:
        for workspace, more in (("refused", {}), ("wrong", {**with_token, "RAY_AUTH_TOKEN_PATH": str(manifest)})):
            done = encoded(manifest, tmp_path / workspace, {**home, **more})
            assert done.returncode == 4, done.stderr
            assert "RAY_AUTH_MODE=token" in json.loads(done.stdout)["error"]["message"]
            assert "Traceback" not in done.stderr
        done = encoded(manifest, tmp_path / "joined", {**home, **with_token})
        assert (done.returncode, json.loads(done.stdout)["clips_written"]) == (0, 1), done.stderr
    finally:
        for path in Path("/proc").glob("[0-9]*"):  # `ray stop` would end the clusters of other tests
            with suppress(OSError, ProcessLookupError):
                if str(folder) in (path / "cmdline").read_text() and int(path.name) != os.getpid():
                    os.kill(int(path.name), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def encoded(manifest, workspace, environment):
    command = ("-m", "semiome", "encode", manifest, "-w", workspace, "--engine", "ray", "--workers", "1", "--json")
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
