"""The API as an application: its operations, behind its guard."""

from importlib.metadata import version

from fastapi import FastAPI

from pipeline.api.answers import add_handlers
from pipeline.api.backend import Backend
from pipeline.api.feed import EventFeed
from pipeline.api.pictures import PictureDesk
from pipeline.api.routes import events, frames, settings, streams

_ABOUT = (
    "Look at a running maskstream. Every request needs `Authorization: Bearer TOKEN`. "
    "Viewers look; operators read the configuration too."
)


def build_application(backend: Backend, pictures: PictureDesk) -> FastAPI:
    """Return the operations, unguarded.

    Args:
        backend: What is answered from.
        pictures: Draws frames.
    """
    application = FastAPI(
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
    for room in (streams, frames, settings, events):
        application.include_router(room.router)
    add_handlers(application)
    return application
