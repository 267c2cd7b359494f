"""The section ``observe``."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.fields import StrictModel


class ObserveConfig(StrictModel):
    """The port with /metrics, /livez, /healthz and /readyz."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """None: no port is opened. 0: any free port, shown in the log."""
    log_format: Literal["text", "json"] = "text"
    stall_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """/livez and /healthz fail when the engine has not turned for this long."""
