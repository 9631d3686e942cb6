"""The ranges that settings share."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
TopP = Annotated[float, Gt(0), Le(1)]
Name = Annotated[str, MinLen(1)]
