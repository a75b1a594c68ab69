"""Stage `propose`: a config for a folder of images, the first command of a new user.

Reads   the folder in `--config look=FOLDER`          names of all files, headers and pixels of a few
Writes  {folder}.yaml in the working directory        or the file in `write=FILE`; never over one that exists
"""


# Without an output, because Snakemake would delete one that is there, and without a benchmark, which counts as one: the
# job runs whenever it is a target.
rule propose:
    """Look at a folder and write a config with comments (target of `snakemake propose --config look=FOLDER`)."""
    log:
        "logs/propose.log",
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("propose"),
        code=code_of("propose"),
    script:
        "../scripts/propose.py"
