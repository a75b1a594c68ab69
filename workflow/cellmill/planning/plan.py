"""Plan of a pipeline run: config, runs, sample tables, and the preprocessing of each dataset.

The main process makes it once; job processes rebuild it from the frozen sample tables.
Job settings are plain values in canonical form and contain only what the job uses, because any change reruns the job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from cellmill.config.annotations import Annotations
from cellmill.config.classical import CLASSICAL
from cellmill.config.dataset import Config
from cellmill.config.networks import sees_sequences
from cellmill.exports.model_file import MODEL_SUFFIX, read_description
from cellmill.images.axes import SCENE
from cellmill.images.raw_files import RAW_FORMATS, SET_OF_TIFF, raw_format_of
from cellmill.planning.curve_shards import cut_for_curve, list_curve_shards, shards_of_subset
from cellmill.planning.layout import DIAMETER, FLAT_FIELD, RECIPE, WEIGHTS, dataset_path, run_path, shard_path
from cellmill.planning.model_paths import MODEL_FILE, path_to_read
from cellmill.planning.rescaling import training_parts
from cellmill.planning.runs import ALIKE, Run
from cellmill.planning.samples import UNLABELLED, Sample
from cellmill.planning.shipped_models import shipped_name
from cellmill.planning.simulated_samples import place_simulated
from cellmill.planning.splits import LEFT_OUT
from cellmill.preprocessing.background import TEMPORAL_METHODS
from cellmill.preprocessing.flat_field import METHOD as FLAT_METHOD
from cellmill.shards import AUTO, FEW_IMAGES, stable_hash

MOST_REFERENCES = 64  # images that a simulation is matched to
MOST_FIELDS = 200  # images that an illumination profile is estimated from


@dataclass(frozen=True)
class Plan:
    """Config, runs and samples of a pipeline run, with the lookups that the rules use."""

    config: Config
    runs: dict[str, list[Run]]
    samples: dict[str, list[Sample]]
    preprocess: dict[str, dict[str, Any]]
    remarks: list[str]
    # dataset -> numbers of files that are read and left out
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    # folder to look at and file to write, for a config that is to be proposed
    proposal: dict[str, str | None] = field(default_factory=dict)

    # ---- names -----------------------------------------------------------------------------------

    def run(self, dataset: str, name: str) -> Run:
        """Find a run by the name of its folder."""
        return next(run for run in self.runs[dataset] if run.name == name)

    def listed_runs(self, dataset: str) -> list[Run]:
        """List the runs of a dataset without those of its learning curve, whose only result is the curve."""
        return [run for run in self.runs[dataset] if run.subset is None]

    def run_of_conditions(self, dataset: str) -> Run | None:
        """Return the run whose objects are compared between conditions; None without conditions, or if it is unknown.

        By default the first run with a network or masks of every image by another program, else the first; of several
        seeds the mean.
        """
        section, runs = self.config.datasets[dataset].conditions, self.listed_runs(dataset)
        if section is None:
            return None
        if named := [run for run in runs if run.name == section.model]:
            return named[0]
        if section.model is not None:
            models = [run for run in runs if run.model == section.model]
        else:
            preferred = [run for run in runs if run.role == "model" and not self.is_classical(run)]
            models = [run for run in preferred if run.has_all_images] or preferred or runs
        return next((run for run in runs if models and models[0].name in run.members), next(iter(models), None))

    def training_shards(self, dataset: str, run: Run) -> list[str]:
        """List the shards that a run is trained on; a run of a learning curve has shards of its own."""
        if run.subset is None:
            return self.shards(dataset, parts=run.parts["train"])
        return shards_of_subset(*run.subset, shards=self.curve_shards(dataset))

    def curve_shards(self, dataset: str) -> list[str]:
        """List the shards of a learning curve, whose images are in other shards as well."""
        subsets = (run.subset for run in self.runs[dataset] if run.subset is not None)
        return list_curve_shards(subsets, images_per_job=self._images_of_curve_shard)

    @property
    def _images_of_curve_shard(self) -> int:
        """Most images of a shard of a learning curve, whose pieces do not grow with the dataset."""
        size = self.config.images_per_job
        return FEW_IMAGES if size == AUTO else size

    def shards(self, dataset: str, *, parts: tuple[str, ...] | None = None) -> list[str]:
        """List the shards of a dataset, or of some of its parts, in order."""
        shards = self._rows_by_shard[dataset].items()
        return sorted(shard for shard, rows in shards if parts is None or rows[0].split in parts)

    def labelled_shards(self, dataset: str) -> list[str]:
        """List the shards whose images have annotations."""
        shards = self._rows_by_shard[dataset].items()
        return sorted(shard for shard, rows in shards if rows[0].split != UNLABELLED)

    def shown_part(self, dataset: str, row: Sample) -> str:
        """Return the part of an image for readers, who must not take a frame left out on purpose for unlabelled.

        Returns
        -------
        str
            The part itself; for annotated images without a part, "gap" between two blocks and otherwise "left out".
        """
        section = self.config.datasets[dataset]
        if row.split != UNLABELLED:
            return row.split
        if not self.is_simulated(dataset):
            if section.annotations is None:
                return UNLABELLED
            if section.annotations.missing == "unlabelled" and not row.is_annotated:
                return UNLABELLED
        return LEFT_OUT[0] if section.split.by == "blocks" and section.split.table is None else LEFT_OUT[1]

    def scored_shards(self, dataset: str, run: Run) -> list[str]:
        """List the shards on which a run is scored."""
        if run.subset is not None:
            return self.shards(dataset, parts=run.parts["test"])
        # With folds, an image is a training image of several runs; scored in each, it would count as several images.
        roles = ("validation", "test") if self.config.datasets[dataset].split.folds else tuple(run.parts)
        return self.shards(dataset, parts=tuple(part for role in roles for part in run.parts[role]))

    def shown_shards(self, dataset: str) -> list[str]:
        """List the shards that the report's gallery chooses from: test shards, or all if nothing is annotated."""
        labelled = self.labelled_shards(dataset)
        tests = {part for run in self.runs[dataset] for part in run.parts["test"]}
        return self.shards(dataset, parts=tuple(tests)) if labelled else self.shards(dataset)

    def temporal_shards(self, dataset: str) -> list[str]:
        """List the shards whose background is computed over time: all of a dataset, or none."""
        return self.shards(dataset) if self.temporal_method(dataset) else []

    def input_planes(self, dataset: str) -> list[Mapping[str, Any]]:
        """List the planes that the networks receive: mappings with channel, background and missing."""
        section = self.preprocess[dataset]
        only = {"channel": section["channel"], "background": section["background"], "missing": "refuse"}
        return section.get("channels") or [only]

    def temporal_method(self, dataset: str) -> str | None:
        """Return the method by which a background is computed over time, in any channel; None without one."""
        methods = [plane["background"]["method"] for plane in self.input_planes(dataset)]
        return next((method for method in methods if method in TEMPORAL_METHODS), None)

    def diameter_path(self, dataset: str) -> str | None:
        """Return the file with the measured diameter that images are rescaled by; None if nothing is measured."""
        rescale = self.preprocess[dataset].get("rescale")
        source = None if rescale is None else rescale["measured_in"]
        return None if source is None else dataset_path(source, DIAMETER)

    def flat_field_path(self, dataset: str) -> str | None:
        """Return the file with the illumination profiles of a dataset; None if its images are not divided by one."""
        is_flat = any(plane["background"]["method"] == FLAT_METHOD for plane in self.input_planes(dataset))
        return dataset_path(dataset, FLAT_FIELD) if is_flat else None

    def flat_field_rows(self, dataset: str) -> list[Sample]:
        """List the images that an illumination profile is estimated from, in a fixed order: at most 200.

        Training images, with folds those of all folds. Where nothing is trained on, the images of all parts.
        """
        rows = [row for row in self.samples[dataset] if row.split in training_parts(self.config.datasets[dataset])]
        # Chosen by hash, not by order: one more image changes at most one.
        chosen = sorted(rows or self.samples[dataset], key=lambda row: stable_hash(row.sample, purpose="flat field"))
        return chosen[:MOST_FIELDS]

    def is_measured(self, dataset: str) -> bool:
        """Return whether the diameter of a dataset's objects is measured, for itself or for its models elsewhere."""
        return any(self.diameter_path(name) == dataset_path(dataset, DIAMETER) for name in self.samples)

    def measured_shards(self, dataset: str) -> list[str]:
        """List the shards in which the diameter of a dataset's objects is measured."""
        return self.shards(dataset, parts=training_parts(self.config.datasets[dataset]))

    def measures_features(self, dataset: str) -> bool:
        """Return whether features are added to the tables of a dataset's objects."""
        return bool(self.config.datasets[dataset].measure.features)

    def role_of(self, dataset: str, run: Run, shard: str) -> str:
        """Return whether a shard is used as train, validation or test by a run."""
        part = self.rows(dataset, shard)[0].split
        return next(role for role, parts in run.parts.items() if part in parts)

    def is_simulated(self, dataset: str) -> bool:
        """Return whether a dataset's raw images are simulated."""
        return self.config.datasets[dataset].simulate is not None

    def raw_readers(self, dataset: str) -> tuple[str, ...]:
        """List the modules that are loaded to read the raw images of a dataset, or those that it is matched to."""
        datasets = (dataset, self.like_of(dataset))
        return tuple(sorted({module for name in datasets if name for module in self._readers_of_images[name]}))

    @cached_property
    def _readers_of_images(self) -> dict[str, set[str]]:
        forms = {
            name: {raw_format_of(image) or (SET_OF_TIFF if has_scene else None) for image, has_scene in images}
            for name, images in {
                name: {(row.image, any(axis == SCENE for axis, *_ in row.plane)) for row in rows}
                for name, rows in self.samples.items()
            }.items()
        }
        return {name: {RAW_FORMATS[form]["module"] for form in found if form} for name, found in forms.items()}

    def like_of(self, dataset: str) -> str | None:
        """Return the name of the dataset that a simulation is matched to, or None."""
        simulate = self.config.datasets[dataset].simulate
        return None if simulate is None else simulate.like

    def reference_rows(self, dataset: str) -> list[Sample]:
        """List the images that a simulation is matched to, in a fixed order: at most 64 training images.

        With folds, images of all folds are used. Without annotations nothing is scored, so all images are used.
        """
        like = self.like_of(dataset)
        assert like is not None
        source = self.config.datasets[like]
        is_annotated = source.simulate is not None or source.annotations is not None
        parts = training_parts(source) if is_annotated else (UNLABELLED,)
        rows = [row for row in self.samples[like] if row.split in parts]
        # Chosen by hash, not by order: all shards are represented alike, and one more image changes at most one.
        chosen = sorted(rows, key=lambda row: stable_hash(row.sample, purpose="reference"))
        return chosen[:MOST_REFERENCES]

    def rows(self, dataset: str, shard: str) -> list[Sample]:
        """List the samples of a shard."""
        return self._rows_by_any_shard[dataset][shard]

    @cached_property
    def _rows_by_shard(self) -> dict[str, dict[str, list[Sample]]]:
        return {dataset: _group(rows, by="shard") for dataset, rows in self.samples.items()}

    @cached_property
    def _rows_by_any_shard(self) -> dict[str, dict[str, list[Sample]]]:
        return {dataset: {**rows, **self._rows_of_curve(dataset)} for dataset, rows in self._rows_by_shard.items()}

    def _cut_for_curve(self, dataset: str, rows: list[Sample]) -> dict[str, list[Sample]]:
        shards = self.curve_shards(dataset)
        return cut_for_curve(rows, shards=shards, images_per_job=self._images_of_curve_shard)

    def _rows_of_curve(self, dataset: str) -> dict[str, list[Sample]]:
        run = next((run for run in self.runs[dataset] if run.subset is not None), None)
        if run is None:
            return {}
        rows = [row for row in self.samples[dataset] if row.split in run.parts["train"]]
        simulate = self.config.datasets[dataset].simulate
        return {
            # A simulated image is simulated again in the other shard.
            shard: own if simulate is None else [place_simulated(row, simulate, dataset=dataset) for row in own]
            for shard, own in self._cut_for_curve(dataset, rows).items()
        }

    def context(self, dataset: str, shard: str) -> list[Sample]:
        """List the frames outside a shard that its temporal background is computed from."""
        return self.neighbours(dataset, shard) if self.temporal_method(dataset) else []

    def neighbours(self, dataset: str, shard: str) -> list[Sample]:
        """List the frames outside a shard that may be used together with the shard's frames.

        Frames without annotation are used by every shard of their sequence. A shard of such frames uses the whole
        sequence. An image that is trained on or scored never uses frames of another part.
        """
        own = self.rows(dataset, shard)
        sequences = dict.fromkeys(row.sequence for row in own if row.sequence)  # single images have no neighbours
        takes_all = own[0].split == UNLABELLED
        return [
            row
            for sequence in sequences
            for row in self._rows_by_sequence[dataset][sequence]
            if row.shard != shard and (takes_all or row.split == UNLABELLED)
        ]

    def _frames_around(self, dataset: str, shard: str) -> list[Sample]:
        """List the frames outside a shard that may be temporal context for the shard's frames.

        Gap frames are annotated but left out on purpose. As context of the parts on both sides, they would enter
        training as well as scoring. A shard of gap frames uses the whole sequence as context.
        """
        found = self.neighbours(dataset, shard)
        if self.rows(dataset, shard)[0].split == UNLABELLED:
            return found
        section = self.config.datasets[dataset].annotations
        if section is None or section.missing != "unlabelled":  # then frames without a part are gap frames
            return []
        return [row for row in found if not row.is_annotated]

    def sees_sequences(self, run: Run) -> bool:
        """Return whether a run's network takes several frames as input: a window, or all earlier frames."""
        source = self.source_of(run)
        if source is None:
            export = read_description(str(run.apply))
            return sees_sequences(export.network, export.input)
        return sees_sequences(source.preset["network"], source.preset["input"])

    def input_of(self, run: Run) -> dict[str, Any]:
        """Return the section `input` of the preset of a run's network."""
        source = self.source_of(run)
        section = read_description(str(run.apply)).input if source is None else source.preset["input"]
        return dict(section)

    def sees_classes(self, run: Run) -> bool:
        """Return whether a run's network takes the class of an image as input."""
        return bool(self.input_of(run).get("class_planes"))

    def seen_shards(self, dataset: str, run: Run, shards: list[str]) -> list[str]:
        """List the other shards whose frames are temporal context when a run processes some shards."""
        if not self.sees_sequences(run):
            return []
        seen = {row.shard for shard in shards for row in self._frames_around(dataset, shard)}
        return sorted(seen - set(shards))

    def passages(self, dataset: str, shard: str) -> list[list[str]]:
        """List the frames of a shard with their temporal context, in order, one list for each uninterrupted passage.

        A passage ends at frames of another part or of a gap, because no context is used across them.
        """
        own = {row.sample for row in self.rows(dataset, shard)}
        seen = own | {row.sample for row in self._frames_around(dataset, shard)}
        found: list[list[str]] = []
        for sequence in dict.fromkeys(row.sequence for row in self.rows(dataset, shard)):
            if sequence:
                rows = sorted(self._rows_by_sequence[dataset][sequence], key=lambda row: row.frame)
            else:  # single images
                rows = self.rows(dataset, shard)
            for is_seen, passage in groupby(rows, key=lambda row: row.sample in seen):
                names = [row.sample for row in passage]
                for part in [names] if sequence else [[name] for name in names]:
                    if is_seen and own.intersection(part):
                        found.append(part)
        return found

    @cached_property
    def _rows_by_sequence(self) -> dict[str, dict[str, list[Sample]]]:
        return {dataset: _group(rows, by="sequence") for dataset, rows in self.samples.items()}

    def source_of(self, run: Run) -> Run | None:
        """Find the run whose weights a run uses: itself, the applied run, or None for an exported file."""
        if run.apply is None:
            return run
        if run.apply.endswith(MODEL_SUFFIX):
            return None
        return self.run(*run.apply.split("/", 1))

    def start_files(self, dataset: str, name: str) -> list[str]:
        """List the exported models from which the training of a run, or of its members, started."""
        run = self.run(dataset, name)
        trained = [self.run(dataset, member) for member in run.members] or [run]
        starts = dict.fromkeys(one.init_from for one in trained if one.init_from is not None)
        return [
            path_to_read(start) if start.endswith(MODEL_SUFFIX) else dataset_path(start, MODEL_FILE) for start in starts
        ]

    def choice_files(self, dataset: str, name: str) -> list[str]:
        """List choices.json of a run, or of its members, if it says whether the training took its start."""
        run = self.run(dataset, name)
        trained = [self.run(dataset, member) for member in run.members] or [run]
        return [run_path(dataset, one.name, "choices.json") for one in trained if one.init_weights == ALIKE]

    def models_to_compare(self, dataset: str) -> dict[str, str]:
        """Return the exported models whose training images may be test images of a dataset.

        Returns
        -------
        dict
            Path -> name in messages; empty if no image is tested.
        """
        parts = {part for run in self.runs[dataset] for part in run.parts["test"]}
        if not self.shards(dataset, parts=tuple(parts)):
            return {}
        sources = dict.fromkeys(source for run in self.runs[dataset] for source in (run.apply, run.init_from))
        files = [source for source in sources if source is not None and source.endswith(MODEL_SUFFIX)]
        return {file: shipped_name(file) or file for file in files}

    def architecture(self, run: Run) -> str:
        """Return the name of the module of cellmill.models that a run loads; "" for masks."""
        source = self.source_of(run)
        if source is None:
            return str(read_description(str(run.apply)).network["architecture"])
        return str(source.preset["network"]["architecture"]) if source.preset else ""

    def is_classical(self, run: Run) -> bool:
        """Return whether a run, or the run that it applies, has no network."""
        return self.architecture(run) == CLASSICAL

    def classical_runs(self) -> list[Run]:
        """List the runs of all datasets without a network."""
        return [run for of_dataset in self.runs.values() for run in of_dataset if self.is_classical(run)]

    def mask_runs(self) -> list[Run]:
        """List the runs of all datasets that take their objects from masks."""
        return [run for of_dataset in self.runs.values() for run in of_dataset if run.masks is not None]

    def learned_file(self, run: Run) -> str:
        """Return the name of the file with what a run predicts with: weights, or the numbers of a classical run."""
        return RECIPE if self.is_classical(run) else WEIGHTS

    def annotations(self, dataset: str, shard: str) -> Annotations | None:
        """Return the annotation settings of a shard: from the config, or for the files that the simulation writes."""
        section = self.config.datasets[dataset]
        if section.simulate is not None and section.simulate.time_lapse is not None:
            raw, truth = shard_path("raw", dataset=dataset, shard=shard), "{sequence}_GT"
            return Annotations(
                format="ctc",
                path=f"{raw}/{truth}/SEG/man_seg{{frame}}.tif",
                tracks=f"{raw}/{truth}/TRA/man_track.txt",
                markers=f"{raw}/{truth}/TRA/man_track{{frame}}.tif",
                missing="error",
            )
        if section.simulate is not None:
            return Annotations(
                format="rle",
                table=f"{shard_path('raw', dataset=dataset, shard=shard)}/annotations.csv",
                order="row",
                repair="none",
                missing="empty",  # an image without cells has no row
            )
        return section.annotations


def _group(rows: list[Sample], *, by: str) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for row in rows:
        groups.setdefault(getattr(row, by), []).append(row)
    return groups
