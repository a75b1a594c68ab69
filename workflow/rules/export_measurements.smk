"""Stage `export`: the objects of a run with their measurements or their images, only if requested under `export`.

Reads   results/{dataset}/{run}/objects.csv               for the tables
        results/{dataset}/{run}/segmentation/, raw images for the stores
Writes  results/{dataset}/{run}/objects.tidy.csv.gz       one row per object and feature
        results/{dataset}/{run}/objects.h5ad              AnnData, float64, objects x features
        results/{dataset}/{run}/ome_zarr/                 {sample}.ome.zarr: raw image, CYX, with labels/{run}, YX
"""


rule export_table:
    """Write the objects of a run as a tidy table."""
    input:
        objects=objects_of_run,
    output:
        objects="results/{dataset}/{run}/objects.tidy.csv.gz",
    log:
        "logs/{dataset}/export/{run}/table.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/table.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_table"),
        code=code_of("export_table"),
    script:
        "../scripts/export_table.py"


rule export_anndata:
    """Write the objects of a run as AnnData."""
    input:
        objects=objects_of_run,
    output:
        objects="results/{dataset}/{run}/objects.h5ad",
    log:
        "logs/{dataset}/export/{run}/anndata.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/anndata.tsv"
    conda:
        "../../envs/anndata.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("export_anndata"),
        code=code_of("export_anndata"),
    script:
        "../scripts/export_anndata.py"


rule export_ome_zarr:
    """Write each image with the objects of a run as an OME-Zarr store."""
    input:
        unpack(images_of_run),
    output:
        folder=directory("results/{dataset}/{run}/ome_zarr"),
    log:
        "logs/{dataset}/export/{run}/ome_zarr.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/ome_zarr.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=0,
    params:
        settings=settings_of("export_ome_zarr"),
        code=code_of("export_ome_zarr"),
    script:
        "../scripts/export_ome_zarr.py"
