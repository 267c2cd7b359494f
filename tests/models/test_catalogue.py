"""The catalogue's rows, by which sizes are told apart."""

import subprocess
import sys

import pytest

from models.catalogue import MODELS, Family, find_size, sam3_network, sizes_of


@pytest.mark.parametrize("family", Family)
def test_backbones_tell_the_sizes_of_a_family_apart(family):
    sizes = sizes_of(family)
    assert len({size.backbone for size in sizes}) == len(sizes) > 1


def test_abilities_follow_from_the_family():
    able = {size.name for size in MODELS.values() if size.knows_concepts}
    assert able == {"sam3", "sam3-nano"}
    assert not find_size("sam1-b").follows_objects
    assert all(size.follows_objects for size in sizes_of(Family.SAM2))


def test_network_of_another_family_is_refused_with_the_sizes_of_sam3():
    with pytest.raises(ValueError, match=r"'sam1-b' is not of SAM 3; known: sam3-nano, sam3$"):
        sam3_network("sam1-b")


def test_catalogue_imports_neither_torch_nor_scipy():
    script = "import sys, models.catalogue; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
