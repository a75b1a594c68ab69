"""Stage match: a simulation that imitates other images, in measured statistics and in the settings behind them."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from cellmill.config.errors import ConfigError
from cellmill.config.simulate import Simulate, image_settings, setting_limits
from cellmill.images.files import read_plane
from cellmill.images.stored import IGNORE_LABEL, write_labels
from cellmill.matching.calibration import calibrate
from cellmill.matching.reference_images import Middle, as_counts, find_objects, read_middles
from cellmill.matching.sections import FOCUS_RANGE, Frame, write_section
from cellmill.matching.statistic_names import STATISTICS
from cellmill.matching.traits import DAMPING, Reference, correct_traits, gather, guess_traits
from cellmill.planning.make import make_plan
from cellmill.planning.plan import MOST_REFERENCES
from cellmill.planning.settings import job_settings
from cellmill.reports.likeness import describe_likeness
from cellmill.simulation.imaging import simulate_image
from cellmill.simulation.references import choose_sections
from cellmill.stages.match import choose_size, match_dataset
from cellmill.stages.report import write_report
from cellmill.stages.simulate import simulate_shard
from report_example import build_example

ROOT = Path(__file__).resolve().parents[3]
PRIMARY = [name for name, statistic in STATISTICS.items() if statistic.is_primary]

SMALL_DIM_CELLS = {
    "size": (160, 160), "cells": (35, 45),
    "cell": {"radius_px": 5, "brightness": (0.05, 0.1), "elongation": (1.6, 2.2), "texture": {"bias": 0.8}},
    "clusters": {"count": 5, "probability": 0.8, "spread": 0.08}, "focus": {"sigma_px": (1.2, 2)},
    "illumination": {"energy_ratio": 0.5}, "autofluorescence": {"energy_ratio": 0},
    "background_noise": {"fraction": 0}, "camera": {"noise": 0.01, "offset_counts": 300},
}  # fmt: skip
LARGE_DARK_CELLS = {
    "size": (224, 224), "cells": (10, 12),
    "cell": {"radius_px": (14, 20), "brightness": (-0.35, -0.2), "elongation": (1.4, 1.8), "texture": {"bias": 0.7}},
    "clusters": {"count": 2, "probability": 0.95, "spread": 0.18}, "background": {"level": 0.6},
    "focus": {"sigma_px": (0.5, 1)}, "illumination": {"energy_ratio": 0.2}, "autofluorescence": {"energy_ratio": 0},
    "background_noise": {"fraction": 0}, "camera": {"noise": 0.005, "offset_counts": 0, "full_scale_counts": 255},
}  # fmt: skip


def write_sample(folder: Path, name: str, image_yx: np.ndarray, labels_yx: np.ndarray) -> dict:
    tifffile.imwrite(folder / f"{name}.tif", image_yx)
    write_labels(folder / f"{name}_labels.tif", labels_yx)
    return {"sample": name, "image": str(folder / f"{name}.tif"), "labels": str(folder / f"{name}_labels.tif")}


def simulate_samples(folder: Path, section: dict, *, images: int) -> list[dict]:
    """Simulate images that stand for the real ones."""
    settings = image_settings(Simulate.model_validate(section))
    samples = []
    for number in range(images):
        image = simulate_image(f"real{number}", seed=99, simulate=settings)
        samples.append(write_sample(folder, f"real{number}", image.counts, image.labels_yx))
    return samples


def match(folder: Path, samples: list[dict], *, section: dict | None = None, **changes) -> tuple[dict, pd.DataFrame]:
    simulate = Simulate.model_validate(section or {})
    arguments = {
        "like": "cells", "samples": samples, "objects": "labels", "channel": "luminance",
        "simulate": image_settings(simulate), "simulated_channel": "luminance", "size": None,
        "limits": setting_limits(), "seed": 1, **changes,
    }  # fmt: skip
    match_dataset(references_path=folder / "match.json", table_path=folder / "match.csv", **arguments)
    found = json.loads((folder / "match.json").read_text())
    return found, pd.read_csv(folder / "match.csv").set_index("statistic")


def make_reference(**changes) -> Reference:
    """Return a reference with plausible statistics."""
    statistics = dict.fromkeys(STATISTICS, 0.5) | {
        "foreground_fraction": 0.1, "objects_per_mpx": 300.0, "radius_px": 10.0, "solidity": 0.98, "clustering": 1.1,
        "background_level": 200.0, "background_unevenness": 0.02, "contrast": 400.0, "texture": 0.1, "noise": 5.0,
        "edge_width_px": 1.5, "autocorrelation_px": 9.0,
    }  # fmt: skip
    return Reference("one", (128, 128), {**statistics, **changes}, 150.0)


def make_frame(**section) -> Frame:
    simulate = Simulate.model_validate(section)
    return Frame(image_settings(simulate), 4095.0, setting_limits())


def sections_of(reference: Reference, frame: Frame, size=(128, 128)) -> dict:
    traits = guess_traits([reference], section=frame.section)
    traits = {name: float(values[0]) for name, values in traits.items()}
    return write_section(traits, reference=reference, frame=frame, size=size)


# ---- settings behind the images --------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [SMALL_DIM_CELLS, LARGE_DARK_CELLS], ids=["small and dim", "large and dark"])
def test_settings_are_recovered_from_images_alone(tmp_path, truth):
    found, table = match(tmp_path, simulate_samples(tmp_path, truth, images=8))
    for name in PRIMARY:
        is_nearer = table.distance_after[name] < table.distance_before[name]
        # Eight images of ten cells each carry little information about clustering, which may lie within chance.
        assert is_nearer or (name == "clustering" and table.distance_after[name] < table.interval_high[name]), name
    assert found["distance_after"] < 0.5 * found["distance_before"]
    made = Simulate.model_validate(truth)
    sections = [Simulate.model_validate(reference["simulate"]) for reference in found["references"]]
    scale = made.camera.full_scale_counts

    def mean(value_of):
        return np.mean([value_of(section) for section in sections])

    assert mean(lambda one: sum(one.cell.radius_px) / 2) == pytest.approx(sum(made.cell.radius_px) / 2, rel=0.1)
    assert mean(lambda one: one.camera.noise * one.camera.full_scale_counts) == pytest.approx(
        made.camera.noise * scale, rel=0.05
    )
    ground = mean(lambda one: one.camera.offset_counts + one.background.level[0] * one.camera.full_scale_counts)
    assert ground == pytest.approx(made.camera.offset_counts + made.background.level[0] * scale, rel=0.05)
    assert table.after["background_level"] == pytest.approx(table.real["background_level"], rel=0.03)
    length = mean(lambda one: sum(one.cell.elongation) / 2)
    assert length == pytest.approx(sum(made.cell.elongation) / 2, rel=0.15)
    brightness = mean(lambda one: sum(one.cell.brightness) / 2 * one.camera.full_scale_counts)
    assert brightness == pytest.approx(sum(made.cell.brightness) / 2 * scale, rel=0.25)


def test_the_variety_between_images_is_matched_too(tmp_path):
    """Half of the images have small cells, half large ones; each reference keeps its own size."""
    sizes = [(4, 5), (14, 16)] * 4
    samples = []
    for number, radius_px in enumerate(sizes):
        settings = image_settings(Simulate.model_validate({"size": (128, 128), "cell": {"radius_px": radius_px}}))
        image = simulate_image(f"real{number}", seed=3, simulate=settings)
        samples.append(write_sample(tmp_path, f"real{number}", image.counts, image.labels_yx))
    found, _ = match(tmp_path, samples)
    for radius_px, reference in zip(sizes, found["references"], strict=True):
        assert np.mean(reference["simulate"]["cell"]["radius_px"]) == pytest.approx(np.mean(radius_px), rel=0.25)


def test_images_that_nobody_annotated_are_matched_by_otsus_objects(tmp_path):
    samples = simulate_samples(tmp_path, SMALL_DIM_CELLS | {"camera": {"noise": 0.005}}, images=6)
    for sample in samples:
        Path(sample.pop("labels")).unlink()
    found, table = match(tmp_path, samples, objects="otsu")
    assert found["distance_after"] < 0.5 * found["distance_before"]
    assert table.after["radius_px"] == pytest.approx(table.real["radius_px"], rel=0.15)


def test_images_without_an_object_stay_without(tmp_path, monkeypatch):
    monkeypatch.setattr("cellmill.stages.match.ROUNDS", 2)
    samples = simulate_samples(tmp_path, SMALL_DIM_CELLS, images=3)
    empty_yx = np.random.default_rng(0).normal(300, 40, size=(160, 160)).astype(np.uint16)
    samples.append(write_sample(tmp_path, "empty", empty_yx, np.zeros((160, 160), dtype=np.uint16)))
    found, table = match(tmp_path, samples)
    assert [reference["simulate"]["cells"][1] > 0 for reference in found["references"]] == [True, True, True, False]
    assert table.n_real["radius_px"] == 3
    assert table.n_undefined["radius_px"] >= 1
    assert table.n_real["noise"] == 4


def test_without_any_object_there_is_nothing_to_be_like(tmp_path):
    empty_yx = np.random.default_rng(0).normal(300, 40, size=(64, 64)).astype(np.uint16)
    samples = [write_sample(tmp_path, "empty", empty_yx, np.zeros((64, 64), dtype=np.uint16))]
    with pytest.raises(ValueError, match=r"simulate\.like: expected objects in the images of cells, found none in 1 "):
        match(tmp_path, samples)


def test_the_same_images_and_seed_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("cellmill.stages.match.ROUNDS", 2)
    samples = simulate_samples(tmp_path, SMALL_DIM_CELLS | {"size": (96, 96), "cells": 12}, images=3)
    contents = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        match(tmp_path / name, samples, seed=seed)
        contents.append([(tmp_path / name / file).read_bytes() for file in ("match.json", "match.csv")])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_nuclei_of_real_images_are_matched(tmp_path, real_data):
    folders = sorted((real_data / "dsb2018/stage1_train").iterdir())
    samples: list[dict] = []
    for folder in folders:
        image_yx = read_plane(next((folder / "images").glob("*.png")), channel="luminance")
        if len(samples) == 8 or image_yx.shape != (256, 256) or np.median(image_yx) > 60:
            continue
        labels_yx = np.zeros(image_yx.shape, dtype=np.uint16)
        for number, mask in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
            labels_yx[read_plane(mask, channel="luminance") > 0] = number
        samples.append(write_sample(tmp_path, folder.name[:8], image_yx, labels_yx))
    found, table = match(tmp_path, samples)
    assert len(samples) == 8
    assert found["distance_after"] < 0.4 * found["distance_before"]
    near = table.loc[PRIMARY].query("distance_after <= interval_high")
    assert len(near) >= len(PRIMARY) - 2
    assert all(reference["simulate"]["camera"]["full_scale_counts"] <= 255 for reference in found["references"])


# ---- from statistics to settings -----------------------------------------------------------------------------------


def test_a_section_is_one_that_the_config_allows():
    for changes in (
        {},
        {"contrast": -150.0},
        {"radius_px": 900.0, "objects_per_mpx": 1e6},
        {"radius_px": 0.5, "edge_width_px": 0.0, "noise": 1e6},
        {"contrast": 1e6, "contrast_spread": 50.0, "radius_spread": 50.0, "background_unevenness": 1e4},
        {"solidity": 0.1, "texture": 90.0, "clustering": 0.0, "background_level": -20.0},
        {"edge_width_px": 500.0, "background_level": 1e9},
        {"objects_per_mpx": 0.0},
        dict.fromkeys(set(STATISTICS) - {"objects_per_mpx"}, math.nan),
    ):
        for frame in (make_frame(), make_frame(nucleus={"include": True}, overlap={"of": "nucleus", "limit": 0.0})):
            section = sections_of(make_reference(**changes), frame)
            validated = Simulate.model_validate(section)
            assert image_settings(validated) == image_settings(Simulate.model_validate(json.loads(json.dumps(section))))


def test_the_number_of_cells_follows_from_the_size():
    one, four = (sections_of(make_reference(), make_frame(), size=(side, side)) for side in (200, 400))
    assert one["cells"] == [12, 12]
    assert four["cells"] == [48, 48]


def test_dark_objects_take_light_away_from_a_bright_ground():
    section = sections_of(make_reference(contrast=-300.0, background_level=2000.0), make_frame())
    assert section["cell"]["brightness"][1] < 0
    assert section["background"]["level"][0] == pytest.approx(2000 / 4095, rel=0.05)
    assert section["camera"]["offset_counts"] == 0


def test_what_is_not_measured_stays_in_proportion():
    frame = make_frame(
        cell={"radius_px": 20, "brightness": 0.5, "rim": {"brightness": 0.1, "width_px": 4}},
        nucleus={"include": True, "radius_px": 8, "brightness": 0.2},
        camera={"photons": 900},
    )
    section = sections_of(make_reference(radius_spread=0.0, contrast_spread=0.0), frame)
    size = section["cell"]["radius_px"][0] / 20
    light = section["cell"]["brightness"][0] / 0.5
    assert section["cell"]["rim"]["width_px"] == pytest.approx(4 * size, rel=1e-5)
    assert section["nucleus"]["radius_px"] == pytest.approx([8 * size] * 2, rel=1e-5)
    assert section["nucleus"]["brightness"] == pytest.approx([0.2 * light] * 2, rel=1e-5)
    assert section["cell"]["rim"]["brightness"] == pytest.approx([0.1 * light] * 2, rel=1e-5)
    assert section["camera"]["photons"] == 900


def test_a_trait_moves_towards_its_statistic():
    references = [make_reference(), make_reference(noise=10.0)]
    traits = guess_traits(references, section=make_frame().section)
    real = gather([one.statistics for one in references])
    assert correct_traits(traits, real=real, simulated=real)["noise"] == pytest.approx(traits["noise"])
    twice = {**real, "noise": 2 * real["noise"], "clustering": real["clustering"] + 0.1}
    moved = correct_traits(traits, real=real, simulated=twice)
    assert moved["noise"] == pytest.approx(traits["noise"] * 0.5**DAMPING, rel=0.02)
    assert np.all(moved["clustered"] > traits["clustered"])
    undefined = {**real, "noise": np.array([np.nan, 20.0])}
    moved = correct_traits(traits, real=real, simulated=undefined)  # a single draw stands for both references
    assert moved["noise"] == pytest.approx(traits["noise"] * 0.5**DAMPING, rel=0.02)


def test_the_calibration_reaches_a_simulation_that_answers_otherwise_than_guessed():
    """The simulation returns half of the requested blur and noise."""
    references = [make_reference(noise=noise) for noise in (4.0, 6.0)]
    frame = make_frame()

    def draw(_, section):
        counts = section["camera"]["noise"] * section["camera"]["full_scale_counts"]
        blur = section["focus"]["sigma_px"][0] / FOCUS_RANGE[0]
        return {**references[0].statistics, "noise": 0.5 * counts, "edge_width_px": 0.5 * blur}

    history = calibrate(references, frame=frame, draw=draw, rounds=6)
    assert history[-1].traits["sigma_px"] == pytest.approx([3.0, 3.0], rel=0.02)
    assert history[-1].traits["noise"] == pytest.approx([8.0, 12.0], rel=0.1)
    assert history[-1].distances["noise"] < 0.05 < 1 < history[0].distances["noise"]


# ---- reading -------------------------------------------------------------------------------------------------------


def test_the_middle_of_a_large_image_is_measured(tmp_path):
    image_yx = np.arange(600 * 700, dtype=np.uint32).reshape(600, 700) % 60000
    sample = write_sample(tmp_path, "large", image_yx.astype(np.uint16), np.zeros((600, 700), dtype=np.uint16))
    [middle] = read_middles([sample], channel="luminance")
    assert middle.image_yx.shape == (512, 512)
    assert middle.shape == (600, 700)
    assert np.array_equal(middle.image_yx, image_yx[44:556, 94:606])


@pytest.mark.parametrize(
    ("low", "high", "dtype", "top"),
    [(0, 200, np.uint8, 255), (100, 900, np.uint16, 1023), (100, 4095, np.uint16, 4095), (0, 5000, np.uint16, 16383),
     (32000, 40000, np.uint16, 65535), (0.0, 254.3, np.float32, 255)],
)  # fmt: skip
def test_counts_stay_and_have_the_top_of_their_camera(low, high, dtype, top):
    image_yx = np.linspace(low, high, 64).reshape(8, 8).astype(dtype)
    [middle], found = as_counts([Middle(image_yx, (8, 8), np.s_[:, :])])
    assert found == top
    assert middle.image_yx is image_yx


@pytest.mark.parametrize(("low", "high", "dtype"), [(0, 1, float), (-5, 3000, np.int16), (0, 1e6, np.uint32)])
def test_other_numbers_become_counts(low, high, dtype):
    image_yx = np.linspace(low, high, 64).reshape(8, 8).astype(dtype)
    [middle], top = as_counts([Middle(image_yx, (8, 8), np.s_[:, :])])
    assert top == 4095
    assert (middle.image_yx.min(), middle.image_yx.max()) == (0, pytest.approx(4095))
    assert np.corrcoef(middle.image_yx.ravel(), image_yx.ravel())[0, 1] == pytest.approx(1)


def test_the_commonest_size_is_simulated_but_no_giant():
    assert choose_size([(256, 256), (520, 696), (256, 256)]) == (256, 256)
    assert choose_size([(520, 696), (256, 256)]) == (256, 256)
    assert choose_size([(30_000, 300)]) == (1024, 300)


def test_touching_objects_of_a_binary_annotation_are_one_on_both_sides():
    labels_yx = np.zeros((20, 20), dtype=np.int32)
    labels_yx[5:10, 5:8], labels_yx[5:10, 8:12], labels_yx[15, 15] = 1, 2, IGNORE_LABEL
    found_yx = find_objects(np.zeros((20, 20)), labels_yx, objects="components")
    assert found_yx.max() == IGNORE_LABEL
    assert np.array_equal(found_yx == 1, (labels_yx == 1) | (labels_yx == 2))
    assert find_objects(np.zeros((20, 20)), labels_yx, objects="labels") is labels_yx


# ---- references of the images --------------------------------------------------------------------------------------


def write_match(folder: Path, **section) -> Path:
    sections = [
        image_settings(Simulate.model_validate({"size": (48, 48), "cells": cells, "cell": {"radius_px": 3}, **section}))
        for cells in (2, 9)
    ]
    path = folder / "match.json"
    path.write_text(json.dumps({"references": [{"simulate": one} for one in sections]}))
    return path


def test_an_image_takes_the_settings_of_the_reference_that_its_name_draws(tmp_path):
    path = write_match(tmp_path)
    default = image_settings(Simulate())
    names = [f"sim_{number:04d}" for number in range(12)]
    for shard, some in (("a", names), ("b", names[4:7])):
        simulate_shard(
            output_dir=tmp_path / shard, samples=[{"sample": name} for name in some], seed=1, simulate=default,
            match_path=path,
        )  # fmt: skip
    counts = pd.read_csv(tmp_path / "a/images.csv").set_index("sample").cells
    assert set(counts) == {2, 9}
    for name in names[4:7]:
        assert (tmp_path / f"a/images/{name}.tif").read_bytes() == (tmp_path / f"b/images/{name}.tif").read_bytes()
    assert tifffile.imread(tmp_path / "a/images/sim_0000.tif").shape == (48, 48)


def test_a_sequence_takes_one_reference_for_all_its_frames(tmp_path):
    time_lapse = {"frames": 3, "cycle_frames": 0, "speed_px": 0}
    section_of = choose_sections(write_match(tmp_path, time_lapse=time_lapse), seed=1, simulate={})
    sequences = [f"seq_{number}" for number in range(8)]
    assert {section_of(name)["cells"][0] for name in sequences} == {2, 9}
    assert all(section_of(name) is section_of(name) for name in sequences)


def test_without_a_match_every_image_has_the_settings_of_the_config():
    simulate = image_settings(Simulate())
    assert choose_sections(None, seed=1, simulate=simulate)("sim_0000") is simulate


# ---- the plan ------------------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(4)
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True)
    for number in range(count):
        labels_yx = (ndimage.gaussian_filter(rng.standard_normal((32, 32)), 3) > 0.05).astype(np.uint8)
        tifffile.imwrite(folder / f"images/c{number:03d}.tif", rng.integers(0, 99, size=(32, 32), dtype=np.uint8))
        tifffile.imwrite(folder / f"labels/c{number:03d}.tif", labels_yx)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    write_images(folder, 130)
    return folder


def plan_of(folder: Path, like: str = "cells", **changes):
    """Return the plan of a simulation that imitates cells; cells starts from a model trained on that simulation."""
    annotations = {"format": "label_image", "path": f"{folder}/labels/{{sample}}.tif"}
    datasets = {
        "alike": {"simulate": {"like": like, "images": 9}, "models": ["sartorius_unet"]},
        "cells": {"images": f"{folder}/images/{{sample}}.tif", "annotations": annotations,
                  "models": [{"preset": "sartorius_unet", "name": "tuned", "init_from": "alike/sartorius_unet"}]},
    }  # fmt: skip
    for name, section in changes.items():
        datasets[name] = {**datasets.get(name, {}), **section}
    datasets = {
        name: {key: value for key, value in section.items() if value is not None} for name, section in datasets.items()
    }
    return make_plan({"datasets": datasets}, presets_dir=ROOT / "resources/models", cache_dir=folder / "cache")


def test_only_training_images_are_measured(cells):
    plan = plan_of(cells)
    settings = job_settings(plan, "match", dataset="alike")
    split = {row.sample: row.split for row in plan.samples["cells"]}
    names = [sample["sample"] for sample in settings["samples"]]
    assert {split[name] for name in names} == {"train"}
    assert len(names) == len(set(names)) == MOST_REFERENCES
    assert set(split.values()) == {"train", "validation", "test"}
    assert settings["objects"] == "labels"
    for sample in settings["samples"]:
        assert "/labels/train-" in sample["labels"]
        assert sample["image"] == f"{cells}/images/{sample['sample']}.tif"


def test_one_more_image_changes_one_reference_at_most(cells, tmp_path):
    before = [row.sample for row in plan_of(cells).reference_rows("alike")]
    grown = tmp_path / "grown"
    write_images(grown, 131)
    after = [row.sample for row in plan_of(grown).reference_rows("alike")]
    assert len(set(before) - set(after)) <= 1


def test_with_folds_all_images_are_measured_and_the_plan_says_so(cells):
    plan = plan_of(cells, cells={"split": {"folds": 3}})
    assert {row.split for row in plan.reference_rows("alike")} == {"fold0", "fold1", "fold2"}
    [remark] = [remark for remark in plan.remarks if ".simulate.like" in remark]
    assert remark.startswith("datasets.alike.simulate.like: cells has folds, so the images of all folds are measured")


def test_without_annotations_all_images_are_measured_by_otsus_objects(cells):
    models = {
        "alike": {"models": ["sartorius_unet"]},
        "cells": {"annotations": None, "models": [{"apply": "alike/sartorius_unet"}]},
    }
    settings = job_settings(plan_of(cells, **models), "match", dataset="alike")
    assert settings["objects"] == "otsu"
    assert not any("labels" in sample for sample in settings["samples"])


def test_a_binary_annotation_makes_touching_objects_one(cells):
    annotations = {"format": "binary", "path": f"{cells}/labels/{{sample}}.tif"}
    settings = job_settings(plan_of(cells, cells={"annotations": annotations}), "match", dataset="alike")
    assert settings["objects"] == "components"


def test_a_size_counts_where_it_is_written(cells):
    assert job_settings(plan_of(cells), "match", dataset="alike")["size"] is None
    plan = plan_of(cells, alike={"simulate": {"like": "cells", "size": [96, 128]}})
    assert job_settings(plan, "match", dataset="alike")["size"] == [96, 128]


SIMULATED = {"simulate": {"images": 9}, "models": ["default"]}


@pytest.mark.parametrize(
    ("like", "changes", "message"),
    [
        ("cels", {}, r"datasets\.alike\.simulate\.like: expected a dataset of this config, found 'cels'\. "
                     r"Did you mean cells\? Known: cells\."),
        ("alike", {}, r"datasets\.alike\.simulate\.like: expected another dataset, found alike itself\. "
                      r"Set like to the dataset of the images to imitate\."),
        ("second", {"second": {"simulate": {"like": "cells"}, "models": ["default"]}},
         r"datasets\.alike\.simulate\.like: expected microscope images, or a simulation without like, found "
         r"second, which is itself fitted to cells\. Set like to cells\."),
        ("second", {"second": {"simulate": {"like": "alike"}, "models": ["default"]}},
         r"which is itself fitted to alike\. Remove like from one of the two\."),
        ("few", {"few": {"simulate": {"images": 2}, "models": [{"apply": "cells/tuned"}]},
                 "cells": {"models": [{"preset": "default", "name": "tuned"}]}},
         r"datasets\.alike\.simulate\.like: expected training images in few, found only test\. Set "
         r"datasets\.few\.split\.train above 0, or set like to another dataset\."),
    ],
    ids=["unknown", "itself", "like of like", "in a circle", "no training"],
)  # fmt: skip
def test_what_a_simulation_cannot_be_like(cells, like, changes, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(cells, like=like, **changes)


def test_a_simulation_may_be_like_another_one(cells):
    settings = job_settings(plan_of(cells, like="plain", plain=SIMULATED), "match", dataset="alike")
    assert all(sample["image"].startswith("results/plain/raw/train-") for sample in settings["samples"])


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_report_of_a_simulation_shows_its_match(tmp_path, monkeypatch):
    monkeypatch.setattr("cellmill.stages.match.ROUNDS", 1)
    monkeypatch.setattr("cellmill.stages.match.FEWEST_DRAWS", 2)
    match(tmp_path, simulate_samples(tmp_path, SMALL_DIM_CELLS | {"size": (64, 64), "cells": 6}, images=2))
    arguments = build_example(tmp_path / "example")
    pages = []
    for match_path in (None, tmp_path / "match.csv"):
        write_report(output_path=tmp_path / "report.html", match_path=match_path, **arguments)
        pages.append((tmp_path / "report.html").read_text())
    assert "How similar are the simulated images to the real ones?" not in pages[0]
    assert "<h3>How similar are the simulated images to the real ones?</h3>" in pages[1]
    assert "Real and simulated images by statistic" in pages[1]
    assert "Wasserstein distance to the real images" in pages[1]


def test_the_page_says_how_like_the_images_are():
    row = {
        "unit": "", "is_primary": 1, "real": 4.0, "real_low": 3.0, "real_high": 5.0, "before": 9.0, "before_low": 8.0,
        "before_high": 10.0, "after": 4.1, "after_low": 3.0, "after_high": 5.0, "distance_before": 1.5,
        "distance_after": 0.25, "interval_low": 0.1, "interval_high": 0.5, "n_real": 20, "n_simulated": 18,
        "n_undefined": 2,
    }  # fmt: skip
    numbers = [key for key in row if key not in ("unit", "is_primary", "n_undefined")]
    rows = [
        {"statistic": "noise", **row},
        {"statistic": "texture", **row, "distance_after": 0.75},
        {"statistic": "touching_fraction", **row, "is_primary": 0, "distance_after": 1.9},
        {"statistic": "solidity", **row, **dict.fromkeys(numbers), "n_undefined": 40},
    ]
    page = describe_likeness(rows)
    assert page["sentence"].startswith("Mean distance to the real images over 3 statistics: 1.500 with the settings")
    assert "0.500 after matching. After matching, 1 of 2 distances are no larger" in page["sentence"]
    assert page["figure"].svg.count("<title>") == 3  # undefined values are not drawn
    assert "Noise: 1.500 before, 0.250 after" in page["figure"].svg
    cells_of_noise = page["table"].rows[0]
    assert [cell.text for cell in cells_of_noise[:6]] == ["Noise, counts", "4", "9", "4.1", "1.500", "0.250"]
    assert cells_of_noise[-1].note == "2 undefined"
    assert "no setting is matched to it" in page["table"].rows[2][0].note
    assert page["table"].rows[3][1].text == "–"


def test_a_hot_pixel_is_not_the_largest_count_of_the_camera(tmp_path):
    clean_yx = np.random.default_rng(0).integers(100, 900, (64, 64)).astype(np.uint16)
    hot_yx = clean_yx.copy()
    hot_yx[10, 10] = 65535
    tops = []
    for name, image_yx in (("clean", clean_yx), ("hot", hot_yx)):
        tifffile.imwrite(tmp_path / f"{name}.tif", image_yx)
        row = {"sample": name, "image": str(tmp_path / f"{name}.tif")}
        tops.append(as_counts(read_middles([row], channel="luminance"))[1])
    assert tops[0] == tops[1] < 65535
