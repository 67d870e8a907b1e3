"""A look at everything a workspace holds: what is damaged, what is missing, what can be put right.

Nothing is changed unless repair is asked for. A repair never removes anything: what is torn is moved to `quarantine/`.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from index.custody.alike import too_alike
from index.custody.classes import lost_labels
from index.custody.erasure_note import unfinished
from index.errors import CannotRead, DamagedData, InvalidInput, NotFound, SemiomeError
from index.files.durable import sync_folder
from index.files.failures import may_not_read
from index.files.place import Place
from index.records import Clip, Video, check_clip, check_crop, check_video
from index.tables.blocklist import ErasedList, has_erased, workspace_key
from index.tables.compaction import compact, table_facts
from index.tables.rows import batches, select
from index.tables.schema import CLIP_COLUMNS, CLIP_FIELDS, damaged_rows
from index.tables.store import Store
from index.vectors.generation import FLAT_CLIPS, list_generations, load_generation
from index.vectors.publication import fetch
from index.words import counted
from index.workspace import GENERATIONS, KEY, STORE, Workspace, classes_of, current

_LEAST_FREE_BYTES = 1 << 30
_MANY_FRAGMENTS = 64
OK, WARNING, DAMAGED = "ok", "warning", "damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: what was examined.
        state: `ok`, `warning` or `damaged`.
        says: what was found, what it means, what to do.
        repaired: it has been put right.
    """

    what: str
    state: str
    says: str
    repaired: bool = False


def examine(workspace: Workspace, *, repair: bool = False) -> list[Finding]:
    """Look at everything.

    Args:
        workspace: to examine.
        repair: put right what can be.

    Raises:
        Locked: If a repair needs the right to write, and another process has it.
    """
    store = Store(workspace)
    findings = [_disk(workspace), *_readers(workspace)]
    findings += _erased(workspace)
    fetch(workspace, everything=True)
    findings += _conditions(workspace.place)
    if not store.exists() and list_generations(workspace.generations):
        gone = "it is gone, and there are generations of it: bring it back from a backup"
        return [*findings, Finding("store", DAMAGED, gone)]
    if not store.exists():
        return [*findings, Finding("store", WARNING, "there is none yet: run `semiome encode`")]
    if repair:
        with store.writing() as still_mine:
            findings += _torn_versions(workspace, repair=True)
            findings += _tables(store, still_mine)
    else:
        findings += _torn_versions(workspace, repair=False)
        findings += _tables(store, None)
    findings += _generations(store, workspace)
    return [*findings, *_labels(store, workspace)]


def _labels(store: Store, workspace: Workspace) -> list[Finding]:
    """Whether every stored label is one of the workspace's classes."""
    try:
        classes = classes_of(workspace)
        lost = lost_labels(store, classes)
    except SemiomeError as error:
        return [Finding("classes", DAMAGED, str(error))]
    says = f"{lost}, which is no class here ({classes.listed}): see `semiome classes`"
    return [Finding("classes", WARNING, says)] if lost else []


def _erased(workspace: Workspace) -> list[Finding]:
    """Whether it can be told who was erased, and which erasures have not ended."""
    findings = []
    try:
        if workspace.place.read(KEY) is not None or has_erased(workspace):
            workspace_key(workspace)
            count = counted(len(ErasedList(workspace).hashes), "patient")
            findings.append(Finding("the erased", OK, f"{count} on the list, which can be read"))
        for asking, says in (
            (False, "was interrupted: run `semiome erase` for them again"),
            (True, "found texts that may name the patient: run it again with --also-text or --keep-text"),
        ):
            at = unfinished(workspace, asking=asking)
            findings += [Finding("erasure", WARNING, f"one that began at {when} {says}") for when in at]
    except SemiomeError as error:
        findings.append(Finding("the erased", DAMAGED, str(error)))
    return findings


