"""The library under the rules: stage functions, and the pure functions they call. It knows no Snakemake."""
