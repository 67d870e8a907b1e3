"""The steps of a Dockerfile, and what its image is for, in a chroot: no container engine is needed to see them work.

This machine's own system and Python stand in for the base image, read-only; all that the steps write lies in a folder
of the test's own. Needs root, for `unshare` and `chroot`.
"""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_ETC = (
    "alternatives",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "login.defs",
    "nginx",
    "nsswitch.conf",
    "resolv.conf",
    "ssl",
)
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"


def instructions(text, arguments):
    """A Dockerfile's instructions, as (name, rest), with its ARGs filled in."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    known = dict(arguments)
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "ARG":
            key, _, default = rest.partition("=")
            known.setdefault(key, shlex.split(default)[0] if default.strip('"') else "")
            continue
        if name != "RUN":
            rest = re.sub(r"\$(\w+)", lambda match: known.get(match[1], match[0]), rest)
        yield name, rest.strip(), dict(known)


def own_pip_settings():
    """What pip is told on this machine, by files and by its environment, as the text of one pip.conf, and its files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = configparser.RawConfigParser()
    settings.add_section("global")
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings["global"][key.rpartition(".")[2]] = value.strip("'").replace("\\n", "\n  ")
    words = [word for value in settings["global"].values() for word in value.split()]
    return settings, [Path(word) for word in words if word.startswith("/") and Path(word).exists()]


@dataclass
class Image:
    """A stage of a build: its root, and what it says of how it is run."""

    root: Path
    environment: dict = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple = ()
    command: tuple = ()
    binds: list = field(default_factory=list)

    def start(self, *command, mounts=(), read_only=False, network=True, **popen):
        """Start a command in it, `[]` the image's own; mounts are (from, to, options), and `tmpfs` as from."""
        script = [f"mount --bind {self._at('')} {self._at('')}"]
        for source, target, options in (*self.binds, *mounts):
            self._place(target, folder=source == "tmpfs" or Path(source).is_dir())
            if source == "tmpfs":
                script.append(f"mount -t tmpfs -o {options} tmpfs {self._at(target)}")
            else:
                script.append(f"mount --rbind {shlex.quote(str(source))} {self._at(target)}")
                script += [f"mount -o remount,bind,{options} {self._at(target)}"] if options else []
        script += [f"mount -o remount,bind,ro {self._at('')}"] if read_only else []
        inside = f'cd {self.folder} && exec "$@"'
        values = [f"{key}={value}" for key, value in self.environment.items()]
        root = ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *values]
        words = [*root, "sh", "-c", inside, "sh", *(command or (*self.entrypoint, *self.command))]
        script.append(f"exec {shlex.join(map(str, words))}")
        own = ["unshare", "--mount", *([] if network else ["--net"])]
        return subprocess.Popen([*own, "sh", "-ec", "\n".join(script)], text=True, **popen)

    def run(self, *command, **how):
        """Run one to its end; what it wrote to stdout. What it said is in the error if it fails."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
        output, errors = process.communicate()
        said = f"{shlex.join(map(str, command))} ended with {process.returncode}: {output[-1000:]} {errors[-3000:]}"
        assert process.returncode == 0, said
        return output

    def _at(self, path):
        return shlex.quote(f"{self.root}/{str(path).strip('/')}").rstrip("/")

    def _place(self, target, *, folder):
        """Make what something is mounted on."""
        path = self.root / str(target).strip("/")
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
        if not folder:
            path.touch()


def _base(root, settings, files):
    """A root with this machine's system in it."""
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc", "opt", "var/log/nginx", "usr", "home"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    binds = [("/usr", "/usr", "ro"), ("/dev", "/dev", ""), ("/proc", "/proc", "")]
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        path = Path("/", name)
        if path.is_symlink():
            (root / name).symlink_to(path.readlink())
        elif path.is_dir():
            binds.append((path, path, "ro"))
    for path in (Path("/etc", name) for name in _ETC):
        if path.exists():
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, root / "etc" / path.name, **({"symlinks": True} if path.is_dir() else {}))
    for name, text in (("passwd", _USERS), ("group", "root:x:0:\nnogroup:x:65534:\n"), ("shadow", ""), ("gshadow", "")):
        (root / "etc" / name).write_text(text)
    python = Path(sys.base_prefix)
    if python == Path("/usr"):  # Debian's, whose command `python` may be missing
        (local := root.parent / f"{root.name}.local" / "bin").mkdir(parents=True)
        (local / "python").symlink_to("/usr/bin/python3")
        binds.append((local.parent, "/usr/local", "ro"))
    elif python != Path("/usr/local"):
        binds += [(python, "/usr/local", "ro"), (python, python, "ro")]  # libraries are sought where it was built for
    known = ("/etc/ssl", "/usr")
    binds += [(path, path, "ro") for path in files if not any(path.is_relative_to(one) for one in known)]
    return Image(root, binds=binds)


def build(dockerfile, context, folder, **arguments):
    """Do the steps of a Dockerfile one after the other, as a builder would that has none of its layers yet.

    Args:
        dockerfile: path.
        context: the repository's root.
        folder: new, for the stages.
        **arguments: values of its ARGs.

    Returns:
        The image of its last stage.
    """
    settings, files = own_pip_settings()
    folder.mkdir(exist_ok=True)
    secret = folder / "pip.conf"
    with secret.open("w") as stream:
        settings.write(stream)
    stages, image = {}, None
    for name, rest, known in instructions(dockerfile.read_text(), arguments):
        if name == "FROM":
            _, _, called = rest.partition(" AS ")
            image = _base(folder / f"stage{len(stages)}", settings, files)
            stages[called or len(stages)] = image
        elif name == "ENV":
            values = dict(word.split("=", 1) for word in shlex.split(rest))
            path = image.environment["PATH"]
            image.environment |= {key: value.replace("$PATH", path) for key, value in values.items()}
        elif name == "WORKDIR":
            image.folder = rest
            (image.root / rest.strip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(image, stages, context, shlex.split(rest))
        elif name == "RUN":
            words = rest.split()
            options = [word for word in words if word.startswith("--mount=")]
            script = rest.split(options[-1], 1)[1] if options else rest
            lent = [(secret, "/etc/pip.conf", "ro")] if options else []
            given = {**image.environment, **known}
            step = Image(image.root, given, image.folder, image.user, binds=image.binds)
            step.run("sh", "-ec", script, mounts=lent)
            for _, target, _ in lent:
                (image.root / target.strip("/")).unlink()
        elif name in {"USER", "ENTRYPOINT", "CMD"}:
            value = rest if name == "USER" else tuple(json_words(rest))
            setattr(image, {"USER": "user", "ENTRYPOINT": "entrypoint", "CMD": "command"}[name], value)
        else:
            assert name in {"VOLUME", "EXPOSE", "STOPSIGNAL"}, f"a step that is not tried here: {name}"
    return image


def json_words(text):
    """Words of an instruction's JSON list."""
    return re.findall(r'"((?:[^"\\]|\\.)*)"', text)


def _copy(image, stages, context, words):
    origin = context
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    for source in sources:
        path = origin / source.strip("/")
        within = Path(image.root, image.folder.strip("/"))
        place = image.root / target.strip("/") if target.startswith("/") else within / target
        if path.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, place, symlinks=True, dirs_exist_ok=True, ignore=unwanted)
        else:
            place = place / path.name if target.endswith("/") or place.is_dir() else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
