"""Stage `postprocess`: from probabilities to objects.

Reads   probabilities, images and raw images of a shard; the fit also reads labels of training and validation shards,
        digests of raw images (check/images.csv), and the models from which the training started
Writes  results/{dataset}/{run}/postprocess.json          threshold, sizes, boundary classifier, hashes of their folds
        results/{dataset}/{run}/model.cellmill            the run as one file, for other images and machines
        results/{dataset}/{run}/segmentation/{shard}/     instance labels, uint16 (uint32 if needed), YX,
                                                          geometry of the raw image
        results/{dataset}/{run}/objects.csv, rle.csv      one row per object; with features, if some are requested
        results/{dataset}/{run}/counts.csv                one row per image: objects and confidence
        results/{dataset}/{run}/flags.csv                 images that differ from the training images of the model
"""


rule postprocess_fit:
    """Choose threshold and sizes on validation shards, train the boundary classifier on training shards."""
    input:
        unpack(fitting_data),
        weights=learned_by_run,
        # Digests for the export only. Changed images arrive as preprocessed images, changed starts as weights.
        checked=lambda wildcards: ancient(check_paths(wildcards.dataset)[1]),
        starts=lambda wildcards: ancient(
            PLAN.start_files(wildcards.dataset, wildcards.run)
        ),
        choices=lambda wildcards: ancient(
            PLAN.choice_files(wildcards.dataset, wildcards.run)
        ),
    output:
        fit="results/{dataset}/{run}/postprocess.json",
        export="results/{dataset}/{run}/model.cellmill",
    log:
        "logs/{dataset}/postprocess/{run}/fit.log",
    benchmark:
        "benchmarks/{dataset}/postprocess/{run}/fit.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=0,
    params:
        settings=settings_of("postprocess_fit"),
        code=code_of("postprocess_fit"),
    script:
        "../scripts/postprocess_fit.py"


rule postprocess:
    """Turn the probabilities of one shard into objects, without access to the ground truth."""
    input:
        unpack(shard_with_raw("images", "probabilities")),
        fit=fit_of_run,
    output:
        segmentation=directory("results/{dataset}/{run}/segmentation/{shard}"),
        seal="results/{dataset}/{run}/segmentation/.{shard}.sha256",
    log:
        "logs/{dataset}/postprocess/{run}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/postprocess/{run}/{shard}.tsv"
    wildcard_constraints:
        run=pattern_of_runs(MASK_RUNS, but=True),
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(120),
        gpu=0,
    params:
        settings=settings_of("postprocess"),
        code=code_of("postprocess"),
    script:
        "../scripts/postprocess.py"


rule postprocess_tables:
    """Collect the objects, their features and the flags of all shards of a run."""
    input:
        unpack(tables_of_run),
    output:
        objects="results/{dataset}/{run}/objects.csv",
        rle="results/{dataset}/{run}/rle.csv",
        counts="results/{dataset}/{run}/counts.csv",
        flags="results/{dataset}/{run}/flags.csv",
    log:
        "logs/{dataset}/postprocess/{run}/tables.log",
    benchmark:
        "benchmarks/{dataset}/postprocess/{run}/tables.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("postprocess_tables"),
        code=code_of("postprocess_tables"),
    script:
        "../scripts/postprocess_tables.py"
