"""Pydantic model of the config file, which rejects unknown keys.

Defaults, ranges, units and descriptions are defined only here and in the models of the sections.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cellmill.config.annotations import Annotations
from cellmill.config.closed import Closed
from cellmill.config.postprocess import Evaluate, Postprocess
from cellmill.config.preprocess import Preprocess
from cellmill.config.preset import ModelPreset
from cellmill.config.report import Report
from cellmill.config.simulate import Simulate
from cellmill.declared import read_declaration

# A part of a path that a pattern names, such as {sample}
WILDCARD = r"\{([A-Za-z_][A-Za-z0-9_]*)\}"
MODEL_SUFFIX: str = read_declaration("exports/model_file.py", "MODEL_SUFFIX")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_+-]*"
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Split(Closed):
    """Split of the images into training, validation and test parts, or into folds."""

    train: Fraction = Field(0.6, description="Share of the groups that the networks are trained on.")
    validation: Fraction = Field(0.2, description="Share that chooses the best epoch, the threshold and the sizes.")
    test: Fraction = Field(0.2, description="Share that is scored and never chosen on.")
    by: Literal["auto", "image", "sequence", "blocks"] = Field(
        "auto",
        description="What stays together: image, sequence, or contiguous blocks of frames of each sequence "
        "(flagged in the report as 'within one sequence'; a longer sequence moves the cuts, so freeze them with "
        "`table` once they count). auto: sequence where paths or stacks make one, else image. Frames of one sequence "
        "are on two sides only as blocks.",
    )
    gap: int = Field(0, ge=0, description="by blocks: frames left out between two blocks (predicted, never scored).")
    group_by: str | None = Field(
        None,
        description="Wildcard of the image path or column of the annotation table whose value keeps images "
        "together: well, patient, plate.",
    )
    stratify: str | None = Field(
        None,
        description="Wildcard or column (class_column's values by name `class`): each of its values is "
        "represented in each part as far as there are groups enough.",
    )
    folds: int | None = Field(
        None, ge=3, description="k-fold cross-validation: k runs a model, each with another fold as test."
    )
    table: str | None = Field(
        None,
        description="CSV with the columns sample and split (train, validation, test): freezes the split.",
    )
    seed: int = Field(0, ge=0, description="Another number draws another split. The training seed never does.")

    @model_validator(mode="after")
    def _parts_make_a_whole(self) -> "Split":
        if self.folds is None and self.table is None:
            total = self.train + self.validation + self.test
            if abs(total - 1) > 1e-6:
                raise ValueError(
                    f"expected train + validation + test to make 1, found {total:g}. Change one of the three"
                )
            for part in ("train", "validation", "test"):
                if getattr(self, part) <= 0:
                    raise ValueError(
                        f"expected a {part} share above 0, found {getattr(self, part):g}. Without a {part} split "
                        "nothing can be " + _WHY_PART[part]
                    )
        chosen = {key for key in ("folds", "group_by", "stratify") if getattr(self, key) is not None}
        if self.by == "blocks" and chosen:
            raise ValueError(f"by: blocks cuts each sequence itself; leave out {' and '.join(sorted(chosen))}")
        if self.table is not None and (chosen or self.by != "auto"):
            found = sorted(chosen | ({"by"} if self.by != "auto" else set()))
            raise ValueError(f"table says where each sample goes; leave out {' and '.join(found)}")
        return self


_WHY_PART = {
    "train": "trained",
    "validation": "chosen (best epoch, threshold) without looking at the test images",
    "test": "scored honestly",
}


class Stack(Closed):
    """Meaning of the planes of image files with several planes: time points, z sections or channels."""

    axis: Literal["auto", "time", "z", "channel"] = Field(
        "auto",
        description="auto: what the metadata of the files say (OME, ImageJ, OME-Zarr); where they say nothing, it is "
        "an error. time: frames of one sequence. z: sections. channel: channels of one image. Anything but auto "
        "overrules the metadata.",
    )
    z: Literal["sections", "maximum", "mean"] = Field(
        "sections",
        description="sections: each an image of its own, the sections of a file a sequence. maximum, mean: one image, "
        "projected along z.",
    )


class ModelEntry(Closed):
    """One model of a dataset: a preset with overrides, or a trained model to apply."""

    preset: Name | None = Field(None, description="A file of resources/models, without .yaml.")
    apply: str | None = Field(
        None,
        description="A trained model to use as it is: dataset/run of this config, or an exported .cellmill file.",
    )
    name: Name | None = Field(None, description="Folder of the run; left out: the preset's name.")
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="A run for each seed, in {name}.seed{n}; left out: one, with the seed.",
    )
    average_seeds: bool = Field(
        False,
        description="A run more, {name}.mean: the mean of what the runs of all seeds predict, with a threshold of its "
        "own.",
    )
    init_from: str | None = Field(
        None, description="Start from the weights of dataset/run, or of an exported .cellmill file."
    )
    init_weights: Literal["all", "matching"] = Field(
        "all",
        description="Of init_from. all: every weight must fit. matching: those of the same name and shape are taken, "
        "and the log lists the others.",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of the preset that differ here; written beside `preset` (width, train, input, …).",
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_overrides(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            return {"preset": entry}
        if not isinstance(entry, dict):
            return entry
        known = set(ModelPreset.model_fields)
        gathered = {key: value for key, value in entry.items() if key not in known}
        if overrides := {key: value for key, value in entry.items() if key in known}:
            gathered["overrides"] = overrides
        return gathered

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelEntry":
        if (self.preset is None) == (self.apply is None):
            raise ValueError(
                "expected either preset or apply, found "
                + ("both. Leave one out" if self.preset else "neither. Give one")
            )
        if self.apply is not None and (self.overrides or self.seeds or self.init_from):
            raise ValueError("apply uses a trained model as it is; leave out seeds, init_from and overrides")
        if self.average_seeds and len(self.seeds or ()) < 2:
            raise ValueError(
                f"average_seeds: expected at least two seeds to average, found {self.seeds or 'none'}. Give "
                "seeds: [1, 2, 3], or leave it out"
            )
        if self.init_weights != "all" and self.init_from is None:
            raise ValueError("init_weights says how init_from is taken; give init_from, or leave it out")
        if self.apply is not None and self.name is None:
            source = self.apply.removesuffix(MODEL_SUFFIX).split("/")[-1]
            cleaned = re.sub(r"[^A-Za-z0-9_+-]", "_", source)
            if not re.fullmatch(NAME_PATTERN, cleaned):
                raise ValueError(f"cannot make a run's name from {self.apply!r}. Give one with name")
            self.name = cleaned
        if self.seeds is not None and len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"expected different seeds, found {self.seeds}")
        return self

    @property
    def run_name(self) -> str:
        """Folder name of the run, without the suffixes for seed and fold."""
        return self.name or self.preset or ""


class Dataset(Closed):
    """Images, annotations (or a simulation), and what to do with them."""

    images: str | None = Field(
        None,
        description="Pattern of the image files; {sample}, {sequence}, {frame} and names of your own mark parts "
        "of a path, * matches anything within a name. Starts at the working directory.",
    )
    simulate: Simulate | None = Field(None, description="Simulate the images instead of reading them.")
    annotations: Annotations | None = Field(
        None, description="Where the truth lies. Left out: images are predicted, not scored."
    )
    class_column: str | None = Field(
        None, description="Column of the annotation table, or wildcard of the image path, with the class."
    )
    pixel_size_um: float | None = Field(
        None,
        gt=0,
        description="Edge of a pixel of the raw images in um. Left out: what the metadata of each image say.",
    )
    stack: Stack = Field(default_factory=Stack, description="What the planes of multi-page files are.")
    preprocess: Preprocess = Field(default_factory=Preprocess, description="Channel, background, size.")
    split: Split = Field(default_factory=Split, description="Which images train, choose and judge.")
    models: list[ModelEntry] = Field(
        default_factory=lambda: [ModelEntry(preset="default")],
        min_length=1,
        description="Presets (with overrides) and trained models to run; left out: [default].",
    )
    postprocess: Postprocess = Field(default_factory=Postprocess, description="From probabilities to objects.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="Scores and their intervals.")
    report: Report = Field(default_factory=Report, description="The page.")
    export: list[Literal["onnx", "bioimageio", "coco", "imagej_roi", "geojson", "ctc"]] = Field(
        default_factory=list,
        description="What else is written for other programs. Trained models: onnx (model.onnx), bioimageio "
        "(model.bioimageio.zip, for networks that see images only). Objects of every run: coco (objects.coco.json), "
        "imagej_roi (rois/{sample}.zip), geojson (geojson/{sample}.geojson, for QuPath), ctc (ctc/{sequence}_RES, of "
        "sequences, numbered through time by overlap).",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_empty_sections(cls, dataset: Any) -> Any:
        # An empty `split:` is None in YAML and is treated as missing.
        if isinstance(dataset, dict):
            return {key: value for key, value in dataset.items() if value is not None}
        return dataset

    @field_validator("images")
    @classmethod
    def _pattern_is_sound(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            stripped = re.sub(WILDCARD, "", pattern)
            if "{" in stripped or "}" in stripped:
                raise ValueError(
                    f"expected wildcards such as {{sample}}, found unmatched braces in {pattern!r}. Close each brace"
                )
        return pattern

    @model_validator(mode="after")
    def _one_source(self) -> "Dataset":
        if (self.images is None) == (self.simulate is None):
            raise ValueError(
                "expected either images or simulate, found "
                + ("both. Leave one out" if self.images else "neither. Give one")
            )
        if self.simulate is not None and self.annotations is not None:
            raise ValueError("simulated images bring their own annotations; leave out annotations")
        if self.simulate is None and self.annotations is None:
            trained = [entry.run_name for entry in self.models if entry.apply is None]
            if trained:
                raise ValueError(
                    f"expected annotations to train {', '.join(trained)} on, found none. Give annotations, "
                    "or only models with apply"
                )
        names = [entry.run_name for entry in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models are called {', '.join(twice)}. Give one of them another name")
        return self


class Config(Closed):
    """The whole config file."""

    seed: int = Field(0, ge=0, lt=2**32, description="Every random draw derives from it.")
    images_per_job: int = Field(
        200,
        ge=1,
        description="Images a shard holds on average. Fewer: smaller jobs and finer reruns; more: less overhead.",
    )
    datasets: dict[Name, Dataset] = Field(min_length=1, description="Each gets a folder results/{name} and a report.")
