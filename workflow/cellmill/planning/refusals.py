"""Check the config against the data and report impossible settings before any job starts."""

from cellmill.config.networks import RECURRENT
from cellmill.declared import read_declaration
from cellmill.objects.features import FEATURES, explain_channels
from cellmill.objects.raw_channels import count_channels
from cellmill.planning.conditions import wrong_conditions
from cellmill.planning.flat_fields import wrong_flat_fields
from cellmill.planning.plan import Plan
from cellmill.planning.rescaling import first_image
from cellmill.planning.runs import Run
from cellmill.planning.samples import some
from cellmill.preprocessing.background import MIN_FRAMES

# Methods of splitting objects that need a predicted map of the same name
MAPS_OF_METHODS: tuple[str, ...] = read_declaration("objects/instances.py", "MAPS")
OF_CHANNELS = {name for name, facts in FEATURES.items() if facts["group"] != "shape"}
# Outputs whose targets are computed from individual cells rather than from the mask.
INSTANCE_OUTPUTS = ("contour", "distance", "flow", "flow_gray")


def contradictions(plan: Plan) -> list[str]:
    """List the settings that are impossible with the given images and annotations.

    Returns
    -------
    list of str
        One message for each mistake, with the key path and a setting that would work.
    """
    return [
        *_short_sequences(plan),
        *wrong_flat_fields(plan),
        *_likes_without_images(plan),
        *_unfit_models(plan),
        *_untested_masks(plan),
        *_unfit_curves(plan),
        *_exports_without_sequences(plan),
        *wrong_conditions(plan),
        *_features_without_channels(plan),
    ]


def _features_without_channels(plan: Plan) -> list[str]:
    """Compare the measured channels with the first readable image; the jobs compare them with every image."""
    mistakes = []
    for dataset, section in plan.config.datasets.items():
        names, channels = section.measure.names, section.measure.named_channels
        image = first_image(plan.samples[dataset]) if set(names) & OF_CHANNELS else None
        if image is None:
            continue
        count = count_channels(image)
        if problem := explain_channels(count, channels=channels, features=names):
            mistakes.append(f"datasets.{dataset}.measure: {image.path}: {problem}")
    return mistakes


def _exports_without_sequences(plan: Plan) -> list[str]:
    return [
        f"datasets.{dataset}.export: expected frames of sequences for ctc, found single images. Add {{sequence}} and "
        "{frame} to the pattern of the images, set stack.axis: time, or remove ctc."
        for dataset, section in plan.config.datasets.items()
        if "ctc" in section.export and not any(row.sequence for row in plan.samples[dataset])
    ]


def _unfit_models(plan: Plan) -> list[str]:
    mistakes = []
    for dataset, section in plan.config.datasets.items():
        for index, entry in enumerate(section.models):
            where = f"datasets.{dataset}.models[{index}]"
            runs = [run for run in plan.runs[dataset] if run.model == entry.run_name]
            if runs[0].masks is not None:
                continue
            if plan.is_classical(runs[0]):
                mistakes += _without_maps(plan, dataset, runs[0]) if runs[0].preset else []
                continue
            mistakes += _without_sequences(plan, dataset, runs[0], where=where)
            if runs[0].apply is None and runs[0].preset:
                mistakes += _without_classes(plan, dataset, runs, where=where)
                mistakes += _without_instances(plan, dataset, runs[0], where=where)
                mistakes += _short_passages(plan, dataset, runs, where=where)
                mistakes += _without_maps(plan, dataset, runs[0])
            mistakes += _without_classes_to_predict(plan, dataset, runs[0], where=where)
    return mistakes


def _untested_masks(plan: Plan) -> list[str]:
    """List the runs of masks that lack test images, where masks of the test images suffice."""
    mistakes = []
    for dataset, section in plan.config.datasets.items():
        for index, entry in enumerate(section.models):
            if entry.masks is None or entry.masks.missing != "untested":
                continue
            tested = {part for run in plan.runs[dataset] if run.model == entry.run_name for part in run.parts["test"]}
            rows = [row for row in plan.samples[dataset] if row.split in tested]
            if lack := [row.sample for row in rows if not row.has_masks(entry.run_name)]:
                mistakes.append(
                    f"datasets.{dataset}.models[{index}].masks: expected masks of every test image, because models "
                    f"are ranked on the same images, found none for {some(lack)} ({len(lack)} of {len(rows)}). Add "
                    "them, or set missing: empty if the program found no object in the images without masks."
                )
    return mistakes


