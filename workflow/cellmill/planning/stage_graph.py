"""Graph of the stages: which stages read the outputs of which others."""

# Stage -> stages whose outputs its rules read, in the order of the chain. `match` also reads images and labels, but of
# another dataset, and `crate` describes the results after the report; a report shows neither. A test compares this
# graph with Snakemake's.
STAGE_INPUTS: dict[str, tuple[str, ...]] = {
    "match": (),
    "simulate": ("match",),
    "preprocess": ("simulate",),
    "rasterize": ("simulate",),
    "check": ("simulate",),
    "train": ("preprocess", "rasterize", "check"),
    "predict": ("preprocess", "train"),
    "contrast": ("preprocess", "rasterize", "check"),
    "masks": ("simulate", "preprocess"),
    "postprocess": ("simulate", "preprocess", "rasterize", "check", "train", "predict", "contrast", "masks"),
    "export": ("postprocess", "masks"),
    "evaluate": ("preprocess", "rasterize", "check", "predict", "contrast", "postprocess", "masks"),
    "worklist": ("check", "postprocess", "evaluate"),
    "conditions": ("postprocess",),
    "report": (
        "match", "check", "preprocess", "rasterize", "train", "predict", "contrast", "postprocess", "masks", "evaluate",
        "worklist", "conditions",
    ),
}  # fmt: skip
