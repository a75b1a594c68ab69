"""Named cases of bad input: annotations of other programs, and annotations that do not mean what is read."""

import io
import json
import zipfile

import numpy as np
from roifile import ImagejRoi

from pipeline.bad_inputs.cases import COLUMNS, ROWS, SAMPLES, annotated, case, images, pixels, put, put_png

IN_TABLE = "datasets.{name}.annotations.table: {folder}/train.json: expected annotations as COCO instances, found "


@case(
    "Names and patterns", "plan",
    "{folder}/images/bad.h5: expected a readable HDF5 image, found a damaged one (<...>). Copy the file again from its "
    "source.",
)  # fmt: skip
def images_in_a_truncated_hdf5(folder):
    section = images(folder)
    put(folder / "images/bad.h5", b"\x89HDF\r\n\x1a\n")
    return {**section, "images": f"{folder}/images/{{sample}}.h5"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.annotations.path: expected annotations in a format that is read, found a file of Cellpose "
    "({sample}_seg.npy). Save masks as PNG or TIFF from Cellpose (File, Save masks, or --save_tif) and use format "
    "label_image.",
)  # fmt: skip
def annotations_as_cellpose_writes_them(folder):
    section = images(folder)
    put(folder / "images/bad_seg.npy", b"\x93NUMPY")
    section["annotations"]["path"] = f"{folder}/images/{{sample}}_seg.npy"
    return section


@case("COCO", "plan", IN_TABLE + "an XML file of CVAT. To use it, export the task from CVAT as COCO 1.0.")
def an_xml_file_of_cvat(folder):
    text = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n</annotations>\n'
    return annotated(folder, file="train.json", data=text, format="coco", table=f"{folder}/train.json")


@case(
    "COCO", "plan",
    IN_TABLE + "an export of Label Studio. To use it, export it from Label Studio as 'Brush labels to PNG' (format binary "
    "or label_image) or as COCO.",
)  # fmt: skip
def an_export_of_label_studio(folder):
    content = [
        {"id": 1, "annotations": [{"result": [{"value": {"format": "rle", "rle": [0], "brushlabels": ["cell"]}}]}]}
    ]
    return annotated(folder, file="train.json", data=json.dumps(content), format="coco", table=f"{folder}/train.json")


@case(
    "COCO", "plan",
    IN_TABLE + "a list of annotations without images, as of COCO results. To use it, write "
    '{"images": [...], "annotations": [...], "categories": [...]} with an id and file_name of each image.',
)  # fmt: skip
def a_list_of_coco_results(folder):
    content = [{"image_id": 1, "category_id": 1, "segmentation": [[5, 3, 11, 3, 11, 7, 5, 7]], "score": 0.9}]
    return annotated(folder, file="train.json", data=json.dumps(content), format="coco", table=f"{folder}/train.json")


@case(
    "COCO", "check",
    "{folder}/train.json: expected compact objects, found streaks across 1 image (bad) that become compact when runs are "
    "counted by row. COCO counts down the columns: write the file again with pycocotools, or with mask.ravel(order='F') "
    "in place of mask.ravel().",
    is_judged_by_check_only=True,
)  # fmt: skip
def coco_runs_in_the_other_pixel_order(folder):
    listed, drawn = [], []
    for number, sample in enumerate(SAMPLES, start=1):
        put_png(folder / f"images/{sample}.png", np.tile(pixels(), (6, 6)))
        # 72 rows, 96 columns; cells of 9 x 9 px, counted along the rows
        listed.append({"id": number, "file_name": f"{sample}.png"})
        for row, column in [(5, 10), (30, 40), (50, 70), (20, 80), (55, 15)]:
            mask_yx = np.zeros((6 * ROWS, 6 * COLUMNS), bool)
            mask_yx[row : row + 9, column : column + 9] = True
            edges = np.flatnonzero(np.diff(mask_yx.ravel())) + 1
            counts = np.diff([0, *edges, mask_yx.size]).tolist()
            runs = {"size": list(mask_yx.shape), "counts": counts}
            drawn.append({"id": len(drawn), "image_id": number, "category_id": 1, "segmentation": runs})
    put(folder / "train.json", json.dumps({"images": listed, "annotations": drawn}))
    return {
        "images": f"{folder}/images/{{sample}}.png",
        "annotations": {"format": "coco", "table": f"{folder}/train.json"},
    }


@case(
    "Runs of a table", "check",
    "sample bad, {folder}/train.csv, row 3: expected runs, found -1, which states that the image has no objects, although "
    "another row has runs. Remove one of them.",
)  # fmt: skip
def no_object_beside_runs(folder):
    rows = ["id,annotation", "bad,54 6", "bad,-1", "good,-1", "other,54 6"]
    return annotated(
        folder, file="train.csv", data="\n".join(rows) + "\n", format="rle", table=f"{folder}/train.csv", order="row"
    )


@case(
    "ImageJ", "check",
    "sample bad, {folder}/rois/bad.zip: expected ROIs of planes of the image, found 2 with positions that it lacks, such "
    "as position 5 in an image of one plane. If the ROIs belong to this image, remove their positions (ROI Manager, More, "
    "Remove Slice Info); otherwise use the whole stack.",
)  # fmt: skip
def rois_of_a_stack_that_was_cut(folder):
    section = images(folder)
    for sample in SAMPLES:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for number in range(2):
                roi = ImagejRoi.frompoints(np.array([(5, 3), (11, 3), (11, 7), (5, 7)]))
                roi.position = 5 if sample == "bad" else 0
                archive.writestr(f"{number}.roi", roi.tobytes())
        put(folder / f"rois/{sample}.zip", stream.getvalue())
    section["annotations"] = {"format": "imagej_roi", "path": f"{folder}/rois/{{sample}}.zip"}
    return section
