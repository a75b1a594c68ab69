"""Slips in the YAML of a config: one message each, with file, line and repair."""

import pytest
import yaml

from cellmill.config.yaml_slips import lines_of_keys, slips_of_file, slips_of_files, with_lines
from project import ROOT

GOOD = """\
seed: 3
datasets:
  d:
    images: img/{sample}.tif
    annotations: {format: label_image, path: "lab/{sample}.tif"}
    models:
      - {preset: sartorius_unet, name: u}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def slips(folder, text, name="mine.yaml"):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(data)
    return slips_of_file(name)


def one_slip(folder, old, new):
    assert old in GOOD
    [slip] = slips(folder, GOOD.replace(old, new, 1))
    return slip


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "tests/pipeline/real").glob("*.yaml"))], ids=lambda path: path.name
)
def test_shipped_configs_have_no_slips(path):
    assert slips_of_file(path) == []


# ---- keys ------------------------------------------------------------------------------------------------


def test_a_key_that_stands_twice_is_named_with_both_lines_at_every_depth(folder):
    text = GOOD + (
        "  d:\n"
        "    images: b/{sample}.tif\n"
        "    models:\n"
        "      - preset: sartorius_unet\n"
        "        train: {epochs: 40}\n"
        "        train: {patch: [32, 32], patch: [64, 64]}\n"
        "seed: 4\n"
    )
    found = slips(folder, text)
    assert len(found) == 4
    assert (
        "mine.yaml, line 14, column 1: seed: expected each key once, found it in line 1, column 1 already" in found[0]
    )
    assert "mine.yaml, line 8, column 3: datasets.d: expected each key once, found it in line 3" in found[1]
    assert "line 13, column 9: datasets.d.models[0].train:" in found[2]
    assert "found it in line 12" in found[2]
    assert "line 13, column 34: datasets.d.models[0].train.patch:" in found[3]


def test_a_key_that_stands_twice_in_json_is_named(folder):
    [slip] = slips(folder, '{"seed": 3,\n\t"datasets": {"d": {},\n\t\t"d": {}}}')
    assert slip.startswith("mine.yaml, line 3, column 3: datasets.d: expected each key once")
    assert slips(folder, '{"seed": 3,\n\t"datasets": {"d": {}}}') == []


def test_merged_sections_and_their_overrides_are_no_repetition(folder):
    text = "x-a: &a {epochs: 1, batch: 2}\nx-b: &b {epochs: 2}\n" + GOOD.replace(
        "name: u", "name: u, train: {<<: [*a, *b], epochs: 3}"
    )
    assert slips(folder, text) == []
    assert yaml.safe_load(text)["datasets"]["d"]["models"][0]["train"] == {"epochs": 3, "batch": 2}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("on", "true or false"), ("No", "true or false"), ("yes", "true or false"), ("2018", "a number"),
        ("1.0e+3", "a number"), ("012", "a number"), ("12:30", "a number"), (".inf", "a number"), ("null", "nothing"),
        ("~", "nothing"), ("2018-05-01", "a date"),
    ],
)  # fmt: skip
def test_a_name_that_yaml_reads_as_something_else_is_to_be_quoted(folder, name, kind):
    assert not isinstance(next(iter(yaml.full_load(f"{name}: 1"))), str)
    slip = one_slip(folder, "  d:", f"  {name}:")
    assert slip == (
        f"mine.yaml, line 3, column 3: datasets.{name}: expected a name, found {name} without quotes, which YAML reads "
        f'as {kind}. Quote the name: "{name}".'
    )
    assert slips(folder, GOOD.replace("  d:", f'  "{name}":')) == []


@pytest.mark.parametrize("name", ["1e3", "plate-1", "x", "o_n", "2018a"])
def test_a_name_that_yaml_reads_as_text_needs_no_quotes(folder, name):
    assert slips(folder, GOOD.replace("  d:", f"  {name}:")) == []


# ---- texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "quoted"),
    [
        ("img/{sample}.tif", "{sample}.tif", 4, "{sample}.tif"),
        ('"lab/{sample}.tif"', "lab/{sample}.tif", 5, "lab/{sample}.tif"),
        ('"lab/{sample}.tif"', "{sample}_{frame}.tif", 5, "{sample}_{frame}.tif"),
        ("img/{sample}.tif", "[{sample}.tif, b]", 4, "{sample}.tif"),
        ("img/{sample}.tif", "{sample}", 4, "{sample}"),
        ('"lab/{sample}.tif"', "{sample}", 5, "{sample}"),
    ],
)
def test_a_placeholder_that_begins_a_text_or_is_inside_braces_is_to_be_quoted(folder, old, new, line, quoted):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert f'Quote it: "{quoted}".' in slip
    assert slips(folder, GOOD.replace(old, f'"{quoted}"')) == []


@pytest.mark.parametrize("path", ["C:\\Users\\me", "C:\\new\\table", "\\\\server\\share", "D:\\x"])
def test_a_windows_path_in_double_quotes_is_to_be_written_another_way(folder, path):
    slip = one_slip(folder, "img/{sample}.tif", f'"{path}\\{{sample}}.tif"')
    assert slip.startswith("mine.yaml, line 4, column 13: ")
    assert "backslashes in double quotes" in slip
    assert "'" + path.replace("\\", "/") + "/{sample}.tif'" in slip
    assert slips(folder, GOOD.replace("img/{sample}.tif", f"'{path}\\{{sample}}.tif'")) == []


@pytest.mark.parametrize("start", ["*", "%", "@", "!", "&", "`"])
def test_a_text_that_begins_with_a_sign_of_yaml_is_to_be_quoted(folder, start):
    slip = one_slip(folder, "img/", f"{start}img/")
    assert slip.startswith("mine.yaml, line 4, column 13: ")
    assert f'Quote the text: "{start}img/{{sample}}.tif"' in slip or "Quote the text if it is a pattern" in slip


@pytest.mark.parametrize(
    ("old", "new", "sign"),
    [
        ("img/{sample}.tif", "\u201cimg/{sample}.tif\u201d", "U+201C"), ('"lab/{sample}.tif"', "\u00abx.tif\u00bb", "U+00AB"),
        ('"lab/{sample}.tif"', "\u201clab/{sample}.tif\u201d", "U+201C"), ("    images", "\u00a0\u00a0\u00a0\u00a0images", "U+00A0"),
        ("seed", "\u00a0seed", "U+00A0"), ("  d:", "\u3000d:", "U+3000"),
    ],
)  # fmt: skip
def test_quotes_and_blanks_of_a_word_processor_are_found(folder, old, new, sign):
    slip = one_slip(folder, old, new)
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert sign in slip


def test_letters_and_quotes_inside_quoted_texts_are_no_mistake(folder):
    assert slips(folder, GOOD.replace("img/{sample}.tif", '"M\u00fcller\u2019s images/{sample}.tif"')) == []


def test_a_colon_inside_a_text_is_to_be_quoted(folder):
    slip = one_slip(folder, "img/", "plate: 3/")
    assert slip.startswith("mine.yaml, line 4, column 18: expected the end of the text, found another colon.")
    assert '"plate: 3/{sample}.tif"' in slip


# ---- layout ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    images", "  images", 5), ("    images", "      images", 5), ("    annotations", "   annotations", 5),
        ("    annotations", "      annotations", 5), ("datasets:", " datasets:", 2), ("seed", "  seed", 2),
    ],
)  # fmt: skip
def test_a_wrong_indentation_names_line_and_columns(folder, old, new, line):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert "expected the indentation of a section above" in slip
    # The line itself and a mark below it
    shown, mark = slip.splitlines()[1:]
    assert shown[6:] == GOOD.replace(old, new, 1).splitlines()[line - 1]
    assert mark.strip() == "^"


@pytest.mark.parametrize(
    ("text", "line", "where", "first"),
    [
        (GOOD.replace("  d:", "d:"), 2, "datasets", 3),
        (GOOD.replace("    ", "  "), 3, "datasets.d", 4),
        ("datasets:\nimages: img/{sample}.tif\n", 1, "datasets", 2),
    ],
)
def test_keys_in_the_column_of_the_dataset_they_belong_to_are_one_mistake(folder, text, line, where, first):
    [slip] = slips(folder, text)
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert f": {where}: expected its keys below it and further right, found " in slip
    assert slip.endswith(f"Indent the lines that belong to it from line {first} on.")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("    images", "\timages", 4), ("    images", "  \timages", 4), ("seed: ", "seed:\t", 1), ("  d:", "\td:", 3)],
)
def test_a_tabulator_is_found(folder, old, new, line):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert "found a tabulator. Replace each tabulator by blanks." in slip


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('tif"}', 'tif"', "line 5, column 18"), ("name: u}", "name: u", "line 7, column 9"),
        ("seed: 3", "seed: [3", "line 1, column 7"),
    ],
)  # fmt: skip
def test_an_open_bracket_is_named_where_it_opens(folder, old, new, place):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, {place}: expected a closing ")
    assert "that opens here" in slip


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("img/{sample}.tif", '"img/{sample}.tif', "line 4, column 13"), ("name: u}", "name: 'u}", "line 7, column 40"),
        ('tif"}', "tif}", "line 5, column 46"),
    ],
)  # fmt: skip
def test_an_open_quote_is_named_where_it_opens(folder, old, new, place):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, {place}: expected a closing quote")


@pytest.mark.parametrize(("old", "new", "line"), [("datasets:", "datasets", 2), ("seed: 3", "seed:3", 1)])
def test_a_missing_colon_or_blank_is_found(folder, old, new, line):
    slip = one_slip(folder, old, new)
    assert slip.startswith(f"mine.yaml, line {line}, column ")
    assert "colon" in slip


def test_a_second_document_is_found(folder):
    [slip] = slips(folder, f"{GOOD}---\n{GOOD}")
    assert slip.startswith("mine.yaml, line 8, column 1: expected one config, found a second one after ---.")


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((GOOD + "# 0.5 µm\n").encode("latin-1"), ", line 8, column 7: expected text encoded as UTF-8, found the byte 0xB5"),
        (GOOD.replace("img", "für").encode("cp1252"), ", line 4, column 14: expected text encoded as UTF-8, found the byte 0xFC"),
        (GOOD.encode("utf-16"), ", line 1: expected text encoded as UTF-8, found UTF-16."),
        (GOOD.encode("utf-16-be"), ", line 1: expected text encoded as UTF-8, found UTF-16 without a mark."),
    ],
)  # fmt: skip
def test_another_encoding_is_named_with_the_line(folder, data, message):
    [slip] = slips(folder, data)
    assert slip.startswith(f"mine.yaml{message}")
    assert slip.endswith("Save the file as UTF-8 in your editor.")


def test_a_byte_order_mark_and_other_letters_of_utf_8_are_no_mistake(folder):
    assert slips(folder, ("\ufeff" + GOOD + "# 0.5 µm\n").encode()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "an empty file"), ("# nothing\n\n", "an empty file"), ("- datasets: 1\n", "a list"), ("datasets\n", "a text"),
     ("[1, 2]", "a list"), ("3", "a text")],
)  # fmt: skip
def test_a_file_without_keys_is_refused(folder, text, found):
    [slip] = slips(folder, text)
    assert f"found {found}." in slip


def test_a_missing_file_and_a_target_after_configfile_are_told_apart(folder):
    (folder / "mine.yaml").write_text(GOOD)
    missing, target = slips_of_files(["mine.yaml", "none.yaml", "check"])
    assert missing.startswith("none.yaml: expected a config file, found none.")
    assert "snakemake check --configfile FILE" in target


@pytest.mark.parametrize(
    "letter", ["", "{", "}", "[", '"', "'", ":", "\t", "\n", "*", "&", "!", "\\", "-", "\x00", "#"]
)
def test_any_slip_of_the_keyboard_ends_in_a_message(folder, letter):
    """A letter lost or put anywhere in the file is accepted or reported, and the reader agrees with Snakemake's."""
    for column in range(0, len(GOOD), 3):
        text = GOOD[:column] + letter + GOOD[column + (not letter) :]
        found = slips(folder, text)
        assert all(slip.startswith("mine.yaml") and ". " in slip for slip in found), text
        try:
            is_read = isinstance(yaml.full_load(text), dict)
        except yaml.YAMLError:
            is_read = False
        assert is_read or found, text


