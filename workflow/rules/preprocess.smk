"""Stage `preprocess`: background subtraction, rescaling and cropping.

Reads   raw images of a shard                         any integer or float, camera counts; labels of the training images
                                                      if images are rescaled by the diameter of their objects; at
                                                      most 200 raw training images for a flat field
Writes  results/{dataset}/diameter.json               that diameter, px
        results/{dataset}/flat_field.json             profile of the light of each channel, mean 1, and its error
        results/{dataset}/images/{shard}/             float32, YX, counts above background;
                                                      geometry.csv, which maps back to the raw image
"""


rule measure_objects:
    """Measure the diameter of the annotated objects of the training images."""
    input:
        unpack(training_labels),
    output:
        diameter="results/{dataset}/diameter.json",
    log:
        "logs/{dataset}/preprocess/diameter.log",
    benchmark:
        "benchmarks/{dataset}/preprocess/diameter.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("measure_objects"),
        code=code_of("measure_objects"),
    script:
        "../scripts/measure_objects.py"


rule estimate_flat_field:
    """Estimate the illumination profile that the images of a dataset share."""
    input:
        unpack(lit_images),
    output:
        flat_field="results/{dataset}/flat_field.json",
    log:
        "logs/{dataset}/preprocess/flat_field.log",
    benchmark:
        "benchmarks/{dataset}/preprocess/flat_field.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("estimate_flat_field"),
        code=code_of("estimate_flat_field"),
    script:
        "../scripts/estimate_flat_field.py"


rule preprocess:
    """Subtract the background of one shard of images and bring them to a common scale and size."""
    input:
        unpack(frames_of_shard),
    output:
        images=directory("results/{dataset}/images/{shard}"),
        seal="results/{dataset}/images/.{shard}.sha256",
    log:
        "logs/{dataset}/preprocess/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/preprocess/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("preprocess"),
        code=code_of("preprocess"),
    script:
        "../scripts/preprocess.py"
