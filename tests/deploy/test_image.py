"""The images' steps, and their jobs and servers as compose.yaml starts them; this needs no container engine."""

import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace

import pytest
import yaml

from service.server.credentials import make_access
from tests.conftest import DATA
from tests.deploy.image import build
from tests.deploy.test_deploy import DEPLOY, ROOT
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.needs("chroot")]

USER = 10001


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return build(DEPLOY / "Dockerfile", ROOT, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def mounts(image, tmp_path_factory):
    """What compose.yaml mounts: a workspace, one seizure video, settings and keys."""
    folder = tmp_path_factory.mktemp("host")
    videos, workspace, secrets = folder / "videos", folder / "workspace", folder / "access"
    videos.mkdir()
    workspace.mkdir(mode=0o750)
    shutil.chown(workspace, USER, USER)
    shutil.copy(DATA / "videos" / "h264_25fps.mp4", videos)
    (videos / "manifest.csv").write_text("file_name,patient_id,video_id\nh264_25fps.mp4,p1,v1\n")
    make_access(secrets, ["localhost"])
    (secrets / "jwks.json").chmod(0o644)
    return [
        ("tmpfs", "/tmp", "size=512m,mode=1777"),
        (workspace, "/workspace", ""),
        (videos, "/videos", "ro"),
        (secrets / "jwks.json", "/run/secrets/jwks.json", "ro"),
        (DEPLOY / "replicas.toml", "/etc/semiome/serve.toml", "ro"),
    ]


def service(name):
    """What compose.yaml says of a service."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][name]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_every_step_of_the_image_works_and_it_holds_what_it_needs(image):
    assert (image.user, image.entrypoint) == (f"{USER}:{USER}", ("semiome",))
    version = image.run("semiome", "--version", read_only=True, network=False)
    assert version.strip().endswith("0.3.0")
    # Without the repository and with no tool of developers in it.
    assert not (image.root / "src").exists()
    assert "pytest" not in image.run("pip", "list", "--format=freeze", network=False)


@pytest.mark.needs("nginx")
def test_the_image_in_front_takes_its_settings_and_answers_what_compose_asks(tmp_path):
    front = build(DEPLOY / "nginx" / "Dockerfile", ROOT, tmp_path / "image")
    make_access(tmp_path / "access", ["localhost"])
    given = [tmp_path / "access" / name for name in ("server.pem", "server.key")]
    shutil.chown(given[1], 101)
    mounts = [
        *((path, f"/etc/semiome/access/{path.name}", "ro") for path in given),
        ("tmpfs", "/tmp", "size=64m,mode=1777"),
    ]
    asked = shlex.join(service("front")["healthcheck"]["test"][1:])
    user, front.user = front.user, "0:0"
    own = f"setpriv --reuid {user.split(':')[0]} --regid {user.split(':')[1]} --clear-groups --no-new-privs"
    script = f"""
        ip link set lo up
        echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start  # as engines have it, and its streams
        chown {user} /dev/stdout /dev/stderr
        {own} {shlex.join(front.entrypoint)} & server=$!
        trap 'kill $server; wait' EXIT
        for second in $(seq 50); do {asked} && exit 0; sleep .2; done
        {asked}
    """
    front.run("sh", "-ec", script, mounts=mounts, read_only=True, network=False)


def test_jobs_run_as_a_user_of_whatever_number(image, mounts, tmp_path):
    """As some clusters give one to each pod: without an entry in passwd, and without a home."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    shutil.chown(workspace, 12345, 12345)
    others = [mount for mount in mounts if mount[1] != "/workspace"]
    stranger = replace(image, user="12345:12345", environment={**image.environment, "HOME": "/nonexistent"})
    for job in ("encode", "index"):
        command = service(job)["command"]
        stranger.run(*image.entrypoint, *command, mounts=[*others, (workspace, "/workspace", "")], read_only=True)
    assert (workspace / "generations" / "CURRENT").exists()


def test_jobs_and_a_server_run_in_it_as_compose_starts_them(image, mounts):
    for job in ("encode", "index", "compact", "gc"):
        image.run(*image.entrypoint, *service(job)["command"], mounts=mounts, read_only=True, network=False)
    ports = {"50051": str(free_port()), "9464": str(free_port())}
    command = [ports.get(word, word) for word in service("replica-1")["command"]]
    image.environment["SEMIOME_SERVER"] = f"127.0.0.1:{ports['50051']}"
    health = service("replica-1")["healthcheck"]["test"]
    assert health[0] == "CMD"
    server = image.start(*image.entrypoint, *command, mounts=mounts, read_only=True, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + PATIENCE_S
        while image.start(*health[1:], mounts=mounts, read_only=True, stderr=subprocess.DEVNULL).wait():
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < end
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0, said
