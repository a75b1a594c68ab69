"""Annotation formats, as the modules of this package declare them.

A module that reads a format declares it in a literal FORMATS, name -> facts:
  reader          name of its function that reads the objects of one sample: see `reading.read_instances`
  table_reader    name of its function that reads a file shared by all samples, once per shard; only for such formats
  remarks         name of its function that returns remarks (severity, text, advice) on a sample's objects; optional
  files           "table" (one file for all images), "one" or "several" files for each image
  keys            keys of the config section that only some formats use and this one does
  needs           those of them without which it cannot be read
  is_filled       True if a hole in an object is a drawing error, so that holes are filled unless `repair` is set
  missing         default of the key `missing`
  summary         what it is, for the description of the key `format`
  reads, used_by  what is read, and programs or data sets that write it, for docs/inputs.md
"""

from typing import Any

from cellmill.declared import modules_that_declare

ANNOTATION_FORMATS: dict[str, dict[str, Any]] = {
    name: {"module": f"cellmill.annotations.{module}", **facts}
    for module, formats in modules_that_declare("annotations", "FORMATS").items()
    for name, facts in formats.items()
}

# Suffix of a corrected annotation -> its format
FORMATS_OF_CORRECTIONS = {
    ".tif": "label_image", ".tiff": "label_image", ".png": "label_image", ".zip": "imagej_roi", ".roi": "imagej_roi",
    ".geojson": "geojson",
}  # fmt: skip
