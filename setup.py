"""Reproducible archives: the wheel and the sdist of equal sources are equal to the last byte.

What the package consists of stands in setup.cfg.
"""

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.sdist import sdist

# The time of all files in the archives, if the caller gives none. Zip files know no time before 1980.
EPOCH = int(os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800"))
os.umask(0o022)


class PlainWheel(bdist_wheel):
    """Puts files into the wheel without the permissions that they have in the checkout."""

    def write_wheelfile(self, *args, **kwargs):
        for path in Path(self.bdist_dir).rglob("*"):  # complete, and not packed yet
            path.chmod(0o755 if path.is_dir() else 0o644)
        super().write_wheelfile(*args, **kwargs)


class PlainArchive(sdist):
    """Writes the archive in the order of the names, without times, owners and permissions."""

    def make_archive(self, base_name, *args, base_dir=None, **kwargs):
        path = f"{base_name}.tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=_plain)
        return path


def _plain(info):
    info.mtime, info.uid, info.gid, info.uname, info.gname = EPOCH, 0, 0, "", ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


setup(cmdclass={"bdist_wheel": PlainWheel, "sdist": PlainArchive})
