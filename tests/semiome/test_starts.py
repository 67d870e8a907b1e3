"""Each command started once as a real process: what it imports, and its exit status.

All other tests fork their commands from `tests.forge`, where everything is imported already. What a command loads that
it does not need is what its user waits for: torch takes 1.5 to 2 s of a processor's time, LanceDB 2, transformers 1.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from index.query import VideoQuery
from index.workspace import Workspace
from service.client import Client
from service.processes.operations import Operations
from service.processes.starting import server_process
from tests.conftest import DATA, commit, install_head, make_video, publish_all, tiny_architecture

HEAVY = frozenset(
    {
        *("PIL", "av", "cryptography", "decord", "faiss", "grpc", "lance", "lancedb", "pyarrow", "ray", "scipy"),
        *("sklearn", "starlette", "torch", "transformers", "umap", "uvicorn"),
    }
)
TABLES = {"lance", "pyarrow"}
WRITES = TABLES | {"lancedb"}
INDEX = TABLES | {"faiss"}
MODEL = {"PIL", "torch", "transformers"}
CLIENT = {"grpc"}
STUDY = {"scipy", "sklearn", "torch"}
GROUPS = ("access", "audit", "encoder ", "events", "feedback", "head", "index", "manifest", "signs", "store")
COMMANDS = [
    ("--version", 0, set()),
    ("demo --workspace .", 4, MODEL | {"av"} | INDEX | STUDY | CLIENT),
    ("manifest check m.csv", 0, set()),
    ("classes", 0, set()),
    ("classes TLE exTLE -w new", 0, TABLES),
    ("manifest make .", 0, set()),
    ("events import absent.edf --recordings m.csv --to new.csv", 2, {"PIL"}),
    ("encoder list", 0, set()),
    ("encoder init -w new", 0, MODEL),
    ("encoder import absent.pyth -w new", 2, MODEL),
    ("encoder precision fp8", 2, MODEL),
    ("encoder crop --crop-detector .", 2, MODEL),
    ("encoder use 0123456789abcdef", 2, MODEL | INDEX),
    ("encoder rollback", 4, MODEL | INDEX),
    ("beds m.csv", 2, MODEL | TABLES),
    ("encode m.csv", 0, MODEL | WRITES),
    ("encode m.csv --dry-run", 0, MODEL | TABLES),
    ("previews m.csv", 3, MODEL | TABLES),
    ("film v0", 2, set()),
    ("pretrain absent.toml", 2, MODEL),
    ("ablate absent.toml", 2, MODEL | STUDY | {"pyarrow"}),
    ("evaluate", 2, STUDY | TABLES),
    ("judge", 4, STUDY | TABLES),
    ("head train", 0, STUDY | TABLES),
    ("signs train", 4, STUDY | TABLES),  # everyone here has the sign
    ("signs show v0-0", 4, set()),
    ("signs find tonic", 4, set()),
    ("signs export out", 4, set()),
    ("index build", 0, INDEX),
    ("index list", 0, {"faiss", "pyarrow"}),
    ("index verify", 0, INDEX),
    ("index activate absent", 2, INDEX),
    ("index rollback", 0, INDEX),
    ("index gc --keep 1", 0, INDEX),
    ("index compare enc1 absent", 2, INDEX),
    ("store compact", 0, TABLES),
    ("store export out", 0, TABLES),
    ("store import absent", 2, TABLES),
    ("store backup saved", 0, INDEX),
    ("store verify saved", 0, INDEX),
    ("store restore saved -w restored", 0, INDEX),
    ("doctor", 0, INDEX),
    ("remove --video v0-0 --yes", 0, WRITES | INDEX),
    ("erase --patient p3 --yes", 0, WRITES | INDEX),
    ("access init keys", 0, {"cryptography"}),
    ("access renew keys", 0, {"cryptography"}),
    ("access token keys --name me --role reader --out token", 0, {"cryptography"}),
    ("access certificate keys --name me", 0, {"cryptography"}),
    ("audit verify", 4, set()),
    ("audit report --patient p1", 4, set()),
    ("feedback list", 0, TABLES),
    ("feedback export out.tsv", 0, TABLES),
    ("feedback rows m.csv --to more.csv", 0, TABLES),
    ("health --server 127.0.0.1:9", 4, CLIENT),
    ("search --video v0 --server 127.0.0.1:9", 4, CLIENT),
    ("moments --video v0 --server 127.0.0.1:9", 4, CLIENT),
    ("classify --video v0 --server 127.0.0.1:9", 4, CLIENT),
    ("serve -w nothing", 4, INDEX | CLIENT | {"cryptography"}),
    ("web --host 0.0.0.0", 2, CLIENT | {"starlette", "uvicorn"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a video, a manifest and a workspace that every command can work on."""
    folder = tmp_path_factory.mktemp("starts")
    shutil.copy(DATA / "videos" / "short_7s.mp4", folder)
    (folder / "m.csv").write_text("file_name,patient_id,video_id\nshort_7s.mp4,p9,v9\n")
    workspace = Workspace(folder / "workspace")
    encoder = new_encoder(tiny_architecture(), seed=0)
    install_encoder(encoder, workspace.encoders)
    cohort = [make_video(p, v, 2, np.random.default_rng(9 * p + v), 768) for p in range(6) for v in range(2)]
    commit(workspace, cohort, encoder.encoder_id)
    for _ in range(2):
        publish_all(workspace, encoder.encoder_id)
    install_head(workspace, encoder.encoder_id, width=768)
    return folder