def _disk(workspace: Workspace) -> Finding:
    """Whether tables and generations would fit a second time, as a compaction or a rebuild may need."""
    existing = next(folder for folder in (workspace.root, *workspace.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    here = (GENERATIONS,) if workspace.bucket else (STORE, GENERATIONS)
    held = sum(size for folder in here for size in workspace.place.sizes(folder).values())
    text = f"{free / 1e9:.1f} GB free"
    if free < held + _LEAST_FREE_BYTES:
        needed = (held + _LEAST_FREE_BYTES) / 1e9
        return Finding("disk space", WARNING, f"{text}: a rebuild or a compaction may need {needed:.1f} GB, make room")
    return Finding("disk space", OK, text)


def _readers(workspace: Workspace) -> list[Finding]:
    """Whether other users of the machine can look into the workspace: it holds patients."""
    root = workspace.root.absolute()
    if not root.is_dir() or not root.stat().st_mode & 0o007:
        return []
    if not all(folder.stat().st_mode & 0o001 for folder in root.parents):
        return []  # a folder above it is closed
    return [Finding("access", WARNING, "every user of this machine can look into it: `chmod -R o= WORKSPACE`")]


def _conditions(place: Place) -> list[Finding]:
    what, keeps = "object storage", place.keeps_conditions()
    if keeps is None:
        return []
    if keeps:
        return [Finding(what, OK, "of two processes that write the same object at once one is refused")]
    says = (
        "conditional writes are not kept: two hosts that write at once would lose what one of them wrote; let one host "
        "alone write, or use a storage that keeps If-None-Match and If-Match"
    )
    return [Finding(what, DAMAGED, says)]


def _torn_versions(workspace: Workspace, *, repair: bool) -> list[Finding]:
    """Manifests of table versions that a power cut left empty: the newest of them keeps a table from being opened."""
    findings = []
    for folder in sorted(workspace.store.glob("*.lance/_versions")):
        torn = [path for path in folder.glob("*.manifest") if path.stat().st_size == 0]
        for path in torn:
            what = f"table {folder.parent.name.removesuffix('.lance')}"
            says = (
                f"version file {path.name} is empty, as a power cut leaves it: what that one commit wrote was never "
                "acknowledged, everything before it is there"
            )
            if repair:
                _quarantine(workspace, path)
            findings.append(Finding(what, DAMAGED, says, repaired=repair))
    return findings


def _tables(store: Store, repairing: Callable[[], None] | None) -> list[Finding]:
    findings = []
    try:
        names = store.table_names()
        videos = store.videos()
    except (SemiomeError, RuntimeError, OSError, ValueError) as error:
        if may_not_read(error):
            return [Finding("store", DAMAGED, str(CannotRead()))]
        says = str(error) if isinstance(error, SemiomeError) else f"can't be opened ({type(error).__name__})"
        return [Finding("store", DAMAGED, f"{says}: `semiome doctor --repair`, or bring it back from a backup")]
    findings += _videos(videos)
    findings += _guarded("patients", partial(_patients, store))[0]
    with_clips: set[str] = set()
    for encoder_id in (name.removeprefix("clips_") for name in names if name.startswith("clips_")):
        found, ids = _guarded(f"clips of encoder {encoder_id}", partial(_clips, store, encoder_id))
        with_clips |= ids
        findings += found
        if orphans := ids - videos.keys():
            says = (
                f"{len(orphans)} videos have clips and no row of their own: a crash between the two; encode the "
                "manifest again, nothing is decoded twice"
            )
            findings.append(Finding(f"clips of encoder {encoder_id}", WARNING, says))
    if empty := {name for name, video in videos.items() if video.clip_count} - with_clips:
        says = f"{len(empty)} videos have no clip of any encoder: encode the manifest again"
        findings.append(Finding("videos", WARNING, says))
        findings += _guarded(f"clips of encoder {encoder_id}", partial(_alike, store, encoder_id))[0]
    for name in names:
        findings += _guarded(f"table {name}", partial(_size, store, name))[0]
    if repairing and any(finding.state == WARNING and finding.what.startswith("table ") for finding in findings):
        compact(store, repairing)
        findings = [replace(f, repaired=f.state == WARNING and f.what.startswith("table ")) for f in findings]
    return findings


def _patients(store: Store) -> tuple[list[Finding], set[str]]:
    rows = select(store.open_table("patients"), None)
    keys = set(rows.column("patient_id").to_pylist())
    without = {video.patient_id for video in store.videos().values()} - keys
    says = f"{len(without)} patients of videos have no row: bring the store back from a backup"
    return [Finding("patients", DAMAGED, says)] if without else [], set()


def _impossible_clips(batch: Any) -> list[str]:  # noqa: ANN401  of pyarrow
    columns = [batch.column(name).to_pylist() for name in (*CLIP_FIELDS, "source_sha256", "crop")]
    findings = []
    for *values, source, crop in zip(*columns, strict=True):
        clip = Clip(*values)
        try:
            check_clip(clip, source)
            check_crop(crop)
        except InvalidInput:
            findings.append(clip.clip_id)
    return findings


def _videos(videos: Mapping[str, Video]) -> list[Finding]:
    """Rows that can't be, and recordings that are stored more than once."""
    findings = []
    wrong = []
    for video in videos.values():
        try:
            check_video(video)
        except InvalidInput as error:
            wrong.append(f"{video.video_id[:64]!r}: {error}")
    if wrong:
        says = f"{len(wrong)} rows hold what no video may ({'; '.join(wrong[:3])}): `semiome remove` takes them out"
        findings.append(Finding("videos", DAMAGED, says))
    return findings + [
        Finding("same recording", WARNING, f"{says}; `semiome remove --video ID` takes one out")
        for says in _same_recording(videos.values())
    ]


def _same_recording(videos: Iterable[Video]) -> Iterator[str]:
    """What is stored twice: a file of several patients, or the same part of a file of one."""
    by_file: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        by_file[video.source_sha256].append(video)
    for group in by_file.values():
        if len({video.patient_id for video in group}) > 1:
            yield (
                f"{_names(group)} are the same file of several patients: they find each other as others, and a split "
                "may part them"
            )
            continue
        by_part: dict[tuple[float, float | None], list[Video]] = defaultdict(list)
        for video in group:
            by_part[video.start_s, video.end_s].append(video)
        for same in by_part.values():
            if len(same) > 1:
                what = "the same part of a file" if len(by_part) > 1 else "the same file"
                yield f"{_names(same)} are {what}: each has a vote, and is a hit of its own"


def _names(videos: Iterable[Video]) -> str:
    return ", ".join(sorted(video.video_id for video in videos))


def _alike(store: Store, encoder_id: str) -> tuple[list[Finding], set[str]]:
    """Videos of two patients that are too alike to be two recordings."""
    stored = store.clips(encoder_id)
    pairs, looked = too_alike(stored)
    known = {video.video_id: video.source_sha256 for video in store.videos().values()}
    pairs = [
        pair for pair in pairs if known.get(pair.videos[0]) != known.get(pair.videos[1])
    ]  # these are reported above
    if not pairs:
        return [], set()
    named = "; ".join(f"{' and '.join(pair.videos)} ({pair.similarity:.3f})" for pair in pairs[:5])
    says = (
        f"{len(pairs)} pairs of videos of two patients are too alike to be two recordings: {named}. Look at them; "
        f"`semiome remove --video ID` takes one out (looked at {looked} of {len(stored.clips.video_ids)} videos)"
    )
    return [Finding("same recording", WARNING, says)], set()


def _size(store: Store, name: str) -> tuple[list[Finding], set[str]]:
    table = table_facts(store, name)
    says = f"{table.rows} rows in {table.fragments} files, {table.versions} versions, {table.size_bytes / 1e6:.1f} MB"
    if table.small_fragments > _MANY_FRAGMENTS:
        return [Finding(f"table {name}", WARNING, f"{says}: `semiome doctor --repair` merges small files")], set()
    return [Finding(f"table {name}", OK, says)], set()


def _guarded(what: str, look: Callable[[], tuple[list[Finding], set[str]]]) -> tuple[list[Finding], set[str]]:
    """LanceDB raises these on damaged files: name it, and go on looking. Anything else is a bug, and is not hidden."""
    try:
        return look()
    except (SemiomeError, RuntimeError, OSError, ValueError) as error:
        if may_not_read(error):
            return [Finding(what, DAMAGED, str(CannotRead()))], set()
        says = str(error) if isinstance(error, SemiomeError) else f"can't be read ({type(error).__name__})"
        return [Finding(what, DAMAGED, f"{says}: see the findings above; else bring back a backup")], set()


def _clips(store: Store, encoder_id: str) -> tuple[list[Finding], set[str]]:
    """Each row's digest, and one row a clip."""
    what = f"clips of encoder {encoder_id}"
    table = store.clip_table(encoder_id)
    keys = select(table, ["clip_id", "video_id"])
    ids = Counter(keys.column("clip_id").to_pylist())
    damaged: list[str] = []
    wrong: list[str] = []
    for batch in batches(table, [*CLIP_COLUMNS, "vector"]):
        damaged += damaged_rows(batch)
        wrong += _impossible_clips(batch)
    findings = []
    if wrong:
        says = (
            f"{len(wrong)} clips are none that can be ({', '.join(wrong[:3])}, …): remove their videos with `semiome "
            "remove`, and encode them again"
        )
        findings.append(Finding(what, DAMAGED, says))
    if doubled := [clip for clip, count in ids.items() if count > 1]:
        findings.append(Finding(what, DAMAGED, f"{len(doubled)} clips have more than one row ({doubled[0]}, …)"))
    if damaged:
        says = (
            f"{len(damaged)} rows are not what was written ({', '.join(damaged[:3])}, …): bring the store back from a "
            "backup, or remove their videos and encode them again"
        )
        findings.append(Finding(what, DAMAGED, says))
    if not findings:
        findings.append(Finding(what, OK, f"{len(ids)} clips, every row as it was written, no clip twice"))
    return findings, set(keys.column("video_id").to_pylist())


def _generations(store: Store, workspace: Workspace) -> list[Finding]:
    folder = workspace.generations
    findings = []
    try:
        serving = current(folder)
    except SemiomeError as error:
        serving = None
        findings.append(Finding("index", DAMAGED, str(error)))
    there = list_generations(folder)
    if serving is None and there and not findings:
        says = "there are generations, and none is published: `semiome index activate` one"
        findings.append(Finding("index", WARNING, says))
    if serving is not None and serving not in there:
        says = "the generation that should serve is missing, or not whole: `semiome index rollback`, or build one"
        findings.append(Finding("index", DAMAGED, says))
    for name in there:
        what = f"generation {name}{' (serves)' if name == serving else ''}"
        findings += _guarded(what, partial(_generation, store, folder, name, what, serves=name == serving))[0]
    return findings


def _generation(store: Store, folder: Path, name: str, what: str, *, serves: bool) -> tuple[list[Finding], set[str]]:
    try:
        loaded = load_generation(folder, name)
    except DamagedData as error:
        return [Finding(what, DAMAGED, f"{error}; or `semiome index rollback`")], set()
    try:
        changes = store.changes(loaded.manifest.encoder_id, loaded.clips, loaded.manifest.table_version)
    except NotFound:
        return [Finding(what, WARNING, "its encoder has no clips any more: `semiome index gc`")], set()
    newer, gone = len(changes.added.clips), len(changes.gone)
    says = f"{len(loaded.clips)} clips, every file as it was built; {newer} newer ones, {gone} gone since"
    if serves and newer + gone > max(len(loaded.clips) // 10, FLAT_CLIPS // 10):
        return [Finding(what, WARNING, f"{says}: `semiome index build` makes searches faster")], set()
    return [Finding(what, OK, says)], set()


def _quarantine(workspace: Workspace, path: Path) -> None:
    """Move a file aside, out of LanceDB's sight."""
    kept = workspace.root / "quarantine" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    kept.mkdir(parents=True, exist_ok=True)
    path.rename(kept / f"{path.parent.parent.name}-{path.name}")
    for folder in (path.parent, kept, kept.parent):
        sync_folder(folder)
