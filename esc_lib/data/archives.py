"""Archives of other people, unpacked whole or not at all."""

import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

# The official archive holds 2,000 clips of 441 kB in about 600 MB. Silence packs well, hence 100.
MOST_MEMBERS, LARGEST_GB, LARGEST_RATIO = 20_000, 5, 100
ENCRYPTED = 1  # of a member's flags
# what zipfile, and what unpacks for it, raise of an archive that is not as it was packed
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    UnicodeDecodeError,
)  # fmt: skip


def unpack(archive: Path, parent: Path, root: str) -> Path:
    """Unpack the folder `root` of a zip archive into `parent`, all of it or nothing.

    Raises
    ------
    ValueError : it is no zip archive, is damaged, or holds what :func:`_check` refuses.
    OSError : the folder cannot be written, for example on a full disk.
    """
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"unpack: {archive} is not a zip archive; delete it and run again.")
    try:
        with zipfile.ZipFile(archive) as members:
            _check(members, root)
            with tempfile.TemporaryDirectory(dir=parent) as scratch:
                members.extractall(scratch)
                os.replace(Path(scratch) / root, parent / root)
    except DAMAGE as error:
        raise ValueError(
            f"unpack: {archive} is damaged ({error}); delete it and run again."
        ) from None
    except OSError as error:
        raise OSError(
            f"unpack: {archive} could not be unpacked into {parent} "
            f"({error.strerror or error}); make room or choose another place, and run again."
        ) from error
    return parent / root


def _check(members: zipfile.ZipFile, root: str) -> None:
    """Refuse an archive, before anything is written, that is not only the folder `root`.

    Raises
    ------
    ValueError : a path leaves the folder, a member is a link or encrypted, or there is more in it
        than a set of clips, as where an archive was made to fill disks.
    """

    def refuse(what: str):
        raise ValueError(f"unpack: {members.filename} {what}; delete it and run again.")

    found = members.infolist()
    for member in found:
        name = member.filename
        parts = PurePosixPath(name).parts
        if ".." in parts or parts[:1] != (root,) or "\\" in name:
            refuse(f"holds {name!r}, a path outside {root}/")
        if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & ENCRYPTED:
            refuse(f"holds {name!r}, a link or encrypted")
    if not any(member.filename.startswith(f"{root}/") for member in found):
        refuse(f"holds no {root}/")
    size, packed = sum(m.file_size for m in found), os.path.getsize(members.filename)
    if len(found) > MOST_MEMBERS or size > LARGEST_GB * 1e9 or size > LARGEST_RATIO * packed:
        refuse(
            f"would unpack to {len(found)} files of {size / 1e9:.3g} GB, {size / packed:.0f} times "
            f"its size; at most {MOST_MEMBERS}, {LARGEST_GB} GB and {LARGEST_RATIO} times are taken"
        )
