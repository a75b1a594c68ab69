"""Value types of the config section `simulate`: one number, or [smallest, largest] of a uniform distribution."""

from typing import Annotated, Any, TypeVar

from pydantic import Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from cellmill.config.closed import Closed


def _pair_of(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _in_order(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [smallest, largest], found [{pair[0]:g}, {pair[1]:g}]. Swap the two numbers")
    return pair


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=65534)]
Radius = Annotated[float, Field(ge=2, le=1000)]
Sigma = Annotated[float, Field(ge=0.1, le=50)]
Period = Annotated[float, Field(ge=2, le=10000)]
Shift = Annotated[float, Field(ge=-2, le=2)]
Light = Annotated[float, Field(ge=-1, le=1)]
Length = Annotated[float, Field(ge=0, le=1000)]
Ratio = Annotated[float, Field(ge=1, le=10)]


class _Pair:
    """Annotation that reads one number as a pair of equal numbers and rejects a pair in the wrong order."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        pair = handler(source)
        written = core_schema.union_schema([pair["items_schema"][0], pair])
        read = core_schema.no_info_before_validator_function(_pair_of, pair, json_schema_input_schema=written)
        return core_schema.no_info_after_validator_function(_in_order, read)


T = TypeVar("T")
# One number, or [smallest, largest] of a uniform distribution.
Range = Annotated[tuple[T, T], _Pair()]
CountRange = Range[Count]
RadiusRange = Range[Radius]
FractionRange = Range[Fraction]
SigmaRange = Range[Sigma]
PeriodRange = Range[Period]
LightRange = Range[Light]
RatioRange = Range[Ratio]
LengthRange = Range[Length]


class Section(Closed):
    """Config section that rejects unknown keys and treats empty keys as missing."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_keys(cls, section: Any) -> Any:
        if isinstance(section, dict):
            return {key: value for key, value in section.items() if value is not None}
        return section
