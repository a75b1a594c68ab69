"""A dry run on 25,000 images plans at most 400 jobs."""

from collections import Counter

from project import copy_project, planned_jobs, write_config


def test_25000_images_are_a_few_hundred_jobs(tmp_path):
    project = copy_project(tmp_path / "project")
    section = {"simulate": {"images": 25_000, "size": [32, 32]}, "models": ["default"]}
    name = write_config(project, {"datasets": {"big": section}})
    jobs = planned_jobs(project, "--configfile", name)
    by_rule = Counter(job.split()[0] for job in jobs)
    # the square root of about 15,000, 5,000 and 5,000 images, divided by 5
    assert 54 <= by_rule["preprocess"] <= 56
    assert by_rule["predict"] == by_rule["preprocess"] == by_rule["rasterize"]
    assert by_rule["train"] == 1
    assert len(jobs) < 400 + by_rule["simulate"]


def test_the_number_of_jobs_follows_images_per_job(tmp_path):
    project = copy_project(tmp_path / "project")
    counts = []
    for size in (50, 500):
        section = {"simulate": {"images": 5_000, "size": [32, 32]}, "models": ["default"]}
        config = {"images_per_job": size, "datasets": {"big": section}}
        name = write_config(project, config)
        jobs = planned_jobs(project, "--configfile", name)
        counts.append(sum(job.startswith("preprocess ") for job in jobs))
    assert 100 <= counts[0] <= 103
    assert 10 <= counts[1] <= 13
