"""Shared annotation tables: a digest for each sample, cached by path, size and time."""

import os

import pytest

from cellmill.planning.annotation_tables import index_table

ROWS = ["id,annotation,cell_type,well", "a,1 3,cort,w1", "a,9 2,cort,w1", "b,4 4,astro,w2"]


def index(tmp_path, rows, **options):
    table = tmp_path / "train.csv"
    table.write_text("\n".join(rows) + "\n")
    settings = {
        "samples": {"a", "b", "c"},
        "value_columns": ["cell_type"],
        "where": "datasets.x.annotations.table",
    }
    names = {name: options.pop(name, None) for name in ("sample_column", "rle_column", "object_column")}
    section = {"format": "rle", "table": str(table), **names}
    return index_table(section, cache_dir=tmp_path / "cache", **{**settings, **options})


def test_a_corrected_row_changes_the_digest_of_its_sample_only(tmp_path):
    before = index(tmp_path, ROWS)
    after = index(tmp_path, [*ROWS[:2], "a,9 3,cort,w1", ROWS[3]])
    assert before.digest("a") != after.digest("a")
    assert before.digest("b") == after.digest("b") != ""
    assert before.digest("c") == ""


def test_rows_of_other_samples_may_move(tmp_path):
    before = index(tmp_path, ROWS)
    after = index(tmp_path, [ROWS[0], ROWS[3], ROWS[1], ROWS[2]])
    assert [before.digest(name) for name in "ab"] == [after.digest(name) for name in "ab"]


def test_a_column_that_labels_do_not_depend_on_changes_no_digest(tmp_path):
    before = index(tmp_path, ROWS)
    after = index(tmp_path, [f"{row},remark" for row in ROWS])
    assert [before.digest(name) for name in "ab"] == [after.digest(name) for name in "ab"]


def test_the_cache_follows_content_even_where_size_stays(tmp_path):
    before = index(tmp_path, ROWS)
    stat = (tmp_path / "train.csv").stat()
    changed = index(tmp_path, [*ROWS[:2], "a,9 8,cort,w1", ROWS[3]])
    os.utime(tmp_path / "train.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert before.digest("a") != changed.digest("a")
    assert index(tmp_path, ROWS).digest("a") == before.digest("a")


def test_names_with_the_suffix_of_a_file_and_a_byte_order_mark_are_understood(tmp_path):
    rows = ["\ufeffid,annotation,cell_type,well", "a.png,1 3,cort,w1", "b.TIF,4 4,astro,w2"]
    found = index(tmp_path, rows)
    assert found.digest("a")
    assert found.value("b", "cell_type") == "astro"


def test_values_of_a_sample_come_from_its_rows(tmp_path):
    assert index(tmp_path, ROWS).value("b", "cell_type") == "astro"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"value_columns": ["cell_typ"]},
            "expected a column 'cell_typ', found id, annotation, cell_type, well",
        ),
        ({"sample_column": "image", "rle_column": "annotation"}, "expected the columns image and annotation, found id"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        index(tmp_path, ROWS, **options)


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabulators")])
def test_another_separator_than_the_comma_is_named(tmp_path, mark, name):
    with pytest.raises(ValueError, match=f"separated by commas, found {name} between them .* Save the table as CSV"):
        index(tmp_path, [row.replace(",", mark) for row in ROWS])


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="expected a table, found no file"):
        index_table(
            {
                "format": "rle",
                "table": str(tmp_path / "no.csv"),
                **dict.fromkeys(("sample_column", "rle_column", "object_column")),
            },
            samples=set(),
            value_columns=[],
            cache_dir=tmp_path,
            where="x",
        )
