"""A method's settings: one declared model, from which flags, form fields, documentation and checks are derived.

Here are the base class and the settings that several methods share, each with its bounds and a help text. A method
declares `name: Type = default` for what it takes, and types of its own in its own file.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InvalidRequest

Steps = Annotated[int, Field(ge=1, le=100, description="gradient steps on the query")]
Direction = Annotated[Literal["ascent", "descent"], Field(description="whether the steps raise or lower the loss")]
Curvature = Annotated[
    Literal["fisher", "kronecker", "none"],
    Field(description="what the gradient is preconditioned by: the diagonal Fisher, an eigenbasis, or nothing"),
]
LossBudget = Annotated[
    float,
    Field(ge=1e-4, lt=100, description="relative change of the query's loss that the steps add up to"),
]
SizeBudget = Annotated[
    float,
    Field(ge=1e-4, lt=1, description="relative change of the prediction's mean square for the query"),
]
SizeDraws = Annotated[
    int, Field(ge=0, description="draws, the noisiest, at which the size of the prediction is measured, not its error")
]
QueryDraws = Annotated[int, Field(ge=1, description="draws at which the query's gradient is taken")]
Damping = Annotated[float, Field(gt=0, description="share of the mean curvature added before dividing by it")]
Score = Annotated[
    Literal["difference", "absolute", "skew", "root"],
    Field(
        description="how a change of loss is measured before it is scored: the difference of the two losses, its "
        "magnitude, its share of their sum, or the difference of their square roots"
    ),
]
Standardised = Annotated[
    bool, Field(description="changes of a draw about their mean, in standard deviations over images")
]
OneSided = Annotated[bool, Field(description="count a negative change as none; if standardised, one below the average")]
Likeness = Annotated[bool, Field(description="weight changes of loss, not of size, by likeness to the query")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="seed of everything that the method draws at random")]


class MethodSettings(BaseModel):
    """Base of every method: its fields are its settings. Raises InvalidRequest for a value that cannot be used."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    # Settings that decide nothing while another has some value: {"seed": ("own_draws", 0)}.
    idle_while: ClassVar[dict[str, tuple[str, Any]]] = {}

    # What an index has for it that is built for this method.
    index_draws: ClassVar[int] = 4
    antithetic: ClassVar[bool] = False  # whether these draws are pairs of a noise and its negative
    against_null: ClassVar[bool] = False  # whether its scores are held against a null distribution by default

    def __init__(self, **given: object) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InvalidRequest(_in_words(self.method_name(), error)) from error

    @classmethod
    def method_name(cls) -> str:
        """The name of the method, which is that of its file."""
        return cls.__module__.rpartition(".")[2]

    def changed(self, **settings: object) -> Self:
        """The same with other values for some settings; raises InvalidRequest as for a new one."""
        return type(self)(**{**dict(self), **settings})

    @classmethod
    def choices(cls, setting: str) -> list[str]:
        """The words that a setting may be."""
        return list(get_args(cls.model_fields[setting].annotation))

    def effective(self) -> dict[str, Any]:
        """The settings that differ from their defaults and decide a score, by which answers are compared.

        A setting added later at its default, or one that is idle, makes no difference between two answers.
        """
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        chosen = {name: value for name, value in self if value != defaults[name]}
        return {name: value for name, value in chosen.items() if not self._is_idle(name)}

    def _is_idle(self, name: str) -> bool:
        other, value = self.idle_while.get(name, (name, object()))
        return getattr(self, other) == value


def _in_words(method: str, error: ValidationError) -> str:
    """What is wrong with the first setting that cannot be used, and what it may be."""
    first = error.errors()[0]
    name, context = ".".join(map(str, first["loc"])), first.get("ctx", {})
    if first["type"] == "value_error":
        return str(context["error"])
    bounds = {
        "greater_than_equal": "at least {ge:g}",
        "greater_than": "above {gt:g}",
        "less_than_equal": "at most {le:g}",
        "less_than": "below {lt:g}",
        "literal_error": "one of {expected}",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "a text",
    }
    allowed = bounds.get(first["type"], first["msg"]).format(**context)
    return f"The setting “{name}” of {method} is {json.dumps(first['input'], default=str)}; it must be {allowed}."


def help_of(setting: Any) -> str:  # noqa: ANN401  # an Annotated type
    """The help text of a declared setting, such as `Steps`."""
    return str(get_args(setting)[1].description)
