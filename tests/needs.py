"""What some tests need beside Python's packages: found, installed where that is allowed, or said.

`make test` and `make slow` run `python -m tests.needs` first. As root on a machine with `apt-get` it installs what is
missing. Elsewhere it says in the first line what is missing and how to get it; pytest then leaves those tests out, and
names the reason. With `--insist`, as in continuous integration, it fails instead.
"""

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Need:
    """Something that tests need.

    Attributes:
        name: as `@pytest.mark.needs` has it.
        packages: Debian's, that bring it; none where no package can.
        tests: what is tested with it.
    """

    name: str
    packages: tuple[str, ...]
    tests: str

    def met(self):
        """Whether it is there."""
        if self.name == "namespaces":
            return _works("unshare", "-rm", "true")
        if self.name == "chroot":
            return _works("unshare", "--mount", "chroot", "/", "true")
        if self.name == "libGL":
            return _libraries("libGL.so.1", "libgthread-2.0.so.0")
        if self.name == "libseccomp":
            return _libraries("libseccomp.so.2")
        if self.name == "chromium" and not _libraries("libatomic.so.1"):  # what drives it needs that
            return False
        return shutil.which(self.name, path=_PATH) is not None


NEEDS = (
    Need("chromium", ("chromium", "libatomic1"), "the review page in a browser"),
    Need("chroot", (), "the steps of the image (as root, who may mount)"),
    Need("faketime", ("faketime",), "clocks that are a day off"),
    Need("libGL", ("libgl1", "libglib2.0-0"), "the blurring of faces"),
    Need("libseccomp", ("libseccomp2",), "how far a decoder is sandboxed"),
    Need("namespaces", (), "full disks (the kernel must allow user and mount namespaces)"),
    Need("nginx", ("nginx-light",), "two servers behind a proxy"),
    Need("promtool", ("prometheus",), "the alerts"),
    Need("taskset", ("util-linux",), "a process bound to one processor"),
)


@functools.cache
def missing():
    """Names of the needs that are not met."""
    return frozenset(need.name for need in NEEDS if not need.met())


def _program(name):
    return shutil.which(name, path=_PATH) or name


def _libraries(*names):
    listed = subprocess.run([_program("ldconfig"), "-p"], capture_output=True, text=True, check=False).stdout
    return all(f"{name} " in listed for name in names)


def _works(*command):
    try:
        return subprocess.run([_program(command[0]), *command[1:]], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _install(packages):
    """As root, from Debian; what goes wrong is seen when the need is still not met."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = [_program("apt-get"), "-qq", "-o", "Dpkg::Use-Pty=0"]
    for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)


def main():
    """Install or say what is missing."""
    lacking = [need for need in NEEDS if not need.met()]
    packages = [package for need in lacking for package in need.packages]
    if packages and os.geteuid() == 0 and shutil.which("apt-get", path=_PATH):
        print(f"Installing for some tests: {' '.join(packages)}", flush=True)  # noqa: T201
        _install(packages)
        lacking = [need for need in lacking if not need.met()]
        packages = [package for need in lacking for package in need.packages]
    if not lacking:
        return
    how = f"`apt-get install {' '.join(packages)}` as root brings it" if packages else "no package brings it"
    if packages and os.geteuid() == 0:
        how = f"apt-get could not install {' '.join(packages)} here"
    what = "; ".join(f"{need.name}, for {need.tests}" for need in lacking)
    print(f"Missing: {what}. {how[0].upper()}{how[1:]}. These tests are left out.", flush=True)  # noqa: T201
    if "--insist" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
