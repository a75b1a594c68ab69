"""Each conda environment contains the packages that its rules import; each is tested without those of the others."""

import subprocess
import sys
import venv
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.utils import canonicalize_name

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.images.raw_files import RAW_FORMATS
from cellmill.provenance import code_digests
from project import GUARD_S, ROOT

ENVIRONMENTS = {"image": [], "torch": [], "report": [], "export": [], "anndata": []}
for rule_file in (ROOT / "workflow/rules").glob("*.smk"):
    environment = None
    for line in rule_file.read_text().splitlines():
        if "envs/" in line:
            environment = line.split("envs/")[1].split(".yaml")[0]
        elif "../scripts/" in line and environment:
            ENVIRONMENTS[environment].append(line.split("../scripts/")[1].split(".py")[0])


def modules_of(name):
    """Return the cellmill modules that the scripts of an environment reach, including models loaded by name."""
    architectures = (path.stem for path in (ROOT / "workflow/cellmill/models").glob("[a-z]*.py"))
    also = tuple(f"cellmill.models.{stem}" for stem in architectures) if name in ("torch", "export") else ()
    also += tuple({facts["module"] for facts in ANNOTATION_FORMATS.values()}) if name == "image" else ()
    also += tuple({facts["module"] for facts in RAW_FORMATS.values()}) if name in ("image", "report") else ()
    reached = {"cellmill.runlog"}
    for script in ENVIRONMENTS[name]:
        reached |= set(code_digests(ROOT / f"workflow/scripts/{script}.py", also=also))
    return sorted(module for module in reached if module != "script" and ":" not in module)


def packages_of(name):
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    return content["dependencies"][-1]["pip"]


BLOCKER = """
import importlib.util, sys
allowed, owned, modules = {allowed!r}, {owned!r}, {modules!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in owned and top not in allowed:
            raise ModuleNotFoundError(f"{{top}} is in no requirement of this environment", name=top)

def look_up(name, package=None, find=importlib.util.find_spec):
    # A library that only asks whether another one is there finds none.
    try:
        return find(name, package)
    except ModuleNotFoundError:
        return None

importlib.util.find_spec = look_up
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {workflow!r})
for module in modules:
    importlib.import_module(module)
print("imported", len(modules))
"""


def test_every_scripted_rule_has_one_of_the_environments():
    assert sum(len(scripts) for scripts in ENVIRONMENTS.values()) == len(list((ROOT / "workflow/scripts").glob("*.py")))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_rules_import_nothing_that_their_environment_lacks(name):
    wanted = {canonicalize_name(pin.split("==")[0]) for pin in packages_of(name)}
    owners = packages_distributions()
    owned = set(owners)
    allowed = {module for module, names in owners.items() if wanted & {canonicalize_name(owner) for owner in names}}
    program = BLOCKER.format(allowed=allowed, owned=owned, modules=modules_of(name), workflow=str(ROOT / "workflow"))
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("imported")


def test_the_blocker_blocks():
    program = BLOCKER.format(allowed=set(), owned={"numpy"}, modules=["numpy"], workflow="")
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "numpy is in no requirement of this environment" in finished.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_made_from_its_file_imports_what_its_rules_need(name, tmp_path):
    """Install the pip section in a fresh virtual environment; whether conda-forge resolves the rest is not tested."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages_of(name)], check=True, timeout=GUARD_S)
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r})\n" + "\n".join(
        f"import {module}" for module in modules_of(name)
    )
    subprocess.run([python, "-c", program], check=True, timeout=GUARD_S)
