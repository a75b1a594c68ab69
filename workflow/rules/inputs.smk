"""Input functions of the rules, which list the files a job reads, in the order of the stages."""

# Snakemake compares files by content but folders by time stamp only. Each shard folder therefore has a seal, a file
# with the digest of its manifest. Consumers take the folder as ancient and the seal as an ordinary file.
# See workflow/decisions/0003-seals.md.


def folders(room, wildcards, shards):
    """List the folders of some shards in one room, as ancient so that their time stamps are ignored."""
    words = dict(wildcards)
    place = {"dataset": words["dataset"], "run": words.get("run", "")}
    return [ancient(shard_path(room, shard=shard, **place)) for shard in shards]


def seals(rooms, wildcards, shards):
    """List the seals of the folders of some shards in some rooms."""
    return [
        str(seal_path(folder))
        for room in rooms
        for folder in folders(room, wildcards, shards)
    ]


def shard_inputs(*rooms):
    """Return the input function of a job that reads one shard in some rooms."""

    def inputs(wildcards):
        shards = [wildcards.shard]
        found = {room: folders(room, wildcards, shards) for room in rooms}
        return {**found, "seals": seals(rooms, wildcards, shards)}

    return inputs


def passed_check(dataset):
    """Return the input that orders a job after the check of a dataset, whose findings do not trigger reruns."""
    return {"checked": ancient(check_paths(dataset)[0])}


def reference_data(wildcards):
    """Return the labels of the images that a simulation is fitted to, and the images if they are simulated."""
    rows, like = PLAN.reference_rows(wildcards.dataset), PLAN.like_of(wildcards.dataset)
    rooms = ["raw"] if PLAN.is_simulated(like) else []
    rooms += ["labels"] if PLAN.labelled_shards(like) else []
    place, shards = {"dataset": like}, sorted({row.shard for row in rows})
    found = {room: folders(room, place, shards) for room in rooms}
    checked = passed_check(like) if "labels" in rooms else {}
    return {**found, **checked, "seals": seals(rooms, place, shards)}


def match_of_dataset(wildcards):
    """Return the fitted settings of a simulation; nothing if it is not fitted to a dataset."""
    is_like = PLAN.like_of(wildcards.dataset) is not None
    return {"match": dataset_path(wildcards.dataset, "match.json")} if is_like else {}


def raw_images_of_shard(wildcards):
    """Return the folder that the simulation writes; nothing for the lab's files, whose digests are settings.

    See workflow/decisions/0029-digests-of-raw-files.md.
    """
    is_simulated = PLAN.is_simulated(wildcards.dataset)
    return shard_inputs("raw")(wildcards) if is_simulated else {"seals": []}


def shard_with_raw(*rooms):
    """Return the input function of a job that reads one shard in some rooms, and its simulated images.

    Changes of the simulated images arrive through the rooms.
    """

    def inputs(wildcards):
        raw = raw_images_of_shard(wildcards).get("raw", [])
        return {**shard_inputs(*rooms)(wildcards), "raw": raw}

    return inputs


def measured_of(dataset, *names):
    """Return what the images of a dataset are preprocessed with: measured diameter and flat field, if there are any."""
    paths = {
        "diameter": PLAN.diameter_path(dataset),
        "flat_field": PLAN.flat_field_path(dataset),
    }
    wanted = names or paths
    return {name: paths[name] for name in wanted if paths[name] is not None}


def lit_images(wildcards):
    """Return the simulated images that an illumination profile is estimated from."""
    if not PLAN.is_simulated(wildcards.dataset):
        return {}
    shards = sorted({row.shard for row in PLAN.flat_field_rows(wildcards.dataset)})
    found = {"raw": folders("raw", wildcards, shards)}
    return {**found, "seals": seals(["raw"], wildcards, shards)}


def training_labels(wildcards):
    """Return the labels of the training images of a dataset."""
    shards = PLAN.measured_shards(wildcards.dataset)
    return {
        "labels": folders("labels", wildcards, shards),
        "seals": seals(["labels"], wildcards, shards),
    }


def frames_of_shard(wildcards):
    """Return the raw images of a shard, with what the dataset adds: frames around it, diameter, flat field."""
    found = {**raw_images_of_shard(wildcards), **measured_of(wildcards.dataset)}
    if PLAN.is_simulated(wildcards.dataset):
        around = PLAN.context(wildcards.dataset, wildcards.shard)
        shards = sorted({row.shard for row in around})
        found["seals"] += seals(["raw"], wildcards, shards)
        found["context"] = folders("raw", wildcards, shards)
    return found


