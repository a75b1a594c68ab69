"""Write the table of features into docs/objects.md.

The text of that page is written by hand; only the table between the two marks is made from the code.
"""

from pathlib import Path

from cellmill.objects.features import DISTANCES_PX, FEATURES, list_columns
from generate.marks import replace_marked

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/objects.md"
BEGIN = "<!-- Made from the list of features by `make reference`; do not edit. -->"
END = "<!-- End of the features. -->"
# Channels of the names of columns in the table
CHANNELS = ("c0", "c1")


def objects_page() -> str:
    """Return the text of docs/objects.md with the table of the present features.

    Raises
    ------
    ValueError
        If the page does not have both marks.
    """
    return replace_marked(PAGE, f"\n\n{list_features()}\n\n", begin=BEGIN, end=END)


def list_features() -> str:
    """Return a table with group, columns, unit, meaning and undefined values of every feature."""
    lines = ["| group | feature | columns | unit | meaning | empty if |", "|---|---|---|---|---|---|"]
    for name, facts in FEATURES.items():
        columns = [
            f"`{column.name}`"
            for column in list_columns([name], channels=CHANNELS)
            if column.distance_px in (0, DISTANCES_PX[0]) and column.channels[:1] in ((), (0,))
        ]
        unit = {"px": "px, um", "px2": "px2, um2", "deg": "degrees"}.get(facts["unit"], facts["unit"])
        cells = (f"`{facts['group']}`", f"`{name}`", ", ".join(columns), unit, facts["meaning"], facts["undefined"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
