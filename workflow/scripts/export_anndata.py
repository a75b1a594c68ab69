"""Rule export_anndata. The work is in cellmill/stages/export_anndata.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.provenance import describe_run
from cellmill.stages.export_anndata import export_anndata

export_anndata(
    output_path=snakemake.output.objects,
    objects_path=snakemake.input.objects,
    provenance=describe_run(snakemake.scriptdir),
    **snakemake.params.settings,
)
