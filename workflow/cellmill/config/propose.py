"""Keys of the command line for `snakemake propose`, which stand in no config file."""

from pydantic import Field, field_validator

from cellmill.config.closed import Closed


class Propose(Closed):
    """Folder to look at, and the file in which its config is proposed."""

    look: str = Field(min_length=1, description="Folder with the images. Relative to the working directory.")
    write: str | None = Field(
        None, min_length=1, description="New config file. Default: the name of the folder and .yaml, in the working "
        "directory. A file that exists is never overwritten.",
    )  # fmt: skip

    @field_validator("look", "write", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: object) -> object:
        # Snakemake reads the values of --config as YAML, so that a folder 2024 is a number.
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
