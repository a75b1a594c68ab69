"""Splits: stable under growth, never empty, groups kept whole, blocks with gaps."""

import hashlib
import unicodedata
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


@given(
    st.integers(3, 200), st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3)])
)
@settings(deadline=None, max_examples=60)
def test_each_part_of_a_small_set_is_within_one_image_of_its_share(count, shares):
    parts = ("train", "validation", "test")
    sides, remarks = split(images(count), **dict(zip(parts, shares, strict=True)))
    found = list(sides.values())
    assert all(abs(found.count(part) - share * count) <= 1 for part, share in zip(parts, shares, strict=True))
    assert remarks == []


def test_the_named_sets_come_out_as_a_person_would_count():
    def counts(names):
        found = list(split([Item(name) for name in names])[0].values())
        return tuple(found.count(part) for part in ("train", "validation", "test"))

    assert counts([f"img{number}" for number in range(10)]) == (6, 2, 2)
    assert counts([f"cell_{number}" for number in range(12)]) in {(7, 3, 2), (7, 2, 3)}
    assert counts([f"cell_{number}" for number in range(20)]) == (12, 4, 4)


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.5, 0.2, 0.3), (0.9, 0.05, 0.05)], ids=str)
def test_an_additional_image_makes_no_part_of_a_small_set_smaller(shares):
    parts = ("train", "validation", "test")
    before = [0, 0, 0]
    for count in range(3, 60):
        found = list(split(images(count), **dict(zip(parts, shares, strict=True)))[0].values())
        sizes = [found.count(part) for part in parts]
        assert all(size >= earlier for size, earlier in zip(sizes, before, strict=True))
        before = sizes


@pytest.mark.parametrize("count", [5, 13, 50, 103, 199])
def test_folds_of_a_small_set_differ_by_one_image_at_most(count):
    found = list(split(images(count), folds=5)[0].values())
    sizes = [found.count(f"fold{number}") for number in range(5)]
    assert max(sizes) - min(sizes) <= 1


def test_small_classes_share_the_parts_and_the_whole_keeps_its_shares():
    strata = {f"image {number}": f"class {number % 6}" for number in range(36)}
    sides = split(images(36), strata=strata)[0]
    for name in set(strata.values()):
        assert {sides[image] for image in strata if strata[image] == name} == {"train", "validation", "test"}
    found = list(sides.values())
    assert all(
        abs(found.count(part) - 36 * share) <= 1 for part, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2))
    )


def test_wells_are_counted_not_their_images():
    groups = {f"image {number}": f"well {number % 10}" for number in range(73)}
    sides = split(images(73), groups=groups)[0]
    wells = {(groups[name], part) for name, part in sides.items()}
    found = [part for _, part in wells]
    assert [found.count(part) for part in ("train", "validation", "test")] == [6, 2, 2]


def moved(count, *, names="image {}", **options):
    """Return how many images change their part when one is added."""
    items = [Item(names.format(number)) for number in range(count + 1)]
    before, after = split(items[:-1], **options)[0], split(items, **options)[0]
    return sum(after[name] != part for name, part in before.items())


@given(st.integers(5, 200))
@settings(deadline=None, max_examples=40)
def test_adding_an_image_to_a_small_set_moves_at_most_one_image_at_each_cut(count):
    assert moved(count) <= 2
    assert moved(count, folds=4) <= 3


@pytest.mark.parametrize("count", [10, 40, 100, 199])
def test_adding_an_image_to_a_small_set_moves_less_than_one_image_on_average(count):
    # a cut at share c moves an image with probability 2 c (1 - c): 0.48 and 0.32 for cuts at 0.6 and 0.8
    number = [moved(count, names=f"set {repeat}, image {{}}") for repeat in range(30)]
    assert sum(number) / len(number) < 1.1


@pytest.mark.parametrize("count", [200, 215, 250, 300, 499])
def test_no_image_jumps_where_the_cuts_become_loose(count):
    number = [moved(count, names=f"set {repeat}, image {{}}") for repeat in range(8)]
    assert max(number) <= 4
    assert sum(number) / len(number) < 2
    if count >= 300:
        assert max(number) == 0


def test_a_large_set_is_split_by_the_hash_of_each_image_alone():
    sides = split(images(600))[0]
    for name, part in sides.items():
        digest = hashlib.sha256(f"split 0\0{name}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        assert part == ("train" if position < 0.6 else "validation" if position < 0.8 else "test")


def test_the_order_of_the_images_does_not_matter():
    assert split(images(50))[0] == split(images(50)[::-1])[0]


@given(st.integers(0, 500))
@settings(deadline=None, max_examples=40)
def test_five_images_in_three_parts_give_three_parts(seed):
    sides, remarks = split(images(5), seed=seed)
    assert set(sides.values()) == {"train", "validation", "test"}
    assert remarks == []


def test_a_part_that_large_groups_left_small_is_remarked():
    groups = {f"image {number}": "large" if number < 40 else f"image {number}" for number in range(44)}
    sides, remarks = split(images(44), groups=groups)
    [large] = {sides[name] for name, group in groups.items() if group == "large"}
    small = [part for part in ("train", "validation", "test") if part != large]
    assert all(f"{part} contains" in remarks[0] for part in small)
    assert "because groups differ in size" in remarks[0]
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


def test_a_table_with_composed_accents_fits_names_with_decomposed_accents(tmp_path):
    table = tmp_path / "split.csv"
    names = [f"é{number}" for number in range(3)]
    parts = ("test", "train", "validation")
    rows = [f"{unicodedata.normalize('NFC', name)},{part}" for name, part in zip(names, parts, strict=True)]
    table.write_text("\n".join(["sample,split", *rows]) + "\n", encoding="utf-8")
    sides, _ = split([Item(unicodedata.normalize("NFD", name)) for name in names], table=str(table))
    assert list(sides.values()) == list(parts)


def test_a_table_of_test_images_only_is_obeyed_where_nothing_is_trained(tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("sample,split\nimage 0,test\nimage 1,test\nimage 2,\n")
    section = Split(table=str(table)).model_dump(mode="json")
    sides, _ = assign_splits(images(3), split=section, groups={}, strata={}, where="split", needs=())
    assert sides == {"image 0": "test", "image 1": "test", "image 2": "unlabelled"}


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
