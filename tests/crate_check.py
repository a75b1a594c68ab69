"""Checks that every RO-Crate of the project must pass, without the validator."""

import hashlib
import json
from pathlib import Path

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"


def entities_of(path: Path) -> dict[str, dict]:
    """Return the entities of a crate by their identifiers."""
    return {entity["@id"]: entity for entity in json.loads(path.read_text())["@graph"]}


def check_crate(path: Path) -> dict[str, dict]:
    """Check the requirements of RO-Crate and each digest; return the entities."""
    content = json.loads(path.read_text())
    entities = entities_of(path)
    assert len(entities) == len(content["@graph"]), "an identifier is given twice"
    assert content["@context"][0] == CONTEXT_URL
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    crate, run = entities["./"], entities["#run"]
    assert {"name", "description", "datePublished", "license"} <= set(crate)
    assert {"instrument", "object", "result", "endTime"} <= set(run)
    outside = {"https://w3id.org/ro/crate/1.1"}
    for entity in entities.values():
        assert {"@id", "@type"} <= set(entity)
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    assert list(item) == ["@id"]
                    assert item["@id"] in entities.keys() | outside, f"{item['@id']} is described nowhere"
    parts = {part["@id"] for part in crate["hasPart"]}
    assert parts == {i for i, e in entities.items() if e["@type"] in ("File", "Dataset")} - {"./"}
    for identifier in parts:
        entity = entities[identifier]
        place = path.parent / entity["name"]
        if entity["@type"] == "File":
            assert entity["sha256"] == hashlib.sha256(place.read_bytes()).hexdigest()
            assert entity["contentSize"] == str(place.stat().st_size)
        else:
            assert identifier.endswith("/")
            assert place.is_dir()
    return entities
