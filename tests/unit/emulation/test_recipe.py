import dataclasses

from harness.emulation import recipe
from harness.model import QemuBoard


def test_the_hash_follows_everything_that_decides_the_image():
    one = recipe.read_recipe(QemuBoard())
    assert one.hash == recipe.read_recipe(QemuBoard()).hash
    assert len(one.hash) == 16
    changed = {
        "format": one.format + 1,
        "suite": "other",
        "packages": (*one.packages, "extra"),
        "modules": one.modules[1:],
        "guest_files": (("setup", "0" * 64),),
        "disk_bytes": one.disk_bytes + (1 << 20),
    }
    hashes = {dataclasses.replace(one, **{key: value}).hash for key, value in changed.items()}
    assert len(hashes) == len(changed)
    assert one.hash not in hashes


def test_boards_that_differ_in_cores_memory_or_cpu_share_an_image():
    other = QemuBoard(smp=4, memory_bytes=1 << 30, cpu="cortex-a53")
    assert recipe.read_recipe(other).hash == recipe.read_recipe(QemuBoard()).hash


def test_guest_files_are_all_in_the_recipe_and_in_the_package():
    named = {name for name, _ in recipe.read_recipe(QemuBoard()).guest_files}
    assert named == set(recipe.GUEST_FILES)
    for name in named:
        assert recipe.read_guest_file(name).strip()
