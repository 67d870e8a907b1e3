"""Write the golden generations, once for each new format: `python -m tests.index.vectors.golden`."""

import json
import tempfile
from pathlib import Path

from index.tables.store import Store
from index.vectors.brute_force import Allowed
from index.vectors.faiss_index import KINDS
from index.vectors.generation import build_generation, load_generation
from index.vectors.publication import publish
from index.workspace import Workspace
from tests.conftest import DATA, commit, make_cohort


def main():
    """Those that are not there."""
    for kind in KINDS:
        folder = DATA / "generations" / kind
        if folder.exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            workspace = Workspace(Path(scratch))
            commit(workspace, make_cohort())
            manifest = build_generation(Store(workspace).clips("enc1"), workspace.generations, kind=kind)
            publish(workspace, manifest.generation)
            workspace.generations.rename(folder)
        (folder / "build.lock").unlink()
        generation = load_generation(folder)
        similarities, rows = generation.index.search(
            generation.vectors.rows([3]), 10, Allowed(60, without=range(0, 12))
        )
        answer = {
            "rows": rows[0].tolist(),
            "similarities": similarities[0].tolist(),
            "last_clip": generation.clips[59].clip_id,
        }
        (folder / "answer.json").write_text(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
