"""Thousands of random steps through the real store, index and search, against a dict.

`SEMIOME_STEPS` sets how many (default 200, `make faults` 10,000).
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index.custody.erasure import erase_patient
from index.query import GroupBy, Options, SearchFilter, VideoQuery
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.faiss_index import KINDS
from index.vectors.generation import build_generation, list_generations
from index.vectors.publication import collect, publish, roll_back
from index.workspace import Workspace
from tests.conftest import commit, make_video
from tests.index.reference import assert_same, grouped, reference

STEPS = int(os.environ.get("SEMIOME_STEPS", "200"))
STEPS_AN_EXAMPLE = 50


class Lives(RuleBasedStateMachine):
    """A workspace and a dict that must agree."""

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed):
        self.folder = Path(tempfile.mkdtemp())
        self.workspace = Workspace(self.folder)
        self.random = np.random.default_rng(seed)
        self.stored, self.erased, self.numbers = {}, set(), {}
        for patient in range(3):
            self.add(patient, 2)
        self.build("flat")
        self.serving = SnapshotLoader(self.workspace)

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(patient=st.integers(0, 5), clips=st.integers(1, 4))
    def add(self, patient, clips):
        if f"p{patient}" in self.erased:
            return
        number = self.numbers[patient] = self.numbers.get(patient, -1) + 1
        self._store(make_video(patient, number, clips, self.random))

    @rule(data=st.data(), clips=st.integers(1, 4))
    def encode_another_content(self, data, clips):
        video = self._one(data)
        if video is not None:
            patient, number = video.video_id[1:].split("-")
            source = f"{self.random.integers(10**9):09d}".ljust(64, "0")
            self._store(make_video(int(patient), int(number), clips, self.random, source_sha256=source))

    @rule(data=st.data(), label=st.sampled_from(["TLE", "exTLE", ""]), tagged=st.booleans())
    def relabel(self, data, label, tagged):
        video = self._one(data)
        if video is not None:
            tags = ("Semiology-hypermotor",) if tagged else ()
            self._store((replace(video, label=label, semiology=tags), self.stored[video.video_id][1]))

    @rule(data=st.data())
    def erase(self, data):
        video = self._one(data)
        if video is not None and len({v.patient_id for v, _ in self.stored.values()}) > 2:
            erase_patient(self.workspace, video.patient_id)
            self.erased.add(video.patient_id)
            self.stored = {k: v for k, v in self.stored.items() if v[0].patient_id != video.patient_id}

    @rule(kind=st.sampled_from(KINDS))
    def build(self, kind):
        manifest = build_generation(
            Store(self.workspace).clips("enc1"), self.workspace.generations, kind=kind, recall_target=1.0
        )
        publish(self.workspace, manifest.generation, force=True)

    @rule()
    def go_back(self):
        if (self.workspace.generations / "PREVIOUS").exists() and len(list_generations(self.workspace.generations)) > 1:
            roll_back(self.workspace)

    @rule()
    def tidy(self):
        collect(self.workspace, keep=1)
        with committing(Store(self.workspace), "enc1", 8) as committer:
            committer.compact()

    @rule(data=st.data(), k=st.integers(1, 30), group_by=st.sampled_from(GroupBy), only=st.sampled_from(["", "TLE"]))
    def find(self, data, k, group_by, only):
        video = self._one(data)
        if video is None:
            return
        self.serving.refresh()
        where = SearchFilter(labels=frozenset({only} if only else ()))
        exact = data.draw(st.booleans()) or self.serving.snapshot.generation.manifest.index != "flat"

        result = search(self.serving.snapshot, VideoQuery(video.video_id), k, Options(where, group_by, exact=exact))

        vectors = np.stack([e.vector for e in self.stored[video.video_id][1]])

        def allowed(v, _):
            return where.admits(v) and v.patient_id != video.patient_id

        wanted = reference(list(self.stored.values()), vectors, allowed, k, group_by)
        assert_same(grouped(result, group_by), wanted)
        assert [n.label for n in result.neighbours] == [
            self.stored[n.clip.video_id][0].label for n in result.neighbours
        ]

    @invariant()
    def the_store_holds_what_the_dict_does(self):
        if not hasattr(self, "serving"):
            return
        clips = Store(self.workspace).clips("enc1")
        held = {clip.clip_id: vector.tobytes() for clip, vector in zip(clips.clips, clips.vectors, strict=True)}
        assert held == {e.clip.clip_id: e.vector.tobytes() for _, es in self.stored.values() for e in es}

    def _store(self, video_and_clips):
        commit(self.workspace, [video_and_clips])
        self.stored[video_and_clips[0].video_id] = video_and_clips

    def _one(self, data):
        names = sorted(self.stored)
        return self.stored[data.draw(st.sampled_from(names))][0] if names else None


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=max(STEPS // STEPS_AN_EXAMPLE, 1),
    stateful_step_count=STEPS_AN_EXAMPLE,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take many minutes of building indexes
)
