"""The README: its configs are valid, its commands and files exist."""

import re

import pytest
import yaml

from cellmill.config.dataset import Config
from cellmill.planning.runs import resolve_preset
from project import README_DSB_MODEL, ROOT

README = (ROOT / "README.md").read_text()
CONFIGS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_config_of_the_readme_is_valid(number):
    config = Config.model_validate(CONFIGS[number])
    for dataset in config.datasets.values():
        for entry in dataset.models:
            if entry.preset is not None:
                _, mistakes = resolve_preset(entry, presets_dir=ROOT / "resources/models", where=("README",))
                assert not mistakes


def test_own_data_fits_into_ten_lines():
    first = re.search(r"```yaml\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in first.splitlines() if not line.startswith("#")]) <= 10


def test_the_recipe_for_the_data_science_bowl_is_the_one_that_is_tested():
    [model] = [d["models"][0] for c in CONFIGS for name, d in c["datasets"].items() if name == "dsb2018"]
    assert model == README_DSB_MODEL


def test_the_targets_and_files_that_it_names_are_there():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\(([^)h#][^)]*)\)", README):
        assert (ROOT / path).exists(), path
    table = README.split("## Where to look")[1].split("\n## ")[0]
    library = {
        path.relative_to(ROOT / "workflow/cellmill").as_posix() for path in (ROOT / "workflow/cellmill").rglob("*")
    }
    for name in re.findall(r"`([a-z_/]+\.py|[a-z_]+/)`", table):
        assert name.rstrip("/") in library, name
    for name in re.findall(r"`(?:workflow/rules/)?([a-z_]+\.smk)`", table):
        assert (ROOT / "workflow/rules" / name).is_file(), name
