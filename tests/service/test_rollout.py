"""An index brought to running servers by command, as cron would, and back where something is wrong."""

import json
from dataclasses import replace

import pytest

from index.errors import StateError
from index.workspace import current, set_current
from service.calling.connection import Connection
from service.client import Client
from service.rollout import roll_out
from tests import forge
from tests.conftest import make_cohort, publish_all
from tests.service.servers import running


def build(secured, said, access, *options):
    who = ["--server", said["address"], "--ca", str(access / "ca.pem"), "--token-file", str(access / "admin.token")]
    return forge.run("index", "build", "-w", secured.root, "--json", *who, *options)


def test_a_build_is_rolled_out_or_taken_back(secured, access):
    first = current(secured.generations)
    with running(secured, "--workers", "2", "--config", str(access / "serve.toml")) as said:
        done = build(secured, said, access)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["rollout"]["workers"] == 2
        assert result["rollout"]["overlap"] == 1.0
        assert current(secured.generations) == result["generation"] != first

        second = result["generation"]
        with Client(Connection(said["address"], ca=access / "ca.pem", token_file=access / "admin.token")) as client:
            generation = publish_all(secured).generation  # stands for a third one; publishing is what is tried here
            set_current(secured.generations, second)
            answers = iter([["a"], ["b"]])

            class Confused:
                """This server, whose answers after the swap are not those of before."""

                def search_batch(self, queries, k):
                    found = client.search_batch(queries, k)
                    ids = next(answers)
                    hits = found.results[0].neighbours[:1]
                    wrong = tuple(replace(h, clip=replace(h.clip, clip_id=ids[0])) for h in hits)
                    return replace(found, results=(replace(found.results[0], neighbours=wrong),))

                status = client.status

            clip = make_cohort()[0][1][0].clip.clip_id
            with pytest.raises(StateError, match=r"taken back: only 0.0% of the canaries' hits"):
                roll_out(
                    [Confused()],
                    generation,
                    [clip],
                    lambda: set_current(secured.generations, generation),
                    lambda: set_current(secured.generations, second),
                    least_overlap=0.9,
                    timeout_s=30,
                )
            assert current(secured.generations) == second
            with pytest.raises(StateError, match="0 of 2 workers serve it in time"):
                roll_out([client], "000009-absent", [clip], lambda: None, lambda: None, least_overlap=0, timeout_s=0.3)

        # A server that is away is noticed before anything is published.
        away = build(secured, {"address": "localhost:9"}, access)
        assert away.returncode == 4
        assert "no server answers" in away.stderr
        assert current(secured.generations) == second
