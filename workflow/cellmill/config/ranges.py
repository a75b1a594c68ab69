"""Kinds of values of the config section `simulate`: one number, or [smallest, largest] of a uniform draw."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _pair_of(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _in_order(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [smallest, largest], found [{pair[0]:g}, {pair[1]:g}]. Swap the two")
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

# One number, or [smallest, largest] of a uniform draw.
CountRange = Annotated[
    tuple[Count, Count],
    BeforeValidator(_pair_of, json_schema_input_type=Count | tuple[Count, Count]),
    AfterValidator(_in_order),
]
RadiusRange = Annotated[
    tuple[Radius, Radius],
    BeforeValidator(_pair_of, json_schema_input_type=Radius | tuple[Radius, Radius]),
    AfterValidator(_in_order),
]
FractionRange = Annotated[
    tuple[Fraction, Fraction],
    BeforeValidator(_pair_of, json_schema_input_type=Fraction | tuple[Fraction, Fraction]),
    AfterValidator(_in_order),
]
SigmaRange = Annotated[
    tuple[Sigma, Sigma],
    BeforeValidator(_pair_of, json_schema_input_type=Sigma | tuple[Sigma, Sigma]),
    AfterValidator(_in_order),
]
PeriodRange = Annotated[
    tuple[Period, Period],
    BeforeValidator(_pair_of, json_schema_input_type=Period | tuple[Period, Period]),
    AfterValidator(_in_order),
]
LightRange = Annotated[
    tuple[Light, Light],
    BeforeValidator(_pair_of, json_schema_input_type=Light | tuple[Light, Light]),
    AfterValidator(_in_order),
]
RatioRange = Annotated[
    tuple[Ratio, Ratio],
    BeforeValidator(_pair_of, json_schema_input_type=Ratio | tuple[Ratio, Ratio]),
    AfterValidator(_in_order),
]
LengthRange = Annotated[
    tuple[Length, Length],
    BeforeValidator(_pair_of, json_schema_input_type=Length | tuple[Length, Length]),
    AfterValidator(_in_order),
]


class Section(BaseModel):
    """A closed section; a key with nothing after it is as good as left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_keys(cls, section: Any) -> Any:
        if isinstance(section, dict):
            return {key: value for key, value in section.items() if value is not None}
        return section
