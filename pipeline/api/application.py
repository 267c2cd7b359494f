"""The API as an application: its operations, behind its guard."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from typing_extensions import override

from pipeline.api.answers import add_handlers
from pipeline.api.backend import Backend
from pipeline.api.feed import EventFeed
from pipeline.api.pictures import PictureDesk
from pipeline.api.routes import commands, events, frames, objects, settings, streams
from pipeline.api.routes.commands import command_schemas

_ABOUT = (
    "Look at a running maskstream, and change it. Every request needs `Authorization: Bearer "
    "TOKEN`. Viewers look; operators change what is looked for; admins change streams too."
)


class _Application(FastAPI):
    """Describes commands as the pipeline does."""

    @override
    def openapi(self) -> dict[str, Any]:
        is_new = self.openapi_schema is None
        document = super().openapi()
        if is_new:
            document["components"]["schemas"] |= command_schemas()
        return document


def build_application(backend: Backend, pictures: PictureDesk) -> FastAPI:
    """Return the operations, unguarded.

    Args:
        backend: What is answered from.
        pictures: Draws frames.
    """
    application = _Application(
        title="maskstream",
        description=_ABOUT,
        version=version("maskstream"),
        openapi_url="/v1/openapi.json",
        docs_url=None,  # pages that would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    application.state.backend = backend
    application.state.pictures = pictures
    application.state.feed = EventFeed(backend.live)
    for room in (streams, frames, objects, settings, events, commands):
        application.include_router(room.router)
    add_handlers(application)
    return application
