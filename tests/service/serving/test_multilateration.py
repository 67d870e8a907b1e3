"""An embedding can't be put together from what a reader is shown of it."""

import pytest

from benchmarks.multilateration import FILTERS, GROUPS, LISTS, attack, made_cohort, store
from index.errors import ServiceError
from index.query import MAX_K
from index.workspace import Workspace
from service.calling.connection import Connection
from service.client import Client
from service.config import DEFAULT_LIMITS, Limit, read_config
from service.gate import disclosure
from service.roles import Role
from service.server.credentials import make_access, make_token, write_secret
from tests.service.gate.attackers import answering

QUERIES = DEFAULT_LIMITS[Role.READER].searches_a_day
TARGETS = (7, 993)
COHORTS = {"random": made_cohort(1000), "clustered": made_cohort(1000, of_a_patient=0.6)}


@pytest.fixture(scope="module", params=COHORTS)
def served(request, tmp_path_factory):
    """A cohort that is served, and what asks as a role: (cohort, ask of a role)."""
    folder = tmp_path_factory.mktemp("served")
    make_access(folder / "keys", ("localhost",))
    (folder / "keys" / "serve.toml").write_text((folder / "keys" / "serve.toml").read_text().partition("[tokens]")[2])
    cohort, workspace = COHORTS[request.param], Workspace(folder / "workspace")
    store(workspace, cohort)
    # A target's attacker has a day; here they all come on the same one, and need not be slow.
    limits = {role: Limit(calls_per_s=100_000, searches_a_day=10 * QUERIES) for role in Role}
    settings = folder / "keys" / "serve.toml"
    settings.write_text(f"[tokens]{settings.read_text()}")
    with answering(workspace, read_config(settings, port=0, limits=limits)) as address:

        def asker(role):
            write_secret(folder / role, make_token(folder / "keys", f"eve the {role}", [role], 1))
            client = Client(Connection(address, token_file=folder / role, tries=1))

            def ask(queries, k, options):
                try:
                    return [one.neighbours for one in client.search_batch(queries, k, options).results]
                except ServiceError as refusal:
                    if refusal.code not in ("INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"):
                        raise
                    return [()] * len(queries)

            return ask

        yield cohort, asker


def test_exact_similarities_give_an_embedding_away(served):
    cohort, asker = served

    cosines = attack(asker("trainer"), cohort, TARGETS, LISTS, hits=MAX_K, step=0.0, queries=QUERIES)
    assert min(cosines) > 0.95  # so the attack is one


@pytest.mark.parametrize("way", [LISTS, GROUPS, FILTERS])
def test_what_a_reader_is_shown_in_a_day_does_not(served, way):
    cohort, asker = served

    limits = {"hits": disclosure.NARROW_HITS, "step": disclosure.STEP, "queries": QUERIES}
    assert max(attack(asker("reader"), cohort, TARGETS, way, **limits)) < 0.5