def _unfit_curves(plan: Plan) -> list[str]:
    mistakes = []
    for dataset, section in plan.config.datasets.items():
        curve = section.learning_curve
        run = next((run for run in plan.runs[dataset] if run.model == section.curve_model), None)
        if curve is None or run is None:
            continue
        where = f"datasets.{dataset}.learning_curve"
        images = sum(row.split in run.parts["train"] for row in plan.samples[dataset])
        if curve.images[-1] >= images:
            mistakes.append(
                f"{where}.images: expected fewer images than the {images} training images, with which {run.model} is "
                f"trained anyway, found {curve.images[-1]}. Remove numbers from {images} on."
            )
        if run.init_from is not None and run.init_from.startswith(f"{dataset}/"):
            mistakes.append(
                f"{where}: expected a model that starts from random weights or another dataset, found {run.model}, "
                f"which starts from {run.init_from} and so from all training images. Set learning_curve.model to "
                "another model, or remove init_from."
            )
        if plan.sees_sequences(run) or plan.temporal_shards(dataset):
            mistakes.append(
                f"{where}: expected a model and a background of single images, found {run.model}, which needs the "
                "frames around an image. Set learning_curve.model to another model, or remove learning_curve."
            )
    return mistakes


def _without_sequences(plan: Plan, dataset: str, run: Run, *, where: str) -> list[str]:
    if not plan.sees_sequences(run) or any(row.sequence for row in plan.samples[dataset]):
        return []
    key = f"{where}.input.frames" if plan.architecture(run) not in RECURRENT else f"{where}.network.architecture"
    return [
        f"{key if run.apply is None else f'{where}.apply'}: expected frames of sequences for {run.model}, which "
        "uses several frames, found single images. Add {sequence} and {frame} to the pattern of the images (or set "
        "stack.axis: time), or use a model for single images: stemnet1, sartorius_unet."
    ]


def _short_passages(plan: Plan, dataset: str, runs: list[Run], *, where: str) -> list[str]:
    if plan.architecture(runs[0]) not in RECURRENT or not any(row.sequence for row in plan.samples[dataset]):
        return []
    unroll = int(runs[0].preset["train"]["streams"]["unroll"])
    longest = min(
        max(
            len(passage)
            for shard in plan.shards(dataset, parts=run.parts["train"])
            for passage in plan.passages(dataset, shard)
        )
        for run in runs
    )
    if longest >= unroll:
        return []
    return [
        f"{where}.train.streams.unroll: expected at most {longest}, the number of consecutive frames in the training "
        f"part, found {unroll}. Lower it, or change split so that the training part has more consecutive frames."
    ]


def _without_maps(plan: Plan, dataset: str, run: Run) -> list[str]:
    """Check that the network predicts the map that `postprocess.instances.method` needs."""
    method = plan.config.datasets[dataset].postprocess.instances.method
    output = run.preset["network"]["output"]
    if method not in MAPS_OF_METHODS or method == output:
        return []
    return [
        f"datasets.{dataset}.postprocess.instances.method: expected auto, components or watershed for {run.model}, "
        f"whose network.output is {output}, found {method}. Set it to auto, or set network.output: "
        f"{method} and the matching loss for {run.model}."
    ]


def _without_classes(plan: Plan, dataset: str, runs: list[Run], *, where: str) -> list[str]:
    planes = runs[0].preset["input"]["class_planes"]
    if not planes:
        return []
    key, section = f"{where}.input.class_planes", plan.config.datasets[dataset]
    if section.class_column is None:
        return [
            f"{key}: expected the class of each image for the planes {', '.join(planes)}, found no class_column. Set "
            f"datasets.{dataset}.class_column, set input.class_planes to [], or use sartorius_unet."
        ]
    parts = {part for run in runs for role in ("train", "validation") for part in run.parts[role]}
    found = sorted({row.class_name for row in plan.samples[dataset] if row.split in parts})
    unknown = [name or "(none)" for name in found if name not in planes]
    if not unknown:
        return []
    named = [name for name in found if name]
    advice = [f"Set it to {named}"] if set(named) - set(planes) else []
    advice += [f"Add the missing classes to {section.class_column}"] if "" in found else []
    return [
        f"{key}: expected a plane for each class of the training and validation images, found no plane for "
        f"{some(unknown)}. {'. '.join(advice)}."
    ]


