"""Input functions on what runs bring along: weights or numbers, fitted postprocessing, masks made elsewhere."""


def file_of_source(run, name):
    """Return a file of the run itself or of the run that it applies, or the exported model that contains it."""
    if (source := PLAN.source_of(run)) is None:
        return path_to_read(run.apply)
    return run_path(source.dataset, source.name, name)


def fit_of_run(wildcards):
    """Return the file with the fitted postprocessing of a run."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    return file_of_source(run, FIT)


def weights_of_run(wildcards):
    """Return the weights that a run predicts with."""
    return file_of_source(PLAN.run(wildcards.dataset, wildcards.run), WEIGHTS)


def recipe_of_run(wildcards):
    """Return the file with the numbers that a run without a network thresholds images with."""
    return file_of_source(PLAN.run(wildcards.dataset, wildcards.run), RECIPE)


def learned_by_run(wildcards):
    """Return what is packed into the exported model: weights, or the numbers of a run without a network."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    return run_path(wildcards.dataset, run.name, PLAN.learned_file(run))


def shards_to_learn_from(run):
    """Return the training and the validation shards of a run: role -> shards."""
    validation = PLAN.shards(run.dataset, parts=run.parts["validation"])
    return {
        "train": PLAN.training_shards(run.dataset, run),
        "validation": validation,
    }


def evaluated_shard(wildcards):
    """Return what a shard of a run is scored by: masks of other programs have no probabilities and no threshold."""
    found = shard_inputs("images", "labels", "segmentation")(wildcards)
    found |= passed_check(wildcards.dataset)
    if PLAN.run(wildcards.dataset, wildcards.run).masks is None:
        [found["probabilities"]] = folders(
            "probabilities", wildcards, [wildcards.shard]
        )
        found["seals"] += seals(["probabilities"], wildcards, [wildcards.shard])
        found["fit"] = fit_of_run(wildcards)
    return found
