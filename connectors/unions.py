"""The configuration of any source and of any sink: unions by ``type`` of the registry's rows.

Built when this module is imported; rows added to the tables before are members.
"""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from connectors.config import BaseSinkConfig, BaseSourceConfig
from connectors.registry import SINKS, SOURCES

if TYPE_CHECKING:
    # What every member has; the members are known at run time only.
    SourceConfig = BaseSourceConfig
    SinkConfig = BaseSinkConfig
else:
    _BY_TYPE = Field(discriminator="type")
    SourceConfig = Annotated[Union[tuple(row.config for row in SOURCES)], _BY_TYPE]  # noqa: UP007
    SinkConfig = Annotated[Union[tuple(row.config for row in SINKS)], _BY_TYPE]  # noqa: UP007
