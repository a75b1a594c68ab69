"""Input functions on the objects of a run, their tables and their measurements."""


def segmentation_of_run(words):
    """Return the segmentation of every shard of a dataset by one run."""
    shards = PLAN.shards(words["dataset"])
    return {
        "segmentation": folders("segmentation", words, shards),
        "seals": seals(["segmentation"], words, shards),
    }


def measured_shard(wildcards):
    """Return the segmentation, the images and the simulated images of a shard."""
    found = shard_inputs("images", "segmentation")(wildcards)
    raw = raw_images_of_shard(wildcards)
    return {**found, "raw": raw.get("raw", []), "seals": found["seals"] + raw["seals"]}


def tables_of_run(wildcards):
    """Return the segmentation of every shard of a dataset by one run, and the features of its objects, if requested."""
    found = segmentation_of_run(wildcards)
    words = dict(wildcards)
    if PLAN.measures_features(wildcards.dataset):
        found["features"] = [
            shard_path("features", shard=shard, **words)
            for shard in PLAN.shards(wildcards.dataset)
        ]
    return found


def objects_of_run(wildcards):
    """Return the table of the objects of a run."""
    return run_path(wildcards.dataset, wildcards.run, "objects.csv")


def images_of_run(wildcards):
    """Return the segmentation of every shard of a dataset by one run, and the simulated images."""
    found = segmentation_of_run(wildcards)
    if PLAN.is_simulated(wildcards.dataset):
        shards = PLAN.shards(wildcards.dataset)
        found["raw"] = folders("raw", wildcards, shards)
        found["seals"] += seals(["raw"], wildcards, shards)
    return found


def worklist_data(wildcards):
    """Return the objects and counts of the run of the worklist, and the tables of all images."""
    run = worklist_run(PLAN, wildcards.dataset)
    dataset = wildcards.dataset
    return {
        **segmentation_of_run({"dataset": dataset, "run": run.name}),
        "counts": run_path(dataset, run.name, "counts.csv"),
        "images": check_paths(dataset)[1],
        "scores": table_paths(dataset)["scores"],
    }
