"""The check of words finds what it is for, and only that."""

import pytest

from tests import words

WANTED = words.phrases()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("whoever asks", [1]),
        ("# nobody\nelse", [1]),
        ("all is well\nit has not come\nthrough yet", [2]),
        ('    """Of a table."""', [1]),
        ('    """The table."""', []),
        ("    Raises:\n        StateError: it lies nowhere.\n        InvalidInput: If it does.", [2]),
        ("    Args:\n        Name: of it.", []),
        ("nobodys anew_", []),
    ],
)
def test_what_is_found(text, lines):
    assert [number for number, _ in words.found_in(text, WANTED)] == lines


def test_the_list_is_read_from_the_guide():
    assert len(WANTED) >= 30
    assert WANTED["somebody"] == "a person, a user"
