"""ImageJ opens the files that the pipeline writes for it: labels with their scale, ROIs with the objects' pixels."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cellmill.annotations.imagej_writer import write_rois
from cellmill.images.stored import write_label_bands
from programs import need
from project import GUARD_S
from shapes import scattered_objects

pytestmark = pytest.mark.long

SHAPE, EDGE_UM = (120, 160), 0.65
JAR = Path("/usr/share/java/ij.jar")
MACRO = """
open("{labels}");
getPixelSize(unit, width, height);
getRawStatistics(count, mean, min, max);
print("labels", getWidth(), getHeight(), bitDepth(), unit, width, height, max);
roiManager("open", "{rois}");
for (i = 0; i < roiManager("count"); i++) {{
    roiManager("select", i);
    getRawStatistics(count, mean, min, max);
    print("roi", Roi.getName, count, min, max);
}}
"""


def run_imagej(macro: str, *, folder: Path) -> list[list[str]]:
    """Run a macro in ImageJ on a virtual screen and return the words of each printed line."""
    need("xvfb-run", "imagej")
    path = folder / "macro.ijm"
    path.write_text(macro)
    command = ["xvfb-run", "-a", "java", "-jar", str(JAR), "-ijpath", str(folder), "-batch", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD_S)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("scale", [1, 4000])
def test_labels_and_rois_are_the_same_pixels_in_imagej(tmp_path, scale):
    """Also with label numbers above 16 bits, for which ImageJ opens a 32-bit image."""
    labels_yx = scattered_objects(SHAPE, objects=20, seed=3).astype(np.uint32) * scale
    highest = int(labels_yx.max())
    write_label_bands(tmp_path / "labels.tif", [labels_yx], shape=SHAPE, highest=highest, pixel_size_um=EDGE_UM)
    write_rois(tmp_path / "rois.zip", labels_yx)
    (head, *rois) = run_imagej(
        MACRO.format(labels=tmp_path / "labels.tif", rois=tmp_path / "rois.zip"), folder=tmp_path
    )
    bits = 16 if highest < 2**16 else 32
    rows, columns = SHAPE
    assert head == ["labels", str(columns), str(rows), str(bits), "microns", str(EDGE_UM), str(EDGE_UM), str(highest)]
    numbers, areas = np.unique(labels_yx[labels_yx > 0], return_counts=True)
    expected = [
        ["roi", f"{number:0{max(4, len(str(highest)))}d}", str(area), str(number), str(number)]
        for number, area in zip(numbers, areas, strict=True)
    ]
    assert rois == expected
