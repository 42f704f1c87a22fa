"""What a model may be called, in one place.

In: nothing. Out: the type of a registered name. Invariant: such a name is safe in a URI, a path and a search, and MLflow takes
it for a logged model too (which may hold no dot).
"""

from typing import Annotated

from pydantic import Field

ModelName = Annotated[str, Field(description="Name of the model in the registry.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
