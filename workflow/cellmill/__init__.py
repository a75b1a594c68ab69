"""Library behind the Snakemake rules: stage functions and the pure functions they call. It never imports Snakemake."""
