"""README and documentation: their configs are valid, their commands, files and links exist, the version is one."""

import datetime
import re
import tomllib

import pytest
import yaml

from cellmill.config.dataset import Config
from cellmill.planning.runs import resolve_preset
from generate.architecture import draw_packages, read_imports, reduce_arrows
from project import README_DSB_MODEL, ROOT

README = (ROOT / "README.md").read_text()
FOLDERS = (".", "docs", "resources/studies", "workflow/decisions", "tests/benchmarks")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for folder in FOLDERS for path in (ROOT / folder).glob("*.md")
}
LIBRARY = ROOT / "workflow/cellmill"
ARCHITECTURE = PAGES["docs/architecture.md"]
LONGEST_README = 130


def configs_of(page):
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    return [block for block in blocks if "datasets" in block]


CONFIGS = {f"{name}-{number}": c for name, page in PAGES.items() for number, c in enumerate(configs_of(page))}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_the_documentation_is_valid(name):
    # sections for YAML anchors are left out before the config is validated
    config = Config.model_validate({key: value for key, value in CONFIGS[name].items() if not key.startswith("x-")})
    for dataset in config.datasets.values():
        for entry in dataset.models:
            if entry.preset is not None:
                _, mistakes = resolve_preset(entry, presets_dir=ROOT / "resources/models", where=(name,))
                assert not mistakes


def test_every_config_of_the_readme_and_of_the_recipes_is_among_them():
    for name in ("README.md", "docs/recipes.md"):
        assert len(re.findall(r"```yaml\n", PAGES[name])) == sum(key.startswith(f"{name}-") for key in CONFIGS) > 0


def test_own_data_fits_into_five_lines_that_name_no_model():
    first = re.search(r"```yaml\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in first.splitlines() if not line.startswith("#")]) <= 5
    [section] = yaml.safe_load(first)["datasets"].values()
    assert set(section) == {"images", "annotations"}


def test_the_readme_is_short_and_shows_a_picture_before_the_first_command():
    assert len(README.splitlines()) <= LONGEST_README
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 1
    assert README.index(pictures[0]) < README.index("```")


def test_the_recipe_for_the_data_science_bowl_is_the_one_that_is_tested():
    [model] = [d["models"][0] for c in CONFIGS.values() for name, d in c["datasets"].items() if name == "dsb2018"]
    assert model == README_DSB_MODEL


@pytest.mark.parametrize("name", PAGES)
def test_the_targets_and_files_that_it_names_are_there(name):
    page, folder = PAGES[name], (ROOT / name).parent
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", page, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)h][^)]*)\)", page):
        path, _, place = link.partition("#")
        target = folder / path if path else ROOT / name
        assert target.exists(), link
        if place:
            assert place in anchors_of(target.read_text()), link


def anchors_of(page):
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_documentation_is_linked():
    linked = {
        ((ROOT / name).parent / link.partition("#")[0]).resolve()
        for name, page in PAGES.items() for link in re.findall(r"\]\(([^)h#][^)]*)\)", page)
    }  # fmt: skip
    assert [path.name for path in (ROOT / "docs").glob("*.md") if path not in linked] == []


def test_the_tables_of_the_architecture_name_what_is_there():
    table = ARCHITECTURE.split("## Where to look")[1]
    library = {path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*")}
    stages = {path.name for path in (LIBRARY / "stages").glob("[a-z]*.py")}
    for name in re.findall(r"`([a-z_/]+\.py|[a-z_]+/)`", table):
        assert name in stages or name.rstrip("/") in library, name
    for name in re.findall(r"`([a-z_]+\.smk)`", table):
        assert (ROOT / "workflow/rules" / name).is_file(), name
    assert stages <= set(re.findall(r"`([a-z_]+\.py)`", table))
    rule_files = {path.name for path in (ROOT / "workflow/rules").glob("*.smk")}
    without_rules = {
        "common.smk", "inputs.smk", "measuring.smk", "objects.smk", "remake.smk", "sources.smk", "stopping.smk",
    }  # fmt: skip
    assert rule_files - without_rules == set(re.findall(r"`([a-z_]+\.smk)`", table))


def test_the_architecture_describes_every_package():
    described = re.findall(r"^\| `([a-z]+(?:/|\.py))` \|", ARCHITECTURE.split("## Laws")[0], re.MULTILINE)
    packages = {f"{path.parent.name}/" for path in LIBRARY.glob("*/__init__.py")}
    modules = {path.name for path in LIBRARY.glob("[a-z]*.py")}
    assert sorted(described) == sorted(packages | modules)


def test_the_drawing_of_packages_leaves_out_what_follows_from_other_arrows():
    imports = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": set()}
    assert reduce_arrows(imports) == {"a": {"b"}, "b": {"c"}, "c": set(), "d": set()}
    arrows = re.findall(r"(\w+) --> (\w+)", draw_packages(imports))
    assert arrows == [("a", "b"), ("b", "c")]


def test_the_drawing_of_packages_shows_imports_of_the_library():
    imports = read_imports()
    assert imports["scripts"] >= {"stages", "runlog"}
    assert "config" in imports["planning"]
    assert "config" not in imports["stages"]
    assert imports["runlog"] == set()


def test_pictures_are_described_in_words():
    for name, page in PAGES.items():
        assert not re.findall(r"!\[\s*\]", page), name


def test_project_changelog_and_citation_have_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", PAGES["CHANGELOG.md"], re.MULTILINE).groups()
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert version == project["version"]
    assert citation["date-released"] == datetime.date.fromisoformat(date)
    assert {"cff-version", "message", "authors", "license"} <= set(citation)
