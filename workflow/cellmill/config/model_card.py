"""Facts of a shipped model that its card states: the front matter of resources/weights/{name}.md."""

from pydantic import Field

from cellmill.config.closed import Closed


class ModelCard(Closed):
    """Front matter of a model card, which the report shows beside the results of the model."""

    title: str = Field(min_length=1, description="Name of the model in the report.")
    version: int = Field(ge=1, description="Number of the version; a changed file has a new one.")
    data: str = Field(min_length=1, description="Images that the model was trained on.")
    licence: str = Field(min_length=1, description="Licence of the model and of its training images.")
    cite: str = Field(min_length=1, description="Source of the training images, to be cited with results.")
