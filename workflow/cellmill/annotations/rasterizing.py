"""Read and repair the objects of one image, ready to be drawn as a label image."""

from collections.abc import Mapping
from typing import Any

from cellmill.annotations.drawing import Drawing, choose_numbers
from cellmill.annotations.instance import AnnotationSettings
from cellmill.annotations.reading import read_instances, take_correction
from cellmill.annotations.repair import repair_instances
from cellmill.images.files import read_shape


def draw_sample(row: Mapping[str, Any], *, annotations: AnnotationSettings, table: Mapping[str, Any] | None) -> Drawing:
    """Read and repair the objects of one sample.

    Parameters
    ----------
    row, annotations, table
        As in `read_instances`.

    Returns
    -------
    Drawing
        The objects, not drawn yet.

    Raises
    ------
    ValueError
        If the annotation cannot be used.
    """
    row, annotations, table = take_correction(row, annotations=annotations, table=table)
    shape = read_shape(row["image"], plane=row.get("plane", ()))
    instances = read_instances(row, shape=shape, annotations=annotations, table=table)
    ignored = [instance for instance in instances if instance.is_ignored]
    objects, faults = repair_instances(
        [instance for instance in instances if not instance.is_ignored],
        repair=annotations["repair"],
        fragments=annotations["fragments"],
        min_object_px=annotations["min_object_px"],
    )
    faults += [(0, "ignored", instance.source, instance.area_px) for instance in ignored]
    return Drawing(shape, objects, choose_numbers(objects), ignored, faults)
