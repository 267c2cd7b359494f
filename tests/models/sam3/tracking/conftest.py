"""What the tests of the tracker share."""

import pytest

from models.build import build_sam3


@pytest.fixture(scope="package")
def nano():
    """The small model and its vocabulary."""
    return build_sam3("sam3-nano", checkpoint=None, device="cpu")