def imported_by(arguments, folder):
    command = [sys.executable, "-X", "importtime", "-m", "semiome", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return done.returncode, {name.partition(".")[0] for name in names} & HEAVY, "\n".join(said)


@pytest.mark.parametrize(
    ("arguments", "status", "allowed"),
    [pytest.param(*row, id=row[0], marks=[pytest.mark.slow] if "torch" in row[2] else []) for row in COMMANDS],
)
def test_a_command_ends_as_it_should_and_imports_no_more_than_it_needs(folder, tmp_path, arguments, status, allowed):
    place = tmp_path / "place"
    shutil.copytree(folder, place)
    if arguments.startswith(("store verify", "store restore")):
        imported_by(["store", "backup", "saved"], place)
    if arguments.startswith(("access renew", "access token", "access certificate")):
        imported_by(["access", "init", "keys"], place)

    ended, found, said = imported_by(arguments.split(), place)

    assert ended == status, said
    assert found - allowed == set()


def test_every_command_is_started_here():
    from semiome.app import app

    def names(typer_app):
        for command in typer_app.registered_commands:
            yield command.name or command.callback.__name__.replace("_", "-")

    known = {
        *names(app),
        *(f"{group.name} {name}" for group in app.registered_groups for name in names(group.typer_instance)),
    }
    started = {" ".join(arguments.split()[: 1 + arguments.startswith(GROUPS)]) for arguments, _, _ in COMMANDS}
    assert known - started == set()


def test_help_fills_the_line_and_breaks_no_sentence():
    """At 80 columns: a line of a paragraph ends where the next word would not fit."""
    for arguments in ("signs train", "events import", "encode", "judge", "film"):
        command = [sys.executable, "-m", "semiome", *arguments.split(), "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
        about = shown.stdout.partition("[OPTIONS]")[2].partition("╭")[0].splitlines()[1:]
        for line, after in itertools.pairwise([text.strip() for text in about]):
            if line and after:
                assert len(line) + 1 + len(after.split()[0]) > 78, (arguments, line)


def mapped_by(pid):
    """Heavy packages of which a process has mapped a shared library."""
    paths = {line.split(maxsplit=5)[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
    parts = {path.split("/site-packages/")[1].split("/")[0] for path in paths if "/site-packages/" in path}
    return {name.removesuffix(".libs") for name in parts} & HEAVY


def children(pid):
    """Of all threads of a process."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_searches_and_judges_loads_neither_torch_nor_lancedb(folder, workers):
    workspace = folder / "workspace"
    with (
        server_process(workspace, "--workers", str(workers), "--web-port", "0") as said,
        Client(said["address"]) as client,
    ):
        client.search(VideoQuery("v0-0"))
        client.classify(VideoQuery("v0-0"))
        client.counts()
        processes = [said["pid"], *children(said["pid"])]
        mapped = [mapped_by(pid) for pid in processes]

    assert len(processes) == 1 + 1 + (workers if workers > 1 else 0)
    assert "faiss" in mapped[0] | mapped[1]
    assert set().union(*mapped) <= INDEX | CLIENT | {"cryptography"}


def test_a_build_that_a_call_starts_loads_no_more_than_the_command(folder, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(folder / "workspace", workspace.root)
    with server_process(workspace.root) as said, Client(said["address"]) as client:
        operation = client.build_generation()
        pid = Operations(workspace).get(operation.operation_id).pid
        seen = set()
        with contextlib.suppress(OSError):  # it has ended
            while children(said["pid"]):
                seen |= mapped_by(pid)
        assert client.wait(operation).state == "done"

    assert "faiss" in seen
    assert seen <= INDEX | CLIENT
