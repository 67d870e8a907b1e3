"""A small served cohort, and the keys to sign in with."""

import pytest

from index.workspace import Workspace, set_current
from service.roles import Role
from service.server.credentials import make_access, make_token, write_secret
from tests.conftest import commit, install_head, make_cohort, publish_all


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("rollout") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    (workspace.encoders / "enc1").mkdir(parents=True)
    set_current(workspace.encoders, "enc1")
    return workspace


@pytest.fixture(scope="module")
def access(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access") / "keys"
    make_access(folder, ["localhost", "127.0.0.1"])
    for role in Role:
        write_secret(folder / f"{role}.token", make_token(folder, f"some {role}", [role], 1))
    return folder
