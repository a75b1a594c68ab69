"""Samples of a simulated dataset: their names, and where the simulation writes them."""

from dataclasses import replace

from cellmill.config.simulate import Simulate, name_samples
from cellmill.planning.layout import shard_path
from cellmill.planning.samples import Found, Sample
from cellmill.simulation.sequence_names import name_truth


def list_simulated(simulate: Simulate) -> list[Found]:
    """List the images that the simulation will write, in the form returned by `scan_images`."""
    return [
        (
            Sample(sample=name.sample, image="", sequence=name.sequence, frame=name.frame),
            {"sample": name.sample, **({"sequence": name.sequence} if name.sequence else {})},
        )
        for name in name_samples(simulate)
    ]


def place_simulated(row: Sample, simulate: Simulate, *, dataset: str) -> Sample:
    """Set the path of a simulated image and, for time-lapse, of its label image, tracks and markers."""
    raw = shard_path("raw", dataset=dataset, shard=row.shard)
    row = replace(row, image=f"{raw}/images/{row.sample}.tif")
    if simulate.time_lapse is None:
        return row
    truth = name_truth(row.sequence, row.frame, frames=simulate.time_lapse.frames)
    paths = {kind: f"{raw}/{path}" for kind, path in truth.items()}
    return replace(row, annotations=[paths["objects"]], extra={"tracks": paths["tracks"], "markers": paths["markers"]})
