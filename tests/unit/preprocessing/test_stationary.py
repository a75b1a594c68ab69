"""Stationary objects, present in most of a sequence: found in the temporal background that includes them."""

import numpy as np
import pytest
from scipy import ndimage

from cellmill.preprocessing.background import temporal_median
from cellmill.preprocessing.stationary import MIN_FRAMES, RESTING_TABLE, Seen, describe_resting, find_resting
from cellmill.stages.preprocess import preprocess_shard

FRAMES, SHAPE, NOISE = 40, (80, 100), 5.0


def still(seed=0, frames=FRAMES):
    """Return a static field with a slope, dirt and noise, in which nothing moves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    field_yx = 200 + 0.8 * x + 30 * np.exp(-((y - 60) ** 2 + (x - 20) ** 2) / 8)
    return field_yx + NOISE * rng.standard_normal((frames, *SHAPE))


def disc(row, column, radius=6):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - row, x - column) < radius


def find(stack_tyx):
    background_yx = temporal_median(stack_tyx.astype(np.float32))
    seen = Seen.empty(SHAPE)
    for rows in (slice(0, 33), slice(33, 80)):
        seen.add(rows, stack_tyx[:, rows].astype(np.float32), background_yx[rows])
    return find_resting(seen, background_yx)


def test_nothing_is_found_where_nothing_rests():
    assert find(still()) == []


@pytest.mark.parametrize("light", [-100, 60, 300])
@pytest.mark.parametrize("share", [0.55, 0.6, 0.75, 0.85])
def test_a_cell_that_stays_for_most_of_the_frames_is_found(light, share):
    stack = still()
    stack[: round(share * FRAMES), disc(40, 50)] += light
    [found] = find(stack)
    assert (found.row, found.column) == pytest.approx((40, 50), abs=0.5)
    assert found.area_px == pytest.approx(np.count_nonzero(disc(40, 50)), rel=0.1)
    assert found.share == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.35, 0.45])
def test_a_cell_that_stays_for_less_than_half_is_no_background(share):
    stack = still()
    stack[: round(share * FRAMES), disc(40, 50)] += 100
    assert find(stack) == []


def test_cells_that_move_are_no_background():
    stack = still()
    for frame in range(FRAMES):
        for row, speed in ((15, 2.2), (35, 1.5), (65, 2.8)):
            stack[frame, disc(row, 5 + speed * frame, radius=7)] += 80
    assert find(stack) == []


def test_a_cell_that_rests_and_then_leaves_is_found_among_others_that_move():
    stack = still()
    for frame in range(FRAMES):
        stack[frame, disc(15, 5 + 2.2 * frame)] += 80
        column = 70 if frame < 24 else 70 - 3 * (frame - 23)
        stack[frame, disc(55, column)] += 90
    [found] = find(stack)
    assert (found.row, found.column) == pytest.approx((55, 70), abs=1)
    assert found.share == pytest.approx(0.6, abs=0.05)


def test_a_lamp_that_changes_is_no_cell():
    stack = still()
    stack[: FRAMES // 3] += 60
    assert find(stack) == []


def test_dirt_that_is_always_there_is_background():
    stack = still()
    stack[:, disc(30, 30)] -= 120
    assert find(stack) == []


def rows_of(tmp_path, stack):
    from tifffile import imwrite

    rows = []
    for frame, image_yx in enumerate(stack):
        path = tmp_path / f"t{frame:03d}.tif"
        imwrite(path, image_yx.round().astype(np.uint16))
        rows.append({"sample": path.stem, "image": str(path), "sequence": "s1", "frame": frame})
    return rows


def preprocess(folder, rows, method="temporal_median"):
    preprocess_shard(
        output_dir=folder, samples=rows, context=[], channel="luminance", fit={"mode": "none", "size": None},
        hot_pixels="replace", background={"method": method, "radius_px": 20.0, "sigma_px": 20.0, "max_frames": 200},
    )  # fmt: skip
    return folder


def test_the_stage_writes_what_rests_and_the_report_says_it(tmp_path):
    stack = still()
    stack[: round(0.6 * FRAMES), disc(40, 50)] += 100
    folder = preprocess(tmp_path / "images", rows_of(tmp_path, stack))
    lines = (folder / RESTING_TABLE).read_text().splitlines()
    assert lines[0] == "sequence,row,column,area_px,share"
    assert len(lines) == 2
    [finding] = describe_resting({"train-0000": folder})
    assert (finding["severity"], finding["where"]) == ("warning", "sequence s1, train-0000")
    assert finding["finding"].startswith("the temporal background contains 1 object that stayed in most of the frames")
    assert finding["finding"].endswith("at row 40, column 50) is present in 60% of them")


def test_few_frames_and_backgrounds_of_single_frames_say_nothing(tmp_path):
    stack = still(frames=MIN_FRAMES - 1)
    stack[:4, disc(40, 50)] += 100
    rows = rows_of(tmp_path, stack)
    folder = preprocess(tmp_path / "few", rows)
    assert (folder / RESTING_TABLE).read_text().count("\n") == 1
    assert describe_resting({"train-0000": folder}) == []
    assert not (preprocess(tmp_path / "single", rows, method="gaussian") / RESTING_TABLE).exists()


def test_the_ghost_that_is_warned_of_is_there(tmp_path):
    """As the finding reports, the cell disappears while it rests and leaves a ghost after it has gone."""
    stack = still()
    stack[:24, disc(40, 50)] += 100
    clean = stack - temporal_median(stack)
    core = ndimage.binary_erosion(disc(40, 50), iterations=2)
    assert abs(np.median(clean[:24, core])) < 5
    assert np.median(clean[24:, core]) == pytest.approx(-100, abs=8)
