"""Illumination profiles of a dataset for the page: pictures, and what the division by them changes."""

from pathlib import Path
from typing import Any

import numpy as np

from cellmill.preprocessing.flat_field import FlatField, read_flat_fields
from cellmill.reports.pictures import encode_photo
from cellmill.reports.wording import say_percent, say_value

# Longer side of the picture, px
SIDE = 240


def describe_light(path: str | Path) -> list[dict[str, Any]]:
    """Describe flat_field.json for the page.

    Returns
    -------
    list of dict
        For each channel that is divided by a profile uri, rows, columns, caption: the picture; sentences: list of str.
    """
    flat_fields = read_flat_fields(path)
    return [_describe(each, is_only=len(flat_fields) == 1) for each in flat_fields if each is not None]


def _describe(flat_field: FlatField, *, is_only: bool) -> dict[str, Any]:
    profile_yx = flat_field.shown(SIDE)
    of_channel = "" if is_only else f" of channel {flat_field.channel}"
    grey_yx = np.round(255 * profile_yx / profile_yx.max()).astype(np.uint8)
    return {
        "uri": encode_photo(grey_yx),
        "rows": grey_yx.shape[0],
        "columns": grey_yx.shape[1],
        "caption": f"Illumination profile{of_channel}, {profile_yx.min():.2f} to {profile_yx.max():.2f} of its mean",
        "sentences": _sentences(flat_field, subject="All images" if is_only else f"Channel {flat_field.channel}"),
    }


def _sentences(flat_field: FlatField, *, subject: str) -> list[str]:
    dark = f", after {say_value(flat_field.dark)} counts were subtracted" if flat_field.dark else ""
    sentences = [
        f"{subject} {'were' if subject == 'All images' else 'was'} divided by the illumination profile that "
        f"{flat_field.images} images share{dark}.",
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