def _without_classes_to_predict(plan: Plan, dataset: str, run: Run, *, where: str) -> list[str]:
    """Check that every image has a known class if the network needs the class for prediction (oracle)."""
    input = plan.input_of(run)
    planes, column = input.get("class_planes"), plan.config.datasets[dataset].class_column
    if not planes or input["class_at_prediction"] != "oracle" or (column is None and run.apply is None):
        return []
    unknown = sorted({row.class_name or "(none)" for row in plan.samples[dataset] if row.class_name not in planes})
    if not unknown:
        return []
    key = f"{where}.input.class_at_prediction" if run.apply is None else f"{where}.apply"
    instead = "set it to average" if run.apply is None else "apply a model with input.class_at_prediction: average"
    return [
        f"{key}: expected one of the classes {', '.join(planes)} for each image, because the prediction uses it "
        f"(oracle), found {some(unknown)}. Set datasets.{dataset}.class_column to a column of these classes, or "
        f"{instead}."
    ]


def _without_instances(plan: Plan, dataset: str, run: Run, *, where: str) -> list[str]:
    annotations = plan.config.datasets[dataset].annotations
    if annotations is None or annotations.format != "binary":
        return []
    output, loss = run.preset["network"]["output"], run.preset["train"]["loss"]
    if output in INSTANCE_OUTPUTS:
        left = [f"{key}: null" for key in ("class_weights", "distance") if loss[key] is not None]
        key, found = "network.output", output
        instead = f"network.output to foreground and train.loss to {{{', '.join(['name: bce', *left])}}}"
    elif loss["distance"] is not None:
        key, found, instead = "train.loss.distance", "distance weights", "train.loss.distance to null"
    else:
        return []
    return [
        f"{where}.{key}: expected labels of single objects for {found}, found annotations of format binary, which do "
        f"not separate touching objects. Use label images, masks or outlines of the objects, or set {instead}."
    ]


def _likes_without_images(plan: Plan) -> list[str]:
    """List the simulations whose reference dataset (`like`) has no images to measure."""
    mistakes = []
    for dataset in plan.samples:
        like = plan.like_of(dataset)
        if like is None or plan.reference_rows(dataset):
            continue
        parts = sorted({row.split for row in plan.samples[like]})
        mistakes.append(
            f"datasets.{dataset}.simulate.like: expected training images in {like}, found only {' and '.join(parts)}. "
            f"Set datasets.{like}.split.train above 0, or set like to another dataset."
        )
    return mistakes


def likes_of_folds(plan: Plan) -> list[str]:
    """Return remarks on simulations that are matched to the images of all folds."""
    return [
        f"datasets.{dataset}.simulate.like: {like} has folds, so the images of all folds are measured, including test "
        "images of models that start from this simulation. Only sizes, contrast and noise are taken from them, no "
        "pixels or outlines"
        for dataset in plan.samples
        if (like := plan.like_of(dataset)) is not None and plan.config.datasets[like].split.folds
    ]


def models_left_out(plan: Plan) -> list[str]:
    """Return remarks on datasets that name no models and have nothing to train one on."""
    return [
        f"datasets.{dataset}.models: there are no annotations, so only classical runs, with fixed values. To use a "
        "trained model, set apply: for nuclei, models: [classical, {apply: nuclei}]"
        for dataset, section in plan.config.datasets.items()
        if not section.is_annotated and "models" not in section.model_fields_set
    ]


def _short_sequences(plan: Plan) -> list[str]:
    """List the datasets with too few frames for their temporal background, before any job starts."""
    mistakes = []
    for dataset in plan.samples:
        method = plan.temporal_method(dataset)
        if method is None:
            continue
        where = f"datasets.{dataset}.preprocess.background.method"
        if not all(row.sequence for row in plan.samples[dataset]):
            mistakes.append(
                f"{where}: expected frames of sequences for {method}, found single images. Add {{sequence}} and "
                "{frame} to the pattern of the images, or set another method."
            )
            continue
        for shard in plan.shards(dataset):
            frames = [*plan.rows(dataset, shard), *plan.context(dataset, shard)]
            for sequence in sorted({row.sequence for row in plan.rows(dataset, shard)}):
                count = sum(row.sequence == sequence for row in frames)
                if count < MIN_FRAMES:
                    part = plan.rows(dataset, shard)[0].split
                    mistakes.append(
                        f"{where}: expected at least {MIN_FRAMES} frames for {method}, found {count} in sequence "
                        f"{sequence!r} ({part}). Add frames to this part, or set a method for single frames."
                    )
    return mistakes
