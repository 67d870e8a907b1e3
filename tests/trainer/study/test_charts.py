"""Charts of the report: what is written in them, what they leave out, and that nothing else decides how they look."""

import math
import os
import re
import subprocess
import sys

import pytest

from trainer.study.charts import Series, chart, confusion


def written_in(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_chart_escapes_names_and_takes_a_dollar_for_a_dollar():
    drawn = chart("a < b", "x", "y", [Series("<i> $a$", [(0.0, 0.0), (1.0, 2.0)])])

    assert "<i>" not in drawn
    assert {"a &lt; b", "&lt;i&gt; $a$"} <= set(written_in(drawn))


def test_a_chart_of_hardly_different_values_repeats_no_tick():
    ticks = written_in(chart("", "", "", [Series("", [(1, 0.50001), (2, 0.50002)])]))

    assert len(ticks) == len(set(ticks)) > 4
    assert {"1", "2"} <= set(ticks)
    assert "1.5" not in ticks


def test_a_chart_without_points_says_so():
    diagonal = Series("", [(0.0, 0.0), (1.0, 1.0)], dashed=True)

    assert "too few videos" in chart("", "", "", [diagonal, Series("a", [])], empty="too few videos")
    assert "too few videos" not in chart("", "", "", [Series("a", [(0.5, 0.5)])], empty="too few videos")


def test_a_chart_of_a_loss_that_diverged_shows_what_is_finite():
    lost = Series("a", [(0, math.nan), (1, math.inf), (math.nan, 1)])

    assert "nothing to show" in chart("", "", "", [lost])
    finite = Series("a", [(1, 0.5), (2, 0.25)])
    mixed = Series("a", [(0, math.nan), *finite.points, (3, -math.inf)])
    assert chart("", "", "", [mixed]) == chart("", "", "", [finite])


def test_a_chart_with_many_and_long_names_shortens_them():
    names = written_in(chart("", "", "", [Series(f"{n} {'long' * 20}", [(n, n)]) for n in range(60)]))

    assert [name for name in names if "long" in name] == [f"{n} {'long' * 20}"[:23] + "\u2026" for n in range(16)]


@pytest.mark.parametrize("own", ["text.usetex: True", "svg.fonttype: path", "font.size: 40"])
def test_a_chart_is_the_same_whatever_a_users_own_settings_are(tmp_path, own):
    (tmp_path / "matplotlibrc").write_text(own)
    draw = "from trainer.study.charts import *; print(chart('t', 'x', 'y', [Series('a', [(0, 1.5), (1, 0.0)])]))"
    foreign = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", draw], env=os.environ | foreign, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == chart("t", "x", "y", [Series("a", [(0, 1.5), (1, 0.0)])])


def test_the_same_chart_is_the_same_text():
    series = [Series("a", [(0.0, 1.0), (1.0, 0.0)])]

    assert chart("t", "x", "y", series) == chart("t", "x", "y", series)
    assert confusion("t", ((1, 2), (3, 4)), ("TLE", "exTLE")) == confusion("t", ((1, 2), (3, 4)), ("TLE", "exTLE"))
