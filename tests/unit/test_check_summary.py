"""The summary of the check stage: a table of findings, and lines that a person can read."""

import json

import pandas as pd

from cellmill.findings import describe, find_duplicates, summarize_check


def image(sample, digest, rows=64):
    return {"sample": sample, "rows": rows, "columns": 80, "dtype": "uint8", "channels": 1, "sha256": digest}


def test_equal_files_are_found():
    [finding] = find_duplicates([image("a", "1"), image("b", "2"), image("c", "1")])
    assert (finding["sample"], finding["severity"]) == ("c", "warning")
    assert "the same as that of a" in finding["finding"]


def test_the_terminal_hears_counts_sizes_and_grouped_findings():
    odd = [
        {"severity": "warning", "sample": f"s{n}", "where": "", "finding": "dark", "advice": "Expose longer"}
        for n in range(5)
    ]
    truths = [{"objects": 3}, {"objects": 4}]
    lines = describe("cells", images=[image("a", "1"), image("b", "2", rows=32)], truths=truths, findings=odd)
    assert lines[0].startswith("cells: 2 images of 64 x 80, 32 x 80 px")
    assert "7 objects in 2 annotated images" in lines[0]
    assert lines[1:] == ["cells: warning: s0, s1, s2 and 2 more: dark. Expose longer."]


def test_the_table_has_its_header_even_without_findings(tmp_path):
    shard = tmp_path / "train-0000.json"
    shard.write_text(json.dumps({"images": [image("a", "1")], "annotations": [], "findings": []}))
    summarize_check(output_path=tmp_path / "summary.csv", findings_paths=[shard], dataset="cells")
    assert list(pd.read_csv(tmp_path / "summary.csv").columns) == ["severity", "sample", "where", "finding", "advice"]
