"""A promise, and the change that breaks it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One promise, and the change that breaks it.

    Attributes:
        promise: What users rely on.
        path: Module that keeps it, from the root.
        before: Text that stands there exactly once.
        after: Text that breaks the promise.
        tests: Files that must notice.
    """

    promise: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def break_in(self, tree: Path) -> tuple[str, str]:
        """Return the module's text in ``tree`` as it is, and broken.

        Raises:
            ValueError: If the text to be changed is not there exactly once.
        """
        original = (tree / self.path).read_text(encoding="utf-8")
        if original.count(self.before) != 1:
            raise ValueError(
                f"{self.path}: {original.count(self.before)} times {self.before!r} (accepted: 1; "
                f"mend the row {self.promise!r})"
            )
        return original, original.replace(self.before, self.after)
