"""Units of the columns of objects.csv, which their names state."""

import re

# End of a name -> unit; the first that fits
UNITS_OF_ENDS = {"_um2": "um2", "_um": "um", "_px": "px", "_deg": "deg"}
# SOURCE measurements.py and features.py: areas in px end like lengths; all intensities are counts
AREAS = re.compile(r"^area\w*_px$")
INTENSITY = re.compile(r"(^|_)intensity_")


def unit_of_column(name: str) -> str:
    """Return the unit of a column: px, px2, um, um2, deg, counts, or "" for a number without a unit."""
    if AREAS.match(name):
        return "px2"
    if INTENSITY.search(name):
        return "counts"
    return next((unit for end, unit in UNITS_OF_ENDS.items() if name.endswith(end)), "")
