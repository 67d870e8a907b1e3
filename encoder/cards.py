"""What is trained on a frozen encoder, in a folder named by its digest: a card in JSON, and weights as safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from index.errors import DamagedData, NotFound, StateError, shown_id
from index.files.durable import small_file, write_atomically, write_text_atomically
from index.files.failures import unreadable
from index.workspace import current

_CARD = "card.json"
_MOST_BYTES = 2**26
Arrays = Mapping[str, NDArray[Any]]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Kind:
    """What such a folder holds.

    Attributes:
        name: what it is called in a sentence, such as `head`.
        weights: name of the file of weights.
        trained_by: the command that makes one.
        several: whether the name is a plural.
    """

    name: str
    weights: str
    trained_by: str
    several: bool = False


def save(kind: Kind, folder: Path, made_id: str, card: Any, arrays: Arrays) -> None:  # noqa: ANN401  a dataclass
    """Write it into `folder/<id>`."""
    target = folder / made_id
    target.mkdir(parents=True, exist_ok=True)
    write_text_atomically(target / _CARD, json.dumps(asdict(card), indent=2) + "\n")
    write_atomically(target / kind.weights, lambda path: safetensors.numpy.save_file(dict(arrays), path))


def load(
    kind: Kind, folder: Path, made_id: str | None, put_together: Callable[[dict[str, Any], Arrays], tuple[str, Made]]
) -> Made:
    """Read the one in use in a folder, or the one named.

    Args:
        kind: what it is.
        folder: of all of its kind.
        made_id: of one, or None for the one in use.
        put_together: makes it, with its id, of what the card says and of the weights.

    Raises:
        StateError: If none is in use.
        NotFound: If there is none of that id.
        DamagedData: If its files are not those that gave it its id.
    """
    name = made_id or current(folder)
    them, be = ("them", "are") if kind.several else ("it", "is")
    if name is None:
        wanted = them if kind.several else "one"
        raise StateError(f"this workspace has no {kind.name}: train {wanted} with `{kind.trained_by}`")
    if not re.fullmatch("[0-9a-f]{16}", name) or not (folder / name).is_dir():
        raise NotFound(f"{kind.name} {shown_id(name)} {be} not in this workspace: check the id")
    try:
        values: dict[str, Any] = json.loads(small_file(folder / name / _CARD, _MOST_BYTES))
        arrays = safetensors.numpy.load(small_file(folder / name / kind.weights, _MOST_BYTES))
        found_id, made = put_together(values, arrays)
    except (
        *(OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError),
        AttributeError,  # a card that is no object, or weights of a type that NumPy does not have
    ) as error:
        said = f"{kind.name} {name} can't be read ({type(error).__name__}): train {them} again"
        raise unreadable(error, said) from None
    if found_id != name:
        raise DamagedData(f"{kind.name} {name} {be} not what was saved: train {them} again")
    return made
