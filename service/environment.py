"""Settings in variables of the environment: each is named after its setting, and an error names the variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, create_model

from index.errors import InvalidInput
from service.roles import Role

PREFIX = "SEMIOME_SERVE_"
_DEEPER = "__"
_OF_MANY_VALUES = (dict, tuple, frozenset)

Place = tuple[str, ...]
"""Names of the setting and of the part of it, such as `("tls", "key")`."""


def settings_in(environment: Mapping[str, str], config: type[BaseModel]) -> tuple[dict[str, Any], dict[Place, str]]:
    """Settings in the environment, and the variable that each is from.

    A variable without a value is as good as none.

    Args:
        environment: all variables.
        config: what the settings are of.

    Raises:
        InvalidInput: If a variable that begins with the prefix names no setting, or its value can't be read.
    """
    places = {name: _place(name) for name, value in environment.items() if name.upper().startswith(PREFIX) and value}
    kinds = {name: _kind_at(config, place) for name, place in places.items()}
    if unknown := sorted(name for name, kind in kinds.items() if kind is None or name != name.upper()):
        raise InvalidInput(f"unknown settings in the environment: {', '.join(unknown)}; docs/service.md lists all")
    for name, kind in kinds.items():
        _check_json(name, environment[name], kind)
    if not places:
        return {}, {}
    from pydantic_settings import BaseSettings, EnvSettingsSource

    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in config.model_fields.items()}
    settings = create_model("Settings", __base__=BaseSettings, **fields)
    source = EnvSettingsSource(settings, env_prefix=PREFIX, env_nested_delimiter=_DEEPER, env_ignore_empty=True)
    return source(), {place: name for name, place in places.items()}


def variable_of(place: tuple[int | str, ...], variables: Mapping[Place, str]) -> str:
    """The variable that set what is at a place, or something in or above it; empty where none did."""
    for set_at, name in variables.items():
        if set_at[: len(place)] == place[: len(set_at)]:
            return name
    return ""


def _place(name: str) -> Place:
    return tuple(name[len(PREFIX) :].lower().split(_DEEPER))


def _kind_at(kind: Any, place: Place) -> Any:  # noqa: ANN401  a type, or what typing makes of several
    """The type of what is at a place; None where nothing can be."""
    for part in place:
        model = next(
            (one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)), None
        )
        if get_origin(kind) is dict and get_args(kind)[0] is Role:
            kind = get_args(kind)[1] if part in set(Role) else None
        elif model is not None and get_origin(kind) is not dict and part in model.model_fields:
            kind = model.model_fields[part].annotation
        else:
            return None
    return kind


def _check_json(name: str, value: str, kind: Any) -> None:  # noqa: ANN401
    """Say which variable is to hold JSON and does not: its value, which may be a secret, is not said."""
    several = [one for one in (kind, *get_args(kind)) if get_origin(one) in _OF_MANY_VALUES]
    section = any(isinstance(one, type) and issubclass(one, BaseModel) for one in (kind, *get_args(kind)))
    if not several and not section:
        return
    example = '["a", "b"]' if several and get_origin(several[0]) is not dict else '{"name": "value"}'
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, list if example.startswith("[") else dict):
        raise InvalidInput(f"{name}: expected JSON such as {example}")
