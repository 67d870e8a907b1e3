"""From one encoder to another and back, with index and head, also under a server."""

import pytest

from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from encoder.switch import switch, switch_back
from index.errors import NotFound, StateError
from index.query import VideoQuery
from index.tables.store import Store
from index.vectors.generation import build_generation
from index.vectors.publication import publish
from index.workspace import current, set_current
from service.serving.watcher import StateWatcher
from tests.conftest import commit, install_head, make_cohort, tiny_architecture


@pytest.fixture
def two(workspace):
    """Two encoders with the same clips, the first in use; returns workspace, their ids, generations, heads."""
    ids, generations, heads = [], [], []
    for seed in (1, 0):
        encoder = new_encoder(tiny_architecture(), seed=seed)
        install_encoder(encoder, workspace.encoders)
        commit(workspace, make_cohort(seed=seed), encoder.encoder_id)
        stored = Store(workspace).clips(encoder.encoder_id)
        ids.insert(0, encoder.encoder_id)
        generations.insert(0, build_generation(stored, workspace.generations).generation)
        heads.insert(0, install_head(workspace, encoder.encoder_id, seed).head_id)
    publish(workspace, generations[0])
    set_current(workspace.heads, heads[0])
    return workspace, ids, generations, heads


def in_use(workspace):
    return current(workspace.encoders), current(workspace.generations), current(workspace.heads)


def test_there_and_back_under_a_server(two):
    workspace, ids, generations, heads = two
    watcher = StateWatcher(workspace)
    assert watcher.state.provenance.encoder_id == ids[0]

    set_current(workspace.heads, heads[1])  # as training a head for the next encoder does
    watcher.refresh()
    assert watcher.state.provenance.head_id == heads[0]

    done = switch(workspace, ids[1])

    assert (done.encoder_id, done.generation, done.head_id, done.left_behind) == (
        ids[1],
        generations[1],
        heads[1],
        ids[0],
    )
    assert in_use(workspace) == (ids[1], generations[1], heads[1])
    watcher.refresh()
    assert watcher.state.provenance.encoder_id == ids[1]
    assert watcher.state.classify(VideoQuery("v0-0")).judged.verdict.label in ("TLE", "exTLE")
    assert switch_back(workspace).encoder_id == ids[0]
    assert in_use(workspace) == (ids[0], generations[0], heads[0])
    watcher.refresh()
    assert watcher.state.provenance.encoder_id == ids[0]
    assert switch_back(workspace).encoder_id == ids[1]


def test_an_encoder_that_is_not_ready_is_refused(two):
    workspace, ids, generations, _ = two
    with pytest.raises(NotFound, match="no encoder"):
        switch(workspace, "abc")
    third = new_encoder(tiny_architecture(), seed=7)
    install_encoder(third, workspace.encoders)
    with pytest.raises(NotFound, match="no clips"):
        switch(workspace, third.encoder_id)
    commit(workspace, make_cohort(patients=2), third.encoder_id)
    with pytest.raises(StateError, match="has not embedded 36 clips"):
        switch(workspace, third.encoder_id)
    with pytest.raises(StateError, match="has no index"):
        switch(workspace, third.encoder_id, force=True)
    assert in_use(workspace)[1] == generations[0]
    built = build_generation(Store(workspace).clips(third.encoder_id), workspace.generations).generation
    done = switch(workspace, third.encoder_id, force=True)
    assert (done.generation, done.head_id, done.left_behind, done.missing_clips) == (built, "", ids[0], 36)


def test_the_generation_that_served_last_serves_again(two):
    workspace, ids, generations, _ = two
    commit(workspace, make_cohort(patients=6)[-3:], ids[0])
    newer = build_generation(Store(workspace).clips(ids[0]), workspace.generations).generation
    switch(workspace, ids[1], force=True)

    assert switch(workspace, ids[0]).generation == generations[0] != newer


def test_nothing_to_go_back_to_is_said(workspace):
    install_encoder(new_encoder(tiny_architecture(), seed=1), workspace.encoders)
    with pytest.raises(StateError, match="no encoder was in use before"):
        switch_back(workspace)


def test_back_is_to_the_encoder_that_served_not_to_one_that_was_only_imported(two):
    """Importing weights and then cropping them installs two, of which one is used."""
    workspace, ids, generations, _ = two
    for seed in (7, 1):
        install_encoder(new_encoder(tiny_architecture(), seed=seed), workspace.encoders)

    done = switch(workspace, ids[1])

    assert (done.left_behind, switch_back(workspace).encoder_id) == (ids[0], ids[0])
    assert current(workspace.generations) == generations[0]
