"""Pydantic model of the config file, which rejects unknown keys.

Defaults, ranges, units and descriptions are defined only here and in the models of the sections.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from cellmill.config.annotations import Annotations, MasksOrPath
from cellmill.config.classical import CLASSICAL
from cellmill.config.closed import Closed
from cellmill.config.conditions import Conditions
from cellmill.config.learning_curve import CurveOrNumbers, LearningCurve
from cellmill.config.measure import Measure
from cellmill.config.patterns import check_pattern
from cellmill.config.postprocess import Evaluate, Postprocess
from cellmill.config.preprocess import Preprocess
from cellmill.config.preset import ModelPreset
from cellmill.config.report import Report
from cellmill.config.simulate import Simulate
from cellmill.config.stack import Stack
from cellmill.config.worklist import Worklist
from cellmill.declared import read_declaration

MODEL_SUFFIX: str = read_declaration("exports/model_file.py", "MODEL_SUFFIX")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_+-]*"
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Split(Closed):
    """Split of the images into training, validation and test parts, or into folds."""

    train: Fraction = Field(0.6, description="Share of the groups that the networks are trained on.")
    validation: Fraction = Field(0.2, description="Share used to choose the best epoch, the threshold and the sizes.")
    test: Fraction = Field(0.2, description="Share used only for the final scores, not for any choice.")
    by: Literal["auto", "image", "sequence", "blocks"] = Field(
        "auto",
        description="Unit that stays together: image, sequence, or contiguous blocks of frames of each sequence. "
        "auto: sequence if paths or stacks define sequences, else image. Only blocks, or a `table`, put frames of one "
        "sequence into different parts; the report then warns about it. A longer sequence moves the cuts between "
        "blocks, so freeze the split with `table` once results matter.",
    )
    gap: int = Field(
        0, ge=0, description="blocks: number of frames left out between two blocks (predicted, never scored)."
    )
    group_by: str | None = Field(
        None,
        description="Wildcard of the image path or column of the annotation table. Images with the same value stay "
        "together, such as those of a well, patient or plate.",
    )
    stratify: str | None = Field(
        None,
        description="Wildcard or column; `class` means the values of class_column. Each value is represented in each "
        "part if there are enough groups.",
    )
    folds: int | None = Field(
        None, ge=3, description="k-fold cross-validation: k runs per model, each tested on a different fold."
    )
    table: str | None = Field(
        None,
        description="CSV with the columns sample and split (train, validation, test), which freezes the split. Without "
        "training it may contain test images only.",
    )
    seed: int = Field(
        0, ge=0, description="A different number gives a different split. The training seed does not affect the split."
    )

    def wrong_parts(self, *, trains: bool) -> list[str]:
        """List the parts that are empty although they are needed, one message for each."""
        if self.folds is not None or self.table is not None:
            return []
        needs = _WHY_PART if trains else {"test": _WHY_PART["test"]}
        return [
            f"expected a {part} share above 0, found {getattr(self, part):g}. Raise split.{part}, because {part} "
            f"images are needed to {why}"
            for part, why in needs.items()
            if getattr(self, part) <= 0
        ]

    @property
    def is_chosen(self) -> bool:
        """Whether the config sets parts; otherwise a dataset that trains nothing has test images only."""
        return bool(self.model_fields_set & {"train", "validation", "test", "folds", "by", "gap", "table"})

    @model_validator(mode="after")
    def _parts_make_a_whole(self) -> "Split":
        if self.folds is None and self.table is None:
            total = self.train + self.validation + self.test
            if abs(total - 1) > 1e-6:
                raise ValueError(
                    f"expected train + validation + test to be 1, found {total:g}. Change one of the three"
                )
        chosen = {key for key in ("folds", "group_by", "stratify") if getattr(self, key) is not None}
        if self.by == "blocks" and chosen:
            found = " and ".join(sorted(chosen))
            raise ValueError(
                f"expected by: blocks alone, because it cuts each sequence, found {found} as well. Remove {found}, "
                "or set by to another unit"
            )
        if self.table is not None and (chosen or self.by != "auto"):
            found = " and ".join(sorted(chosen | ({"by"} if self.by != "auto" else set())))
            raise ValueError(
                f"expected table alone, because it assigns each sample to a part, found {found} as well. Remove "
                f"{found}, or remove table"
            )
        return self


_WHY_PART = {
    "train": "train the network",
    "validation": "choose the best epoch and the threshold without using test images",
    "test": "compute unbiased scores",
}


class ModelEntry(Closed):
    """One model of a dataset: a preset with overrides, a trained model to apply, or the masks of another program."""

    preset: Name | None = Field(None, description="Name of a file in resources/models, without .yaml.")
    apply: str | None = Field(
        None,
        description="Trained model to use unchanged: name of a shipped model (resources/weights), dataset/run of this "
        "config, or path of an exported .cellmill file.",
    )
    masks: MasksOrPath | None = Field(
        None,
        description="Masks of another program, or of another annotator, that are scored like a model: pattern of label "
        "images such as cellpose/{sample}_cp_masks.png, or a section with the keys of `annotations` for other formats "
        "(format, path or table, …). Masks need a `name`.",
    )
    role: Literal["model", "annotator"] = Field(
        "model",
        description="Applies to masks. annotator: drawn by a person, so they show how well people agree and are not "
        "ranked among the models.",
    )
    name: Name | None = Field(None, description="Folder of the run. Default: the preset's name.")
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="One run per seed, in {name}.seed{n}. Default: a single run with the seed of the config.",
    )
    average_seeds: bool = Field(
        False,
        description="Add a run {name}.mean that averages the predictions of all seeds and has its own threshold.",
    )
    init_from: str | None = Field(
        None,
        description="Initial weights: those of a shipped model (its name), of dataset/run of this config, or of an "
        "exported .cellmill file (its path).",
    )
    init_weights: Literal["all", "matching"] = Field(
        "all",
        description="Applies to init_from. all: every weight must match. matching: use weights with the same name and "
        "shape; the log lists the others.",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of the preset that are overridden; written beside `preset` (width, train, input, …).",
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
        origins = [key for key in ("preset", "apply", "masks") if getattr(self, key) is not None]
        if len(origins) != 1:
            found = " and ".join(origins) + ". Remove all but one" if origins else "none of them. Set one"
            raise ValueError(f"expected one of preset, apply and masks, found {found}")
        self._refuse_training_of_masks()
        if self.apply is not None and (self.overrides or self.seeds or self.init_from):
            found = " and ".join([*self.overrides, *(key for key in ("seeds", "init_from") if getattr(self, key))])
            raise ValueError(
                f"expected apply alone, because it uses a trained model unchanged, found {found} as well. Remove "
                f"{found}"
            )
        if self.average_seeds and len(self.seeds or ()) < 2:
            raise ValueError(
                f"average_seeds: expected at least two seeds to average, found {self.seeds or 'none'}. Set "
                "seeds: [1, 2, 3], or remove average_seeds"
            )
        if self.init_weights != "all" and self.init_from is None:
            raise ValueError(
                f"expected init_from with init_weights: {self.init_weights}, found none. Set init_from, or remove "
                "init_weights"
            )
        if self.apply is not None and self.name is None:
            source = self.apply.removesuffix(MODEL_SUFFIX).split("/")[-1]
            cleaned = re.sub(r"[^A-Za-z0-9_+-]", "_", source)
            if not re.fullmatch(NAME_PATTERN, cleaned):
                raise ValueError(f"expected apply to end in a valid run name, found {self.apply!r}. Set name")
            self.name = cleaned
        if self.seeds is not None and len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"expected different seeds, found {self.seeds}. Remove the duplicates")
        return self

    def _refuse_training_of_masks(self) -> None:
        """Refuse masks without a name or with keys of a training, and a role without masks."""
        if self.masks is None:
            if self.role != "model":
                raise ValueError(
                    f"expected masks with role: {self.role}, found none. Set masks to the files of the {self.role}, or "
                    "remove role"
                )
            return
        extra = {key for key in ("seeds", "average_seeds", "init_from") if getattr(self, key)}
        if self.init_weights != "all":
            extra.add("init_weights")
        if found := sorted(extra | set(self.overrides)):
            raise ValueError(
                f"expected masks without settings of a model, because nothing is trained, found {' and '.join(found)}. "
                f"Remove {' and '.join(found)}"
            )
        if self.masks.missing == "unlabelled" and self.role != "annotator":
            raise ValueError(
                "expected masks of every test image, because models are ranked on the same images, found missing: "
                "unlabelled. Set role: annotator for a person who drew some of the images, missing: untested if the "
                "program was applied to the test images only, or missing: empty if it found nothing in the others"
            )
        if self.name is None:
            raise ValueError("expected a name for the run of the masks, found none. Set name, such as name: cellpose")

    @property
    def trains(self) -> bool:
        """Whether a network is trained, which needs annotations."""
        return self.preset is not None and self.preset != CLASSICAL

    @property
    def is_fitted(self) -> bool:
        """Whether numbers are chosen on images of the dataset: a trained network, or a model without one."""
        return self.preset is not None

    @property
    def run_name(self) -> str:
        """Folder name of the run, without the suffixes for seed and fold."""
        return self.name or self.preset or ""


# Models of a dataset that names none; without annotations, the first
DEFAULT_MODELS = (CLASSICAL, "default")


class Dataset(Closed):
    """Images, annotations (or a simulation), and what to do with them."""

    images: str | None = Field(
        None,
        description="Pattern of the image files. {sample}, {sequence}, {frame} and wildcards with your own names mark "
        "parts of a path; * matches any text within a name, and **/ folders of any depth. Relative to the working "
        "directory. If files in different folders have the same name, samples are named by the wildcards of their "
        "folders as well, such as A_001 for {well}/{sample}.png.",
    )
    exclude: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Patterns of files that `images` matches but that are not images of this dataset, such as "
        '"data/*_cp_masks.png". A pattern without a folder applies to file names. One pattern may be given without a '
        "list.",
    )
    simulate: Simulate | None = Field(None, description="Simulate the images instead of reading them.")
    annotations: Annotations | None = Field(
        None, description="Location and format of the ground truth. Default: none; images are predicted but not scored."
    )
    corrections: str | None = Field(
        None,
        min_length=1,
        description="Pattern of corrected annotations, such as corrected/{sample}.tif: label images (TIFF, PNG), ROIs "
        "of ImageJ (.zip, .roi) or GeoJSON. A file replaces the annotation of its image, or annotates an image that "
        "has none. Images without a file keep their annotation.",
    )
    class_column: str | None = Field(
        None,
        description="Column of the annotation table, or wildcard of the image path, that contains the class of an "
        "image.",
    )
    pixel_size_um: float | None = Field(
        None,
        gt=0,
        description="Side length of a pixel of the raw images in um. Default: taken from the metadata of each image.",
    )
    stack: Stack = Field(default_factory=Stack, description="Meaning of the planes of multi-page files.")
    preprocess: Preprocess = Field(
        default_factory=Preprocess, description="Channel, background subtraction and image size."
    )
    split: Split = Field(
        default_factory=Split,
        description="Images for training, validation and testing. "
        "If all models are trained models (apply) and no part is set here, all annotated images are test images.",
    )
    models: list[ModelEntry] = Field(
        default_factory=list,
        min_length=1,
        description="Presets (with overrides) and trained models to run. Default: [classical, default]; without "
        "annotations [classical], because nothing can be trained.",
    )
    learning_curve: CurveOrNumbers | None = Field(
        None,
        description="Train a model again with fewer training images, such as [5, 10, 20], to see what more annotations "
        "would add. A list stands for `images` below.",
    )
    worklist: Worklist | None = Field(
        None,
        description="Order in which to annotate images. Default: a worklist with the settings below if there "
        "are unlabelled images, none otherwise.",
    )
    conditions: Conditions | None = Field(
        None,
        description="Compare the objects of an experiment between its conditions, such as treatments, by the means of "
        "its replicates, such as wells.",
    )
    postprocess: Postprocess = Field(default_factory=Postprocess, description="Conversion of probabilities to objects.")
    measure: Measure = Field(default_factory=Measure, description="Features of objects to add to objects.csv.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="Scores and their confidence intervals.")
    report: Report = Field(default_factory=Report, description="Report page.")
    export: list[
        Literal["onnx", "bioimageio", "coco", "imagej_roi", "geojson", "ctc", "table", "anndata", "ome_zarr"]
    ] = Field(
        default_factory=list,
        description="Additional files for other programs. Trained models: onnx (model.onnx), bioimageio "
        "(model.bioimageio.zip, only for networks whose only input is images). Objects of every run: coco "
        "(objects.coco.json, with the confidence of each object as score), imagej_roi (rois/{sample}.zip), geojson "
        "(geojson/{sample}.geojson, for QuPath), ctc (ctc/{sequence}_RES, for sequences; objects are numbered through "
        "time by overlap), table (objects.tidy.csv.gz, one row per object and feature, with what is known of the "
        "image), anndata (objects.h5ad, for scanpy and squidpy), ome_zarr (ome_zarr/{sample}.ome.zarr, raw image and "
        "labels, for napari).",
    )

    @property
    def is_annotated(self) -> bool:
        """Whether the images have a ground truth."""
        return self.annotations is not None or self.simulate is not None

    @property
    def is_fitted(self) -> bool:
        """Whether the numbers of a model are chosen on images of this dataset."""
        return self.is_annotated and any(entry.is_fitted for entry in self.models)

    @model_validator(mode="before")
    @classmethod
    def _name_empty_sections(cls, dataset: Any) -> Any:
        # An empty `split:` is None in YAML and is treated as missing.
        if isinstance(dataset, dict):
            return {key: value for key, value in dataset.items() if value is not None}
        return dataset

    @field_validator("images", "corrections")
    @classmethod
    def _pattern_is_sound(cls, pattern: str | None) -> str | None:
        return None if pattern is None else check_pattern(pattern)

    @field_validator("exclude", mode="before")
    @classmethod
    def _one_pattern_is_a_list(cls, patterns: Any) -> Any:
        return [patterns] if isinstance(patterns, str) else patterns

    @field_validator("exclude")
    @classmethod
    def _excluded_patterns_are_sound(cls, patterns: list[str]) -> list[str]:
        return [check_pattern(pattern) for pattern in patterns]

    @model_validator(mode="after")
    def _name_models(self) -> "Dataset":
        if "models" not in self.model_fields_set:
            presets = DEFAULT_MODELS if self.is_annotated else DEFAULT_MODELS[:1]
            # Not by assignment, which would mark the key as set in the config.
            object.__setattr__(self, "models", [ModelEntry(preset=preset) for preset in presets])
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "Dataset":
        if (self.images is None) == (self.simulate is None):
            raise ValueError(
                "expected either images or simulate, found "
                + ("both. Remove one" if self.images else "neither. Set one")
            )
        if self.simulate is not None and self.annotations is not None:
            raise ValueError(
                "expected no annotations with simulate, which creates its own, found annotations. Remove annotations"
            )
        if self.simulate is not None and self.preprocess.channels is not None:
            raise ValueError(
                "expected one channel with simulate, found preprocess.channels. Set preprocess.channel, or remove it."
            )
        if self.simulate is not None and self.conditions is not None:
            raise ValueError(
                "expected images with conditions, found simulate, whose images have no conditions. Remove conditions, "
                "or set images"
            )
        if self.corrections is not None and self.annotations is None:
            raise ValueError(
                f"expected annotations with corrections, found none. Set annotations: {{format: label_image, path: "
                f"{self.corrections!r}, missing: unlabelled}} in place of corrections"
            )
        if self.simulate is None and self.annotations is None:
            trained = [entry.run_name for entry in self.models if entry.trains]
            if trained:
                raise ValueError(
                    f"expected annotations to train {', '.join(trained)} on, found none. Add annotations, "
                    "or use only classical, masks and models with apply"
                )
        if wrong := self.split.wrong_parts(trains=self.is_fitted):
            raise ValueError(wrong[0])
        if self.learning_curve is not None:
            self._check_learning_curve(self.learning_curve)
        if self.worklist is not None:
            self._check_worklist(self.worklist)
        names = [entry.run_name for entry in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"expected a different name for each model, found two models called {', '.join(twice)}. Set name for "
                "one of them"
            )
        return self

    @property
    def curve_model(self) -> str | None:
        """The model of the learning curve; None without one."""
        if self.learning_curve is None:
            return None
        return self.learning_curve.model or next((entry.run_name for entry in self.models if entry.trains), None)

    def _check_worklist(self, worklist: Worklist) -> None:
        if self.simulate is not None:
            raise ValueError(
                "expected no worklist with simulate, because all simulated images are annotated, found one. Remove "
                "worklist"
            )
        rated = [entry.run_name for entry in self.models if entry.masks is None]
        if not rated:
            raise ValueError(
                "expected a model for worklist, because masks have no confidence, found only masks. Add classical or "
                "{apply: nuclei} to models, or remove worklist"
            )
        if worklist.model is not None and worklist.model not in rated:
            raise ValueError(
                f"worklist.model: expected a model with confidences, found {worklist.model!r}. Set it to "
                f"{' or '.join(rated)}"
            )

    def _check_learning_curve(self, curve: LearningCurve) -> None:
        trained = [entry.run_name for entry in self.models if entry.trains]
        if not trained:
            raise ValueError(
                "expected a model that trains a network for learning_curve, found none. Add one to models, or remove "
                "learning_curve"
            )
        if curve.model is not None and curve.model not in trained:
            raise ValueError(
                f"learning_curve.model: expected a model that trains a network, found {curve.model!r}. Set it to "
                f"{' or '.join(trained)}"
            )
        if self.split.folds is not None:
            raise ValueError(
                "expected learning_curve without split.folds, because all trainings are scored on the same test "
                "images, found both. Remove one"
            )


class Config(Closed):
    """The whole config file."""

    # Editors accept sections for YAML anchors; they are left out before the config is validated.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"patternProperties": {"^x-": {}}})

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of all random numbers.")
    images_per_job: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Mean number of images per job (a shard). Lower values give smaller jobs and finer reruns, higher "
        "values less overhead. auto: 200; more where a part of the split has over 1,600 images, such as 600 of 15,000.",
    )
    recheck: bool = Field(
        False,
        description="Whether to read all raw files, and all images and masks in results, and to compare their content "
        "with their digests; changed results are made again. For use on the command line: --config recheck=true. "
        "Names, sizes and, of raw files, times are always compared.",
    )
    datasets: dict[Name, Dataset] = Field(
        min_length=1, description="Datasets by name. Each gets a folder results/{name} and a report."
    )
