"""How far an evaluation has come."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

OnTotal = Callable[[int], Callable[[], None]]


@contextmanager
def progress(name: str) -> Generator[OnTotal]:
    """Show a bar on stderr, where a person is looking, once the number of steps is told."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:

        def begin(total: int) -> Callable[[], None]:
            task = bar.add_task(name, total=total)
            return lambda: bar.advance(task)

        yield begin


def no_progress(_total: int) -> Callable[[], None]:
    """Take the place of :func:`progress` where nobody is looking."""
    return lambda: None
