"""Hidden state of recurrent networks between windows of frames: detach, reset, slice along the batch, and join.

Axes    b batch slots, each of which follows one sequence, c channels, y rows, x columns
"""

import torch
from torch import Tensor

# One (h_bcyx, c_bcyx) for each C-LSTM layer, from the input to the deepest.
State = list[tuple[Tensor, Tensor]]


def detach_state(state: State | None) -> State | None:
    """Detach a state from the autograd graph of its window; the values stay.

    # SOURCE Williams and Peng 1990, doi:10.1162/neco.1990.2.4.490: truncated back-propagation through time
    """
    return None if state is None else [(hidden.detach(), cell.detach()) for hidden, cell in state]


def reset_state(state: State | None, fresh_b: Tensor) -> State | None:
    """Reset the state of the batch slots in which another sequence starts.

    Parameters
    ----------
    state : list of (h_bcyx, c_bcyx) or None
        Not changed.
    fresh_b : Tensor of bool, shape (b,)
        Slots that start from zeros.

    Returns
    -------
    list of (h_bcyx, c_bcyx) or None
        None if `state` is None, which means zeros everywhere.
    """
    if state is None:
        return None
    fresh_bcyx = fresh_b[:, None, None, None]
    return [(hidden.masked_fill(fresh_bcyx, 0), cell.masked_fill(fresh_bcyx, 0)) for hidden, cell in state]


def part_of_state(state: State | None, part: slice) -> State | None:
    """Return the state of some slots of a batch."""
    return None if state is None else [(hidden[part], cell[part]) for hidden, cell in state]


def join_states(parts: list[State | None]) -> State:
    """Concatenate the states of the parts of a batch."""
    states = [state for state in parts if state is not None]
    return [
        (torch.cat([hidden for hidden, _ in layer]), torch.cat([cell for _, cell in layer]))
        for layer in zip(*states, strict=True)
    ]
