"""Rule postprocess_tables. The work is in cellmill/stages/postprocess_tables.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.postprocess_tables import gather_tables

gather_tables(
    objects_path=snakemake.output.objects,
    rle_path=snakemake.output.rle,
    counts_path=snakemake.output.counts,
    flags_path=snakemake.output.flags,
    segmentation_dirs=list(snakemake.input.segmentation),
    features_paths=list(snakemake.input.get("features", [])),
    **snakemake.params.settings,
)
