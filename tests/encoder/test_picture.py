"""One picture to one square."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoder.picture import Crop, reduced, square
from index.errors import VideoRefused


def noise(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(240, 320), (320, 240), (240, 240), (100, 37), (224, 225)])
def test_it_equals_resizing_all_of_it_and_cutting_the_middle(shape):
    picture = noise(*shape)
    height, width = shape
    scale = 224 / min(shape)
    columns, rows = max(round(width * scale), 224), max(round(height * scale), 224)
    whole = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))
    top, left = (rows - 224) // 2, (columns - 224) // 2

    assert np.abs(square(picture, 224).astype(int) - whole[top : top + 224, left : left + 224]).max() <= 1


@given(
    width=st.integers(200, 2000),
    height=st.integers(200, 2000),
    size=st.sampled_from([32, 96, 224]),
    aspect=st.sampled_from([Fraction(1), Fraction(16, 11), Fraction(1, 2)]),
    data=st.data(),
)
def test_a_picture_made_smaller_as_a_whole_holds_the_square_within_a_pixel(width, height, size, aspect, data):
    x, y = data.draw(st.integers(0, width - 100)), data.draw(st.integers(0, height - 100))
    crop = Crop(x, y, data.draw(st.integers(16, width - x)), data.draw(st.integers(16, height - y)))

    found = reduced(width, height, size, aspect, crop)

    short = min(crop.w * aspect, Fraction(crop.h))
    if found is None:
        assert short * 2 < 3 * (size + 2) * max(aspect, 1 / aspect)
        return
    assert 0 <= found.left <= found.width - size
    assert 0 <= found.top <= found.height - size
    # The middle of the square is the middle of the crop.
    across, down = found.width / width, found.height / height
    assert abs((found.left + size / 2) - (crop.x + crop.w / 2) * across) <= 2
    assert abs((found.top + size / 2) - (crop.y + crop.h / 2) * down) <= 2
    assert across / down == pytest.approx(float(aspect), rel=0.05)


def test_a_crop_is_cut_first():
    picture = noise(240, 320)

    np.testing.assert_array_equal(square(picture, 32, crop=Crop(10, 20, 64, 50)), square(picture[20:70, 10:74], 32))


def test_wide_pixels_are_shown_wide():
    picture = noise(100, 50)

    assert np.abs(square(picture, 50, Fraction(2)).astype(int) - square(picture, 50, Fraction(1))).mean() > 1
    assert square(picture, 50, Fraction(2)).shape == (50, 50, 3)


@pytest.mark.parametrize("crop", [Crop(300, 0, 32, 32), Crop(0, 220, 32, 32)])
def test_a_crop_outside_is_refused(crop):
    with pytest.raises(VideoRefused, match=f"crop {crop} reaches outside the picture of 320 x 240"):
        square(noise(240, 320), 32, crop=crop)