# ---- lines of other mistakes -----------------------------------------------------------------------------


def test_a_mistake_of_the_config_is_given_the_line_of_its_key(folder):
    (folder / "a.yaml").write_text(GOOD)
    (folder / "b.yaml").write_text("# more\nseed: 5\n")
    mistakes = ["datasets.d.models[0].name: x.", "datasets.d.modelsy: x.", "seed: x.", "img/a.tif: x."]
    assert with_lines(mistakes, ["a.yaml", "b.yaml"]) == [
        "a.yaml, line 7: datasets.d.models[0].name: x.",
        "a.yaml, line 3: datasets.d.modelsy: x.",
        "b.yaml, line 2: seed: x.",
        "img/a.tif: x.",
    ]


def test_a_value_of_the_command_line_is_given_no_line(folder):
    (folder / "a.yaml").write_text(GOOD)
    assert with_lines(["seed: x.", "datasets: x."], ["a.yaml"], overridden=["seed"])[0] == "seed: x."


def test_a_file_that_cannot_be_read_gives_no_lines(folder):
    (folder / "a.yaml").write_text("seed: [")
    assert with_lines(["seed: x."], ["a.yaml", "none.yaml"]) == ["seed: x."]


def test_keys_of_an_anchor_are_found_where_they_are_written(folder):
    (folder / "a.yaml").write_text("x-t: &t\n  epochs: 1\n" + GOOD.replace("name: u", "name: u, train: {<<: *t}"))
    assert lines_of_keys("a.yaml")["datasets", "d", "models", 0, "train", "epochs"] == 2


@pytest.mark.parametrize(
    ("item", "line", "found"),
    [
        ("-{preset: sartorius_unet, name: u}", 7, "-{preset:"),
        ("-preset: sartorius_unet\n       name: u", 7, "-preset:"),
        ("-preset: sartorius_unet", 7, "-preset"),
        ("- preset: a\n      -preset: b", 8, "-preset:"),
    ],
)
def test_a_dash_without_a_blank_is_named(folder, item, line, found):
    text = GOOD.replace("- {preset: sartorius_unet, name: u}", item)
    [slip] = slips(folder, text)
    assert slip.startswith(f"mine.yaml, line {line}, column 7: ")
    assert f"expected a blank after the dash of a list item, found {found}. Write - {found[1:]}." in slip


def test_a_decimal_comma_between_braces_is_named(folder):
    slip = one_slip(folder, "name: u", "width: 0,125")
    assert slip == (
        "mine.yaml, line 7, column 41: datasets.d.models[0]: expected a decimal point, found 0,125. Write 0.125."
    )


def test_negative_numbers_are_no_list_items(folder):
    assert slips(folder, "datasets:\n  d:\n    x: [\n      -5,\n      -6]\n    y:\n      -7\n") == []
