"""Sizes of TimeSformer: the presets, and any other whose numbers fit each other."""

from __future__ import annotations

from transformers import TimesformerConfig

from encoder.model.views import INPUT_VIEWS
from index.errors import InvalidInput

EMBEDDING_DIM = 768
"""Width of the embeddings of all presets; a narrower encoder learns a projection to it."""

_PRESETS: dict[str, dict[str, int]] = {
    "timesformer-l": {"num_frames": 96, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-b": {"num_frames": 8, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-demo": {"num_frames": 12, "image_size": 96, "hidden_size": 96, "num_hidden_layers": 4},
}
PRESETS = tuple(_PRESETS)


def preset(name: str) -> TimesformerConfig:
    """The architecture of a named preset.

    Raises:
        InvalidInput: If there is no such preset.
    """
    if name not in _PRESETS:
        raise InvalidInput(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")
    values = _PRESETS[name]
    demo = name == "timesformer-demo"
    return architecture(
        num_frames=values["num_frames"],
        image_size=values["image_size"],
        hidden_size=values["hidden_size"],
        num_hidden_layers=values["num_hidden_layers"],
        num_attention_heads=values["hidden_size"] // (32 if demo else 64),
        input_view="motion" if demo else "rgb",
    )


def architecture(
    num_frames: int,
    image_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    patch_size: int = 16,
    embedding_dim: int = EMBEDDING_DIM,
    input_view: str = "rgb",
    frames_a_moment: int = 1,
) -> TimesformerConfig:
    """A checked TimeSformer architecture of any size.

    Args:
        num_frames: T.
        image_size: H and W, in pixels.
        hidden_size: D.
        num_hidden_layers: depth.
        num_attention_heads: must divide D.
        patch_size: must divide the image size.
        embedding_dim: width of the embedding; a projection is added where it differs from D.
        input_view: one of `encoder.model.views.INPUT_VIEWS`. `motion` takes from each frame the mean of its clip: what
            stands still, the room and the clothes of who lies still, is gone before the first layer. `change` sees how
            much changes where, from frame to frame and from moment to moment.
        frames_a_moment: frames that one moment of `change` is made of; must divide the number of frames.

    Raises:
        InvalidInput: If the numbers don't fit each other.
    """
    if min(num_frames, image_size, hidden_size, num_hidden_layers, num_attention_heads, patch_size) < 1:
        raise InvalidInput("expected frames, size, width, depth, heads and patch of at least 1")
    if image_size % patch_size or hidden_size % num_attention_heads:
        raise InvalidInput(
            f"expected a patch size that divides {image_size} and heads that divide {hidden_size}, "
            f"got {patch_size} and {num_attention_heads}"
        )
    check_view(num_frames, image_size, input_view, frames_a_moment)
    return TimesformerConfig(
        num_frames=num_frames,
        image_size=image_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=4 * hidden_size,
        patch_size=patch_size,
        attention_type="divided_space_time",
        layer_norm_eps=1e-6,
        embedding_dim=embedding_dim,
        input_view=input_view,
        frames_a_moment=frames_a_moment,
    )


def check_view(num_frames: int, image_size: int, input_view: str, frames_a_moment: int) -> None:
    """Check that frames of a number and a size can be looked at in a way.

    Raises:
        InvalidInput: If they can't.
    """
    if input_view not in INPUT_VIEWS:
        raise InvalidInput(f"expected an input view of {', '.join(INPUT_VIEWS)}, got {input_view!r}")
    several = input_view == "change"
    if several != (frames_a_moment > 1) or num_frames % frames_a_moment or num_frames <= frames_a_moment:
        raise InvalidInput(
            f"expected {'at least 2' if several else '1'} frames a moment that divide {num_frames} frames, "
            f"got {frames_a_moment}"
        )
    if several and image_size % 2:
        raise InvalidInput(f"expected an even size of pictures for the view change, got {image_size}")
