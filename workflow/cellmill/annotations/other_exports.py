"""Recognise exports of annotation programs that are not read, by the beginning of the file."""

import re
from pathlib import Path

HEAD_BYTES = 2**16
LABEL_STUDIO = "export it from Label Studio as 'Brush labels to PNG' (format binary or label_image) or as COCO"
# Pattern in the first bytes of a file, what the file is, and how to export what is read. The first match counts.
EXPORTS = (
    (rb"<annotations>|<\?xml[^>]*>\s*<annotations", "an XML file of CVAT", "export the task from CVAT as COCO 1.0"),
    (rb"<annotation>", "an XML file of Pascal VOC", "export segmentations as COCO; boxes do not define pixels"),
    (rb'"(brush|polygon|rectangle|ellipse|keypoint)labels"', "an export of Label Studio", LABEL_STUDIO),
    (rb'"(original_width|annotation_id|lead_time|completed_by)"', "an export of Label Studio", LABEL_STUDIO),
    (rb'"(imagePath|imageData)"', "a file of labelme", "convert the folder with labelme2coco, or labelme_export_json"),
    (rb'"(_via_\w+|shape_attributes)"', "a project of VIA", "export annotations from VIA as COCO"),
    (rb'"FeatureCollection"|"geometry"', "a GeoJSON file", "set format: geojson, with a file for each image"),
    (rb'"bounding_box"|"slots"', "an export of V7 Darwin", "export the dataset from V7 as COCO"),
)


def recognise_export(path: str | Path) -> tuple[str, str] | None:
    """Return what a file is and how to export what is read, if it is not COCO but known; else None.

    Parameters
    ----------
    path : path
        An annotation file, at least 64 KiB of which are read.
    """
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return None
    for pattern, what, how in EXPORTS:
        if re.search(pattern, head):
            return what, how
    if re.match(rb"\s*\{[^\n]*\}\s*\n\s*\{", head):
        return "JSON lines, one object in each line", "write one object with the lists images and annotations"
    if re.match(rb"\s*\[\s*\{[^\]]*\"image_id\"", head):
        return (
            "a list of annotations without images, as of COCO results",
            'write {"images": [...], "annotations": [...], "categories": [...]} with an id and file_name of each image',
        )
    return None
