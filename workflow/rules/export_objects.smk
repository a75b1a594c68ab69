"""Stage `export`: the objects of a run in formats that other programs read, only if requested under `export`.

Reads   results/{dataset}/{run}/segmentation/             objects of every shard
Writes  results/{dataset}/{run}/objects.coco.json         objects of all images as compressed COCO runs
        results/{dataset}/{run}/rois/, geojson/           {sample}.zip for ImageJ, {sample}.geojson for QuPath
        results/{dataset}/{run}/ctc/{sequence}_RES/       masks, and tracks linked by overlap
"""


rule export_coco:
    """Write the objects of a run as one COCO file."""
    input:
        unpack(segmentation_of_run),
    output:
        objects="results/{dataset}/{run}/objects.coco.json",
    log:
        "logs/{dataset}/export/{run}/coco.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/coco.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_coco"),
        code=code_of("export_coco"),
    script:
        "../scripts/export_coco.py"


rule export_rois:
    """Write the objects of each image for ImageJ's ROI Manager."""
    input:
        unpack(segmentation_of_run),
    output:
        folder=directory("results/{dataset}/{run}/rois"),
    log:
        "logs/{dataset}/export/{run}/rois.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/rois.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_rois"),
        code=code_of("export_rois"),
    script:
        "../scripts/export_rois.py"


rule export_geojson:
    """Write the objects of each image for QuPath."""
    input:
        unpack(segmentation_of_run),
    output:
        folder=directory("results/{dataset}/{run}/geojson"),
    log:
        "logs/{dataset}/export/{run}/geojson.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/geojson.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_geojson"),
        code=code_of("export_geojson"),
    script:
        "../scripts/export_geojson.py"


rule export_ctc:
    """Write each sequence in the result format of the Cell Tracking Challenge."""
    input:
        unpack(segmentation_of_run),
    output:
        folder=directory("results/{dataset}/{run}/ctc"),
    log:
        "logs/{dataset}/export/{run}/ctc.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/ctc.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_ctc"),
        code=code_of("export_ctc"),
    script:
        "../scripts/export_ctc.py"
