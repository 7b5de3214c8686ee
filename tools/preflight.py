"""Checks before and after the installation, each failing with one clear line. Runs on any Python 3 without packages.

Usage: python tools/preflight.py before|after
"""

import shutil
import sys
import tempfile

VENV_GB = 8.0  # 5.3 GB installed, the rest while unpacking
DOWNLOAD_GB = 3.0


def check_python(version):
    """One line when this Python does not fit, else None."""
    found = "%d.%d" % tuple(version[:2])
    if not (3, 11) <= tuple(version[:2]) <= (3, 12):
        advice = "Install one, or name it: make PYTHON=/path/to/python3.12"
        return "Python 3.11 or 3.12 is needed. Got %s (%s). %s" % (found, sys.executable, advice)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python %s has no venv module. On Debian or Ubuntu: sudo apt-get install python%s-venv" % (found, found)
    return None


def check_disk(folder, needed_gb):
    """One line when ``folder`` has too little room, else None."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < needed_gb:
        return "At least %.0f GB of free disk are needed in %s. Got %.1f GB." % (needed_gb, folder, free_gb)
    return None


def check_opencv():
    """One line when OpenCV does not import, else None."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        if "lib" in str(error) and ".so" in str(error):
            advice = "On Debian or Ubuntu: sudo apt-get install libgl1 libglib2.0-0"
            return "OpenCV misses a system library (%s). %s" % (error, advice)
        return "OpenCV does not import (%s). Remove .venv and install again: make install" % error
    return None


def main(stage):
    """Returns the exit status: 0 when every check of the stage passes."""
    if stage == "before":
        checks = [
            lambda: check_python(sys.version_info),
            lambda: check_disk(".", VENV_GB),
            lambda: check_disk(tempfile.gettempdir(), DOWNLOAD_GB),
        ]
    else:
        checks = [check_opencv]
    for check in checks:
        problem = check()
        if problem:
            sys.stderr.write("preflight: " + problem + "\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "before"))
