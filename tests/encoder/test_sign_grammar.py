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
    return list(parsed(text, KNOWN).holds(found).where)


def holds(text, found):
    return parsed(text, KNOWN).holds(found).holds


@given(tracks, st.sampled_from([0, 10, 30, 100]))
def test_a_course_holds_where_the_second_begins_in_time(found, within):
    a, b = found["Semiology-versive"], found["Semiology-tonic"]

    found_at = where(f"versive then tonic within {within} s", found)

    assert bool(found_at) == any(x.start_s < y.start_s <= x.end_s + within for x in a for y in b)
    for one in found_at:
        assert any(one.start_s == x.start_s for x in a)
        assert any(one.end_s >= y.end_s and one.start_s < y.start_s for y in b)


@given(tracks)
def test_words_mean_what_they_say(found):
    a, b, c = (found[name] for name in KNOWN[:3])

    assert holds("versive and tonic", found) == (bool(a) and bool(b))
    assert holds("versive or tonic", found) == (bool(a) or bool(b))
    assert holds("not versive", found) == (not a)
    assert holds("not not versive", found) == bool(a)
    assert where("versive for 25", found) == [one for one in a if one.end_s - one.start_s >= 25]
    assert holds("(versive or own-sign) and not tonic", found) == (bool(a or found["own-sign"]) and not b)
    assert holds("versive then tonic", found) == any(x.start_s < y.start_s for x in a for y in b)
    # `then` binds closest, then `not`, `and`, `or`.
    assert holds("versive or tonic and clonic", found) == bool(a or (b and c))
    assert holds("not versive then tonic", found) == (not holds("versive then tonic", found))
    assert holds("not versive and tonic", found) == (not a and bool(b))
    # What is missing is nowhere, and moves nothing.
    assert where("versive and not tonic", found) == ([] if b or not a else where("versive and versive", found))
    assert where("not versive", found) == []
    assert where("versive or versive", found) == sorted(set(a))
    assert where("(versive or tonic) for 20 s", found) == [o for o in sorted({*a, *b}) if o.end_s - o.start_s >= 20]


@pytest.mark.parametrize("unit", ["20", "20 s", "20s", "20 sec", "20 seconds", "20.0 s"])
def test_seconds_may_be_written_in_many_ways(unit):
    found = {"Semiology-tonic": [Stretch(0, 10, 0.9), Stretch(20, 40, 0.9)]}
    assert where(f"tonic for {unit}", found) == [Stretch(20, 40, 0.9)]
    assert where("tonic for 1 min", found) == where("tonic for 60", found) == []
    assert holds("tonic for .5 s and tonic", found)


def test_an_exact_name_comes_before_a_short_one():
    names = ("Semiology-tonic", "tonic", "Semiology-TONIC", "then")

    assert parsed("tonic", names).signs == {"tonic"}
    assert parsed("Semiology-tonic", names).signs == {"Semiology-tonic"}
    assert parsed("Semiology-TONIC", names).signs == {"Semiology-TONIC"}
    assert parsed("TONIC", names).signs == {"Semiology-TONIC"}
    assert parsed('"then" then tonic', names).signs == {"then", "tonic"}


def test_a_sign_that_is_not_judged_is_refused_with_the_reason():
    with pytest.raises(InvalidInput, match="Semiology-gelastic is not judged here: 1 patient with it"):
        parsed("gelastic", KNOWN, {"Semiology-gelastic": "1 patient with it: 5 are needed"})


@pytest.mark.parametrize(
    "text",
    [
        "not tonic for 20 s then versive",
        "versive then not tonic",
        "(not tonic) then versive",
        "(versive or not tonic) for 20 s",
    ],
)
def test_what_is_missing_has_no_place_in_a_course(text):
    if text.startswith("not"):
        assert parsed(text, KNOWN)
        return
    with pytest.raises(InvalidInput, match="no place in time: write `not"):
        parsed(text, KNOWN)


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
        ("versive tonic", "expected the end, or `and`, `or`, `then`, got word 2 of the signs"),
        ("(versive", "expected `\\)`, got nothing more"),
        ("versive)", "expected the end"),
        ("then versive", "expected a sign, in quotes where it is called like a word of the grammar, got word 1"),
        ("versive then tonic within soon", "expected a number of seconds, such as `20 s`, got word 5"),
        ("versive for", "expected a number of seconds, such as `20 s`, got nothing more"),
        ("versiv", "word 1 of the signs names none that is judged here; did you mean versive"),
        ("dancing", "word 1 of the signs names none that is judged here; there are: versive, tonic, clonic, own-sign"),
        ('"version of', "closing quote"),
        ("tonic for 20 parsecs", "expected the end, or `and`, `or`, `then`, got word 4"),
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
