"""Splits: stable under growth, never empty, groups kept whole, blocks with gaps."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmill.config.dataset import Split
from cellmill.planning.splits import assign_splits


@dataclass(frozen=True)
class Item:
    sample: str
    sequence: str = ""
    frame: int = 0


def split(items, *, groups=None, strata=None, **options):
    section = Split(**options).model_dump(mode="json")
    return assign_splits(items, split=section, groups=groups or {}, strata=strata or {}, where="split")


def images(count):
    return [Item(f"image {number}") for number in range(count)]


@given(st.integers(30, 200))
@settings(deadline=None, max_examples=25)
def test_adding_an_image_moves_no_other(count):
    before, _ = split(images(count))
    after, _ = split(images(count + 1))
    assert {name: after[name] for name in before} == before


def test_the_order_of_the_images_does_not_matter():
    assert split(images(50))[0] == split(images(50)[::-1])[0]


@given(st.integers(0, 500))
@settings(deadline=None, max_examples=40)
def test_five_images_in_three_parts_give_three_parts(seed):
    sides, remarks = split(images(5), seed=seed)
    assert set(sides.values()) == {"train", "validation", "test"}
    assert all("would have been empty, so image" in text or "train contains 1 instead of 3" in text for text in remarks)


def test_a_part_that_chance_left_small_is_remarked():
    few = [split(images(18), seed=seed) for seed in range(60)]
    for sides, remarks in few:
        counts = {part: list(sides.values()).count(part) for part in ("validation", "test")}
        said = [f"{part} contains {count} instead of 4" for part, count in counts.items() if count == 1]
        assert all(any(text in remark for remark in remarks) for text in said)
        assert bool(said) == any("instead of 4" in remark for remark in remarks)
    assert not any("instead of" in remark for remark in split(images(400))[1])


def test_the_shares_come_out_as_asked():
    sides = list(split(images(4000), train=0.5, validation=0.2, test=0.3)[0].values())
    # Three standard deviations of a binomial share.
    for part, share in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
        assert abs(sides.count(part) / 4000 - share) < 3 * (share * (1 - share) / 4000) ** 0.5


def test_a_group_stays_together():
    groups = {f"image {number}": f"well {number % 7}" for number in range(70)}
    sides, _ = split(images(70), groups=groups)
    for well in set(groups.values()):
        assert len({sides[name] for name in sides if groups[name] == well}) == 1


def test_a_sequence_stays_together():
    items = [Item(f"{s}_{t}", sequence=f"{s}", frame=t) for s in range(9) for t in range(5)]
    sides, _ = split(items)
    for sequence in range(9):
        assert len({sides[f"{sequence}_{t}"] for t in range(5)}) == 1


@pytest.mark.parametrize("options", [{"by": "image"}, {"group_by": "side"}], ids=["image", "group"])
def test_frames_of_one_sequence_are_not_spread_over_parts(options):
    items = [Item(f"{s}_{t}", sequence=f"{s}", frame=t) for s in range(4) for t in range(20)]
    groups = {item.sample: f"g{item.frame % 10}" for item in items} if "group_by" in options else {}
    with pytest.raises(
        ValueError, match=r"expected all frames of a sequence in one part, found '0' in test and .*blocks"
    ):
        split(items, groups=groups, **options)


def test_a_table_that_cuts_a_sequence_is_flagged(tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("sample,split\n" + "".join(f"t{t},{('train', 'validation', 'test')[t // 4]}\n" for t in range(12)))
    _, remarks = split([Item(f"t{t}", sequence="01", frame=t) for t in range(12)], table=str(table))
    assert "1 sequence is in several parts: training and test frames come from the same sequence" in remarks[0]


def test_one_sequence_asks_for_blocks():
    items = [Item(f"t{t}", sequence="01", frame=t) for t in range(20)]
    with pytest.raises(ValueError, match=r"expected at least 3 groups .*, found 1.*by: blocks"):
        split(items)


def test_blocks_are_contiguous_with_a_gap_between_them():
    items = [Item(f"t{t}", sequence="01", frame=t) for t in range(30)]
    sides, remarks = split(items, by="blocks", gap=3)
    order = [sides[f"t{t}"] for t in range(30)]
    runs = [part for index, part in enumerate(order) if index == 0 or order[index - 1] != part]
    assert runs == ["train", "unlabelled", "validation", "unlabelled", "test"]
    assert order.count("unlabelled") == 6
    assert "same sequence" in remarks[0]


def test_blocks_of_too_few_frames_are_refused():
    items = [Item(f"t{t}", sequence="01", frame=t) for t in range(6)]
    with pytest.raises(ValueError, match="expected at least 11 frames to cut three blocks with gap 4, found 6"):
        split(items, by="blocks", gap=4)


def test_each_class_is_in_each_part():
    strata = {f"image {number}": "rare" if number < 4 else "common" for number in range(60)}
    sides, _ = split(images(60), strata=strata)
    for name in ("rare", "common"):
        assert {sides[image] for image in strata if strata[image] == name} == {"train", "validation", "test"}


def test_folds_share_the_images():
    sides, _ = split(images(100), folds=5)
    assert set(sides.values()) == {f"fold{number}" for number in range(5)}


def test_a_table_freezes_the_split(tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("sample,split\nimage 0,test\nimage 1,train\nimage 2,validation\n")
    assert split(images(3), table=str(table))[0] == {
        "image 0": "test", "image 1": "train", "image 2": "validation",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,split\nimage 0,test\nimage 1,train\n", "found no row for image 2"),
        ("sample,split\nimage 0,trian\nimage 1,train\nimage 2,test\n", r"found the unknown parts \['trian'\]"),
        ("sample,split\nimage 0,train\nimage 1,train\nimage 2,test\n", "found no sample for validation"),
        ("name,split\n", "expected the columns sample and split"),
        ("sample,split\nimage 0,train\nimage 0,test\nimage 1,validation\nimage 2,test\n", "two parts for image 0"),
    ],
)
def test_a_split_table_that_does_not_fit_is_refused(tmp_path, text, message):
    table = tmp_path / "split.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        split(images(3), table=str(table))


def test_the_table_that_a_run_wrote_can_be_frozen(tmp_path):
    table = tmp_path / "samples.csv"
    rows = ["image 0,test", "image 1,train", "image 2,validation", "image 3,unlabelled", "image 4,", "other,nowhere"]
    table.write_text("sample,split\n" + "\n".join(rows) + "\n")
    sides, _ = split(images(5), table=str(table))
    assert [sides[f"image {number}"] for number in (3, 4)] == ["unlabelled", "unlabelled"]


def test_a_split_by_sequence_needs_sequences():
    with pytest.raises(ValueError, match=r"split\.by: expected \{sequence\} or \{frame\}"):
        split(images(9), by="sequence")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"table": "x.csv", "folds": 3},
            r"expected table alone, .* found folds as well\. Remove folds, or remove table",
        ),
        (
            {"by": "blocks", "stratify": "class"},
            r"expected by: blocks alone, because it cuts each sequence, found stratify as well\. Remove stratify",
        ),
    ],
)
def test_choices_that_contradict_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Split(**options)
