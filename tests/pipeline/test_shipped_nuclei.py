"""The shipped model `nuclei`, applied by its name to real images that it has not seen.

The images are not part of the project; without them this test is skipped with a message.
"""

import pandas as pd
import pytest

from cellmill.images.files import read_plane
from cellmill.images.stored import read_labels
from project import copy_project, snakemake, write_config
from real_runs import read_section

# A whole run
pytestmark = pytest.mark.long


def test_its_name_alone_gives_the_nuclei_of_another_laboratory(real_data, tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "bbbc039").symlink_to((real_data / "bbbc039").resolve())
    config = {"datasets": {"bbbc039": {**read_section("bbbc039"), "models": [{"apply": "nuclei"}]}}}
    snakemake(project, "--cores", "2", "--configfile", write_config(project, config))
    metrics = pd.read_csv(project / "results/bbbc039/metrics.csv")
    chosen = metrics.query("metric == 'ap_0.50' and stage == 'postprocessed' and aggregation == 'image_mean'")
    # Measured: 0.913 (make averaging). Otsu with a watershed has 0.739 on these images.
    assert chosen["value"].item() > 0.88
    assert chosen["n"].item() == 18
    masks = sorted(project.glob("results/bbbc039/nuclei/segmentation/*/*.tif"))
    assert len(masks) == 18
    for path in masks:
        assert (
            read_labels(path).shape
            == read_plane(project / f"bbbc039/images/{path.stem}.tif", channel="luminance").shape
        )
