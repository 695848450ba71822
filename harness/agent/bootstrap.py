"""The archive's `__main__`: unpack once beside the archive, then start the agent from the folder.

Modules inside a zip are compiled anew by every process (zipimport writes no .pyc). On a slow board that is
seconds for each fresh measured process, so the archive unpacks itself to `<archive>.d/` and runs from there.
"""

import sys

OLDEST = (3, 9)


def unpack(archive: str) -> str:
    """Return the folder with the archive's content, or the archive itself where that can't be written."""
    import os
    import shutil
    import zipfile

    target = archive + ".d"
    if os.path.isdir(target):
        return target
    staging = "%s.%d.tmp" % (target, os.getpid())
    try:
        with zipfile.ZipFile(archive) as members:
            members.extractall(staging)
        os.sync()  # whole on disk before it gets its name: a power cut leaves no half agent
        os.rename(staging, target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not os.path.isdir(target):  # not just another agent that was faster
            sys.stderr.write("agent: runs from the archive, can't unpack it: %s\n" % error)
            return archive
    return target


def start() -> None:
    """Run the agent and exit with its code."""
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "agent: needs Python %d.%d or newer, this is %s\n" % (OLDEST + (sys.version.split()[0],))
        )
        sys.exit(4)
    import os

    here = os.path.dirname(os.path.abspath(__file__))  # the archive, or the unpacked folder
    folder = unpack(here) if os.path.isfile(here) else here
    sys.path[0] = folder
    from hil_agent.__main__ import main  # type: ignore[import-not-found,unused-ignore]

    sys.exit(main(sys.argv[1:], folder))


if __name__ == "__main__":
    start()