def training_data(wildcards):
    """Return images and labels of the training and validation shards, temporal context, and initial weights."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    found = {"seals": [], **passed_check(wildcards.dataset)}
    used = []
    for role, shards in shards_to_learn_from(run).items():
        used += shards
        for room in ("images", "labels"):
            found[f"{role}_{room}"] = folders(room, wildcards, shards)
            found["seals"] += seals([room], wildcards, shards)
    around = PLAN.seen_shards(wildcards.dataset, run, used)
    found["around"] = folders("images", wildcards, around)
    found["seals"] += seals(["images"], wildcards, around)
    if run.init_from is not None:
        trained = dataset_path(run.init_from, WEIGHTS)
        is_file = run.init_from.endswith(MODEL_SUFFIX)
        found["init_from"] = path_to_read(run.init_from) if is_file else trained
    return found


def choosing_data(wildcards):
    """Return images and labels of the training and validation shards, on which the numbers of a run are chosen."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    parts = (*run.parts["train"], *run.parts["validation"])
    shards = PLAN.shards(wildcards.dataset, parts=parts)
    rooms = ("images", "labels")
    found = {room: folders(room, wildcards, shards) for room in rooms}
    seals_of_rooms = seals(rooms, wildcards, shards)
    return {**found, "seals": seals_of_rooms, **passed_check(wildcards.dataset)}


def frames_to_predict(wildcards):
    """Return the images of a shard, and those of other shards that serve as temporal context."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    found = shard_inputs("images")(wildcards)
    around = PLAN.seen_shards(wildcards.dataset, run, [wildcards.shard])
    found["seals"] += seals(["images"], wildcards, around)
    return {**found, "around": folders("images", wildcards, around)}


def fitting_data(wildcards):
    """Return images, labels and probabilities of the training and validation shards of a run."""
    run = PLAN.run(wildcards.dataset, wildcards.run)
    rooms = ("images", "labels", "probabilities")
    found = {"seals": [], **measured_of(wildcards.dataset, "diameter")}
    for role, shards in shards_to_learn_from(run).items():
        for room in rooms:
            found[f"{role}_{room}"] = folders(room, wildcards, shards)
        found["seals"] += seals(rooms, wildcards, shards)
    return found


def evaluations_of_dataset(wildcards):
    """List the evaluation of each run on each of its scored shards."""
    return [
        shard_path("evaluation", dataset=wildcards.dataset, run=run.name, shard=shard)
        for run in PLAN.runs[wildcards.dataset]
        for shard in PLAN.scored_shards(wildcards.dataset, run)
    ]


def report_data(wildcards):
    """Return the tables of a dataset and of its runs, and the folders from which the gallery picks images."""
    dataset = wildcards.dataset
    runs = PLAN.listed_runs(dataset)
    trained = [run for run in runs if run.is_trained]
    shown = PLAN.shown_shards(dataset)
    labelled = [shard for shard in shown if shard in PLAN.labelled_shards(dataset)]
    found = {
        **table_paths(dataset),
        "findings": check_paths(dataset),
        "history": [run_path(dataset, run.name, "history.csv") for run in trained],
        "summary": [run_path(dataset, run.name, "train.json") for run in trained],
        "choices": [run_path(dataset, run.name, "choices.json") for run in trained],
        "recipe": [
            file_of_source(run, RECIPE) for run in runs if PLAN.is_classical(run)
        ],
        "fit": [file_of_source(run, FIT) for run in runs if run.masks is None],
        "objects": [run_path(dataset, run.name, "objects.csv") for run in runs],
        "flags": [run_path(dataset, run.name, "flags.csv") for run in runs],
        "counts": [run_path(dataset, run.name, "counts.csv") for run in runs],
        "images": folders("images", wildcards, shown),
        "labels": folders("labels", wildcards, labelled),
        "temporal": folders("images", wildcards, PLAN.temporal_shards(dataset)),
        "seals": seals(["images"], wildcards, shown)
        + seals(["images"], wildcards, PLAN.temporal_shards(dataset))
        + seals(["labels"], wildcards, labelled),
    }
    if PLAN.like_of(dataset) is not None:
        found["match"] = dataset_path(dataset, "match.csv")
    found |= measured_of(dataset, "flat_field")
    if worklist_run(PLAN, dataset) is not None:
        found["worklist"] = dataset_path(dataset, WORKLIST)
    if PLAN.run_of_conditions(dataset) is not None:
        found["conditions"] = [dataset_path(dataset, name) for name in OF_EXPERIMENT]
    for run in runs:
        words = {**dict(wildcards), "run": run.name}
        rooms = ["segmentation"] if run.masks else ["probabilities", "segmentation"]
        found["seals"] += seals(rooms, words, shown)
    return found
