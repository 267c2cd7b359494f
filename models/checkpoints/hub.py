"""Fetches published weights from the Hugging Face Hub, with the user's own token."""

import errno
from dataclasses import dataclass
from pathlib import Path

from models.catalogue import ModelSize, models_folder

# Weights in one format only, and what belongs beside them.
PATTERNS = ("*.json", "merges.txt", "model*.safetensors")
_FORBIDDEN = 403
_REFUSALS = (401, _FORBIDDEN)
_SITE = "https://huggingface.co"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST)
# The Hub's client lets the errors of its own HTTP library through, which changes with its version.
_TRANSPORTS = ("httpx", "httpx2", "requests", "urllib3")


class PullError(ValueError):
    """Weights that cannot be fetched; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What was fetched.

    Attributes:
        folder: Where it lies.
        revision: The commit of the repository that it is.
    """

    folder: Path
    revision: str


def pull(
    size: ModelSize,
    *,
    out: Path | None = None,
    revision: str | None = None,
    shows_progress: bool = True,
) -> Pulled:
    """Fetch a model's weights. What was fetched before is not fetched again.

    The token is that of ``HF_TOKEN`` or of the Hub's own login. A download that was cut off goes on
    where it was.

    Args:
        size: The model.
        out: Folder for the files; that of fetched models when left out.
        revision: Branch, tag or commit; the newest when left out.
        shows_progress: Whether to draw bars on stderr.

    Raises:
        PullError: If it ships with the package, access is refused, the Hub cannot be reached, or
            the files cannot be written.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if size.hub_id is None:
        raise PullError(f"{size.name} ships with the package; nothing is to be fetched")
    if not shows_progress:
        disable_progress_bars()
    folder = models_folder() / size.name if out is None else out
    try:
        commit = HfApi().model_info(size.hub_id, revision=revision).sha or revision
        snapshot_download(
            size.hub_id, revision=commit, local_dir=folder, allow_patterns=list(PATTERNS)
        )
    except Exception as error:
        told = _explain(error, size, folder, revision)
        if told is None:
            raise
        raise PullError(told) from error
    return Pulled(folder=folder, revision=str(commit))


def _explain(error: Exception, size: ModelSize, folder: Path, revision: str | None) -> str | None:
    """Say what went wrong and what to do; ``None`` for what is no failure of the download."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return f"{size.hub_id} has no revision {revision!r}; expected a branch, tag or commit"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        is_refused = isinstance(error, RepositoryNotFoundError) or status in _REFUSALS
        if is_refused:
            return _how_to_get_access(size, status)
        return f"the Hub answered {status} for {size.hub_id}; try again later"
    is_of_disk = isinstance(error, OSError) and error.errno in _DISK_ERRORS
    if is_of_disk and not isinstance(error, LocalEntryNotFoundError):
        return f"cannot write to {str(folder)!r}: {error}"
    if isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError):
        return _unreachable(size, error)
    library = type(error).__module__.split(".")[0]
    return _unreachable(size, error) if library in _TRANSPORTS else None


def _unreachable(size: ModelSize, error: Exception) -> str:
    return (
        f"cannot reach the Hub for {size.hub_id}: {str(error).splitlines()[0]}; expected a way to "
        f"it, or fetch the files of {_SITE}/{size.hub_id} elsewhere, copy them here and give "
        "their folder as the checkpoint"
    )


def _how_to_get_access(size: ModelSize, status: int) -> str:
    """Say step by step how to be let in."""
    from huggingface_hub import get_token

    page = f"{_SITE}/{size.hub_id}"
    if get_token() is None:
        told = "no token was sent"
    elif status == _FORBIDDEN:
        told = "the token's account has not been granted access, or the token may not read it"
    else:
        told = "the token is not accepted, or its account has not been granted access"
    if not size.is_gated:
        return f"the Hub refuses {size.hub_id} ({status}): {told}; see {page}"
    return "\n".join(
        [
            f"the Hub refuses {size.hub_id} ({status}): {told}.",
            f"These weights are given to accounts that ask for them, under the {size.licence}:",
            f"  1. Log in at {_SITE} and open {page}.",
            "  2. Fill in the form on that page, agree to the licence and send it; an e-mail tells",
            "     when access is granted.",
            f"  3. Make a token at {_SITE}/settings/tokens: kind 'Read', or a fine-grained one",
            "     that may read public gated repositories.",
            "  4. Put it into HF_TOKEN, or run 'hf auth login'.",
            f"  5. Run 'maskstream models pull {size.name}' again.",
        ]
    )
