"""Config section `worklist` of a dataset: which images to annotate next."""

from pydantic import Field

from cellmill.config.closed import Closed


class Worklist(Closed):
    """The order in which to annotate images, with predicted labels to correct.

    A dataset with unlabelled images has a worklist without this section, too.
    """

    images: int = Field(
        20,
        ge=1,
        le=1000,
        description="Number of images whose predicted labels are copied to results/{dataset}/worklist, as label images "
        "and as ROIs of ImageJ.",
    )
    model: str | None = Field(
        None,
        description="Name of the model whose predictions are corrected. Default: the first network in `models`; "
        "without one, classical.",
    )
