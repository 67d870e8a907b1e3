"""An ablation study as text and as one self-contained HTML page, for people who have to decide something by it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from index.errors import StateError
from index.semiology import PAPER, Classes
from trainer.judging.metrics import Difference, Estimate, curves, reliability
from trainer.judging.probes import Share
from trainer.judging.retrieval import Ranking
from trainer.study.ablation import Row, Study
from trainer.study.charts import Series, chart, confusion
from trainer.study.pretrained_encoders import Embedded

_LEVEL, _GREY = 0.05, 5
_SHARES = (-0.02, 1.02)
_MODES = {
    "transductive": "Folds by patient; pretraining saw the test patients' unlabelled clips (as the paper)",
    "inductive": "Folds by patient; each fold pretrained without its test patients",
    "external": "External patients, never seen in pretraining or by any head",
}
_SETTINGS = {"none": "no pretraining", "video": "video level", "patient": "patient level", "both": "both levels"}

_TABLE_1 = (
    ("Karacsony et al. (I3D)", "I3D + LSTM", (0.796, 0.708)),
    ("the same with R(2+1)D", "R(2+1)D + LSTM", (0.664, 0.587)),
    ("Perez-Garcia et al.", "Perez-Garcia", (0.771, 0.667)),
    ("no pretraining", "none", (0.825, 0.750)),
    ("video level", "video", (0.860, 0.790)),
    ("patient level", "patient", (0.912, 0.857)),
    ("both levels", "both", (0.930, 0.882)),
)
"""Li et al., Table I: accuracy and F1 on 57 videos of 15 patients; the row of a study that does the same."""


class Table(NamedTuple):
    """A table of the page."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(study: Study) -> list[tuple[str, list[tuple[str, ...]]]]:
    """For each mode its heading, and a line of `columns_of` for each row."""
    tables = []
    for mode, rows in groupby(study.rows, key=lambda row: row.mode):
        of_mode = list(rows)
        counted = of_mode[0].scores
        heading = (
            f"{_MODES[mode]}: {counted.videos} videos of {counted.patients} patients; always saying the commoner class "
            f"is right in {counted.majority:.3f}"
        )
        tables.append((heading, [_cells(row) for row in of_mode]))
    return tables


def columns_of(classes: Classes) -> tuple[str, ...]:
    """Heads of the table's columns."""
    f1 = () if classes.positive is None else (f"F1 {classes.positive}",)
    return ("", "accuracy", *f1, "macro F1", "balanced", "AUROC", "against none", "by seed")


def as_text(study: Study) -> str:
    """The table for a terminal or a file."""
    lines = []
    for heading, columns, rows in _tables(study):
        widths = [max(len(cells[i]) for cells in (columns, *rows)) for i in range(len(columns))]
        lines += [heading, ""]
        for cells in (columns, *rows):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        lines.append("")
    return "\n".join([*lines, *conclusions(study), ""])


def _tables(study: Study) -> list[Table]:
    """That of each mode, and the paper's where the classes are the paper's."""
    columns = columns_of(study.config.told_apart)
    tables = [Table(heading, columns, rows) for heading, rows in table(study)]
    return [*tables, beside_the_paper(study)] if study.config.told_apart == PAPER else tables


def beside_the_paper(study: Study) -> Table:
    """The paper's Table I, and the same rows of this study; transductive, as the paper, where that was asked for."""
    modes = {row.mode for row in study.rows}
    mode = "transductive" if "transductive" in modes else study.rows[0].mode
    here = {row.name.split(",")[0]: row for row in reversed(study.rows) if row.mode == mode}

    def cells(named: str, ours: str, figures: tuple[float, float]) -> tuple[str, ...]:
        row = here.get(ours)
        figures_here = () if row is None else (row.scores.accuracy, row.scores.f1)
        of_row = [_estimate(figure) for figure in figures_here if figure is not None] or ["", ""]
        return (named, *(f"{figure:.3f}" for figure in figures), *of_row)

    columns = ("", "paper: accuracy", "paper: F1", f"here, {mode}: accuracy", "here: F1")
    return Table("Table I of the paper, and here", columns, [cells(*line) for line in _TABLE_1])


