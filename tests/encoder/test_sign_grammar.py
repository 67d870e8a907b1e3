"""The grammar of signs in time: what holds where, against words written out, and what is refused with what advice."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.sign_grammar import parsed
from index.errors import InvalidInput
from index.semiology import Stretch

KNOWN = ("Semiology-versive", "Semiology-tonic", "Semiology-clonic", "own-sign")
stretches = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=4).map(
    lambda pairs: sorted(Stretch(10.0 * a, 10.0 * (a + n), 0.75) for a, n in pairs)
)
tracks = st.fixed_dictionaries(dict.fromkeys(KNOWN, stretches))


def where(text, found):
    return parsed(text, KNOWN).holds(found)


@given(tracks, st.sampled_from([0, 10, 30, 100]))
def test_a_course_holds_where_the_second_begins_in_time(found, within):
    a, b = found["Semiology-versive"], found["Semiology-tonic"]

    holds = where(f"versive then tonic within {within} s", found)

    assert bool(holds) == any(x.start_s < y.start_s <= x.end_s + within for x in a for y in b)
    for one in holds:
        assert any(one.start_s == x.start_s for x in a)
        assert any(one.end_s >= y.end_s and one.start_s < y.start_s for y in b)


@given(tracks)
def test_words_mean_what_they_say(found):
    a, b = found["Semiology-versive"], found["Semiology-tonic"]

    assert bool(where("versive and tonic", found)) == (bool(a) and bool(b))
    assert bool(where("versive or tonic", found)) == (bool(a) or bool(b))
    assert bool(where("not versive", found)) == (not a)
    assert bool(where("not not versive", found)) == bool(a)
    assert where("versive for 25", found) == [one for one in a if one.end_s - one.start_s >= 25]
    assert bool(where("(versive or own-sign) and not tonic", found)) == (bool(a or found["own-sign"]) and not b)
    assert bool(where("versive then tonic", found)) == any(x.start_s < y.start_s for x in a for y in b)
    # `and` binds closer than `or`, `then` closer than both.
    c = found["Semiology-clonic"]
    assert bool(where("versive or tonic and clonic", found)) == bool(a or (b and c))


def test_three_in_a_row_and_each_interval_counts_from_the_end_of_the_one_before():
    found = {
        "Semiology-versive": [Stretch(10, 20, 0.9)],
        "Semiology-tonic": [Stretch(30, 50, 0.6)],
        "Semiology-clonic": [Stretch(60, 90, 0.8)],
    }

    assert where("versive then tonic within 10 s then clonic within 10s", found) == [Stretch(10, 90, 0.6)]
    assert where("versive then tonic within 9 s then clonic within 10 s", found) == []
    assert where("versive then (tonic then clonic within 10 s) within 10 s", found) == [Stretch(10, 90, 0.6)]
    assert where("clonic then versive", found) == []


@pytest.mark.parametrize(
    "name", ["versive", "VERSIVE", "Semiology-versive", '"version of eyes, head or trunk"', '"versive"']
)
def test_a_sign_may_be_named_in_several_ways(name):
    assert parsed(name, KNOWN).signs == {"Semiology-versive"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a sign, got nothing more"),
        ("versive then", "expected a sign, got nothing more"),
        ("versive tonic", r"expected the end, or `and`, `or`, `then`, got 'tonic' \(word 2"),
        ("(versive", "expected `\\)`, got nothing more"),
        ("versive)", "expected the end"),
        ("then versive", "expected a sign, got 'then'"),
        ("versive then tonic within soon", "expected a number of seconds, got 'soon'"),
        ("versive for", "expected a number of seconds, got nothing more"),
        ("versiv", "no sign 'versiv' is judged here; did you mean versive"),
        ("dancing", "no sign 'dancing' is judged here; there are: versive, tonic, clonic, own-sign"),
        ('"version of', "closing quote"),
        ("(" * 30 + "versive" + ")" * 30, "nested at most 20"),
        ("not " * 30 + "versive", "nested at most 20"),
        ("versive and " * 60 + "tonic", "at most 400 characters"),
    ],
)
def test_what_is_no_sentence_is_refused_with_what_was_expected(text, says):
    with pytest.raises(InvalidInput, match=says):
        parsed(text, KNOWN)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(InvalidInput):
        parsed(text, KNOWN)
