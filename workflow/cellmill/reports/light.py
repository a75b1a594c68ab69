"""Illumination profile of a dataset for the page: a picture, and what the division by it changes."""

from pathlib import Path
from typing import Any

import numpy as np

from cellmill.preprocessing.flat_field import FlatField, read_flat_field
from cellmill.reports.pictures import encode_photo
from cellmill.reports.wording import say_percent, say_value

# Longer side of the picture, px
SIDE = 240


def describe_light(path: str | Path) -> dict[str, Any]:
    """Describe flat_field.json for the page.

    Returns
    -------
    dict
        uri, rows, columns, caption: the picture; sentences: list of str.
    """
    flat_field = read_flat_field(path)
    profile_yx = flat_field.shown(SIDE)
    grey_yx = np.round(255 * profile_yx / profile_yx.max()).astype(np.uint8)
    return {
        "uri": encode_photo(grey_yx),
        "rows": grey_yx.shape[0],
        "columns": grey_yx.shape[1],
        "caption": f"Illumination profile, {profile_yx.min():.2f} to {profile_yx.max():.2f} of its mean",
        "sentences": list(_sentences(flat_field)),
    }


def _sentences(flat_field: FlatField) -> list[str]:
    dark = f", after {say_value(flat_field.dark)} counts were subtracted" if flat_field.dark else ""
    sentences = [
        f"All images were divided by the illumination profile that {flat_field.images} of them share{dark}.",
        f"Its corners have {say_percent(flat_field.corner)} of the light of its centre.",
    ]
    if flat_field.error is None or flat_field.border_before is None or flat_field.border_after is None:
        return [*sentences, "There were too few images to measure how reliable it is."]
    return [
        *sentences,
        f"The ground at the borders had {say_percent(flat_field.border_before)} of the brightness at the centre before "
        f"the division, and {say_percent(flat_field.border_after)} after it (median over images, each divided by a "
        "profile estimated without it).",
        f"The expected error of the profile is {say_percent(flat_field.error)}.",
    ]
