"""Stage train, rule join_seeds: put the networks of several runs into one file, to average their predictions."""

import logging
from collections.abc import Sequence
from pathlib import Path

from cellmill.models.weights import join_members, read_weights, write_weights
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def join_runs(*, output_path: str | Path, weights_paths: Sequence[str | Path]) -> None:
    """Put the networks of several runs into one weights file.

    Parameters
    ----------
    output_path : path
        The weights file, written atomically.
    weights_paths : sequence of path
        weights.pt of runs with the same network and input, at least one.

    Raises
    ------
    ValueError
        If networks or inputs differ.
    """
    joined = join_members([(path, read_weights(path)) for path in weights_paths])
    with atomic_path(output_path) as partial:
        write_weights(partial, **joined)
    logger.info("%d networks joined", len(weights_paths), extra={"progress": True})