def conclusions(study: Study) -> list[str]:
    """What may and may not be concluded, in plain words."""
    said = []
    for mode, rows in groupby(study.rows, key=lambda row: row.mode):
        of_mode = {row.name: row for row in rows}
        both, motion = of_mode["both"], of_mode["motion energy"]
        scores = both.scores
        width = scores.accuracy.high - scores.accuracy.low
        said.append(
            f"{_MODES[mode]}. {scores.patients} patients are what counts here, not {scores.videos} videos: with so "
            f"many, an accuracy is known to within about {width / 2:.2f} either way."
        )
        if both.against_none is not None:
            said.append(f"Pretraining at both levels against none: {_judged(both.against_none)}")
        if both.against_motion is not None:
            said.append(f"Against motion energy, which learns nothing: {_judged(both.against_motion)}")
        if motion.scores.accuracy.value > scores.accuracy.value:
            said.append(
                "Motion energy alone is right more often: whatever the encoder sees, it is not yet worth its cost."
            )
        if scores.accuracy.low <= scores.majority:
            said.append("It is not shown to be better than always saying the commoner class.")
    said.append("Research use only. One cohort can't tell how other hospitals' cameras, rooms and patients would fare.")
    return said


def as_html(study: Study) -> str:
    """The page, from the template `report.html.j2`."""
    page = Environment(
        loader=PackageLoader("trainer.study", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return page.get_template("report.html.j2").render(
        name=study.config.name,
        clips=len(study.clips),
        patients=len({clip.patient_id for clip in study.clips}),
        conclusions=conclusions(study),
        tables=_tables(study),
        whose=_whose(study),
        retrieval=_retrieval(study),
        probes=_probes(study),
        judgement=list(_judgement(study)),
        map=study.config.map.upper(),
        maps=_maps(study),
        training=_training(study),
        configuration=json.dumps(study.values()["config"], indent=1),
    )


def principal_components(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2) coordinates along the two directions of largest variance."""
    placed: NDArray[np.float32] = PCA(2, svd_solver="full").fit_transform(vectors_ND)
    return placed


def check_map(how: str) -> None:
    """Check whether embeddings can be laid out so.

    Raises:
        StateError: If UMAP is asked for and not installed.
    """
    if how == "umap" and importlib.util.find_spec("umap") is None:
        raise StateError("UMAP is not installed: pip install 'semiome[map]', or set map = \"pca\"")


def laid_out(vectors_ND: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """(N, 2) places of embeddings on a map."""
    check_map(how)
    if how == "pca":
        return principal_components(vectors_ND)
    from umap import UMAP

    neighbours = min(15, len(vectors_ND) - 1)
    layout = UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1)
    placed: NDArray[np.float32] = layout.fit_transform(vectors_ND)
    return placed


def _cells(row: Row) -> tuple[str, ...]:
    found = row.scores
    f1 = () if found.f1 is None else (found.f1,)
    low, high = min(row.accuracy_by_seed), max(row.accuracy_by_seed)
    return (
        _SETTINGS.get(row.name, row.name),
        *(_estimate(e) for e in (found.accuracy, *f1, found.macro_f1, found.balanced_accuracy, found.auroc)),
        "" if row.against_none is None else _difference(row.against_none),
        f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}",
    )


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _difference(difference: Difference) -> str:
    return f"{difference.value:+.3f} ({difference.low:+.2f} to {difference.high:+.2f}), p {difference.shown_p}"


def _judged(difference: Difference) -> str:
    if difference.low > 0 and difference.p < _LEVEL:
        verdict = "right more often, by more than chance explains"
    elif difference.high < 0 and difference.p < _LEVEL:
        verdict = "right less often, by more than chance explains"
    else:
        verdict = "no difference that these patients could show"
    return f"{_difference(difference)}: {verdict}."


def _retrieval(study: Study) -> list[Table]:
    columns = ("", "nearest is relevant", "one of 5 is", "mean average precision", "queries", "patients")

    def cells(name: str, ranking: Ranking | None) -> Iterator[tuple[str, ...]]:
        if ranking is not None:
            figures = (ranking.recall_at_1, ranking.recall_at_5, ranking.mean_average_precision)
            chances = (ranking.chance_at_1, ranking.chance_at_5, ranking.chance)
            told = (f"{_estimate(f)}, chance {c:.3f}" for f, c in zip(figures, chances, strict=True))
            yield (_SETTINGS[name], *told, str(ranking.queries), str(ranking.patients))

    tables = []
    for heading, key in (("Relevant: the same class", "labels"), ("Relevant: shows the same sign", "signs")):
        rows = [line for name, found in study.settings.items() for line in cells(name, getattr(found, key))]
        if rows:
            tables.append(Table(heading, columns, rows))
    return tables


def _whose(study: Study) -> str:
    if any(clip.split == study.config.hold_out_split for clip in study.clips):
        return "On external patients, whom no pretraining has seen."
    return "On the patients pretrained on, since no others were kept out: flattering."


def _probes(study: Study) -> Table:
    columns = ("", "same patient (other video)", "same camera (other patient)", "same class", "cosine", "rank")

    def share(found: Share | None) -> str:
        return "" if found is None else f"{found.found:.2f} (chance {found.chance:.2f})"

    rows = [
        (
            _SETTINGS[name],
            *(share(s) for s in (found.probes.patient, found.probes.camera, found.probes.label)),
            *(f"{found.probes.mean_cosine:.2f}", f"{found.probes.effective_rank:.1f}"),
        )
        for name, found in study.settings.items()
    ]
    return Table("Nearest neighbours", columns, rows)


def _judgement(study: Study) -> Iterator[tuple[str, list[str]]]:
    """For each mode its heading and its charts."""
    for mode, rows in groupby(study.rows, key=lambda row: row.mode):
        shown = [row for row in rows if row.kind != "reference" or row.name == "motion energy"]
        names = [_SETTINGS.get(row.name, row.name) for row in shown]
        classes = study.config.told_apart
        charts: list[str] = []
        for label in classes.names if classes.positive is None else (classes.positive,):
            charts += _curves_of(label, names[:4], shown[:4], classes)
        charts += [confusion(name, row.scores.confusion, classes.names) for name, row in zip(names, shown, strict=True)]
        yield _MODES[mode], charts


def _curves_of(label: str, names: Sequence[str], shown: Sequence[Row], classes: Classes) -> Iterator[str]:
    """How well one class is told from the others, and what its probabilities are worth."""
    drawn = [curves(row.predictions, label, classes) for row in shown]
    of = "" if len(classes) == 2 else f", {label} against the others"
    for key, title, x, y in (
        ("roc", "ROC", "false positive rate", "true positive rate"),
        ("precision_recall", "Precision and recall", "recall", "precision"),
    ):
        series = [
            Series(name, [(p[0], p[1]) for p in points[key]], colour)
            for colour, (name, points) in enumerate(zip(names, drawn, strict=True))
        ]
        yield chart(f"{title}{of}", x, y, series, _SHARES, _SHARES, empty="one class alone: no curve")
    diagonal = Series("", [(0, 0), (1, 1)], 5, dashed=True)
    told = [
        Series(name, [(said, true) for said, true, _ in reliability(row.predictions, label, classes)], colour)
        for colour, (name, row) in enumerate(zip(names, shown, strict=True))
    ]
    axes = (f"predicted probability of {label}", f"share that is {label}")
    yield chart(f"Reliability{of}", *axes, [diagonal, *told], _SHARES, _SHARES, empty="too few videos")


def _maps(study: Study) -> list[str]:
    charts = []
    patients = sorted({clip.patient_id for clip in study.clips})
    colour_of = {label: n + (n >= _GREY) for n, label in enumerate(study.config.told_apart.names)}
    for name, found in study.settings.items():
        placed = laid_out(found.vectors, study.config.map)
        for what in ("class", "patient"):
            groups: dict[tuple[str, int], list[int]] = {}
            for row, clip in enumerate(study.clips):
                label = clip.label or "no label"
                colour = colour_of.get(label, _GREY) if what == "class" else patients.index(clip.patient_id)
                groups.setdefault((label if what == "class" else "", colour), []).append(row)
            series = [
                Series(label, [(float(placed[r, 0]), float(placed[r, 1])) for r in rows], colour, joined=False)
                for (label, colour), rows in sorted(groups.items())
            ]
            charts.append(chart(f"{_SETTINGS[name]}, by {what}", "", "", series, axes=False))
    return charts


def _training(study: Study) -> list[str]:
    charts = []
    for name, found in study.settings.items():
        if steps := _steps(found):
            losses = Series("loss", [(s["step"], s["loss"]) for s in steps], 0)
            chance = Series("guessing", [(s["step"], s["chance"]) for s in steps], 5, dashed=True)
            charts.append(chart(f"{_SETTINGS[name]}: loss", "step", "nats", [chance, losses]))
            rank = Series("effective rank", [(s["step"], s["effective_rank"]) for s in steps], 2)
            charts.append(chart(f"{_SETTINGS[name]}: variety", "step", "dimensions", [rank]))
    return charts


def _steps(embedded: Embedded) -> list[dict[str, Any]]:
    return [line for line in embedded.log if "loss" in line]
