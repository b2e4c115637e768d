"""Where a video's bytes lie: in a file of its own, or in a tar shard."""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from typing import IO

from tubeletx_train.data.errors import VideoError

_MEMBER = re.compile(r"(?P<shard>.+\.tar)#(?P<offset>\d{1,18}):(?P<size>\d{1,18}):(?P<name>[^/]+)", re.DOTALL)


@dataclass(frozen=True)
class ShardMember:
    """A file within a tar shard, found without reading the shard's headers.

    Written as a path it is `SHARD.tar#OFFSET:SIZE:NAME`.

    Attributes:
        shard: The tar file.
        offset: Its first byte in there.
        size: Its bytes.
        name: Its name, whose extension tells how to read it.
    """

    shard: str
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.shard}#{self.offset}:{self.size}:{self.name}"

    @classmethod
    def parse(cls, path: str) -> ShardMember | None:
        """The member that a path means, None for the path of a file."""
        match = _MEMBER.fullmatch(path)
        if match is None:
            return None
        return cls(match["shard"], int(match["offset"]), int(match["size"]), match["name"])


def storage_path(path: str) -> str:
    """The file that holds a video: the shard, for a member of one."""
    member = ShardMember.parse(path)
    return path if member is None else member.shard


def _open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for a writer, as a named pipe would have it."""
    return os.open(path, flags | os.O_NONBLOCK)


@dataclass(frozen=True)
class Media:
    """The bytes of a video.

    Attributes:
        path: As it was asked for, for messages.
        content: The bytes of a shard's member, None where `path` is a file.
    """

    path: str
    content: bytes | None = None

    @classmethod
    def load(cls, path: str) -> Media:
        """Make sure that a file is there, or read a member from its shard. Raises VideoError."""
        member = ShardMember.parse(path)
        try:
            if member is None:
                with open(path, "rb", opener=_open_at_once) as file:  # tells whether it may be read
                    status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise VideoError(path, "is no file")
                size, content = status.st_size, None
            else:
                with open(member.shard, "rb") as file:
                    file.seek(member.offset)
                    content = file.read(min(member.size, os.path.getsize(member.shard)))
                size = len(content)
                if size < member.size:
                    raise VideoError(path, "the shard is cut off")
        except FileNotFoundError:
            if os.path.islink(storage_path(path)):
                reason = f"is a link to {os.readlink(storage_path(path))}, which does not exist"
                raise VideoError(path, reason) from None
            windows = " (a backslash is part of a name here; folders are separated by /)" if "\\" in path else ""
            raise VideoError(path, f"no such file{windows}") from None
        except OSError as error:
            raise VideoError(path, f"cannot be read ({error.strerror})") from None
        except ValueError:
            raise VideoError(path, "no such file (a name cannot hold a NUL)") from None
        if size == 0:
            raise VideoError(path, "the file is empty")
        return cls(path, content)

    def source(self) -> str | IO[bytes]:
        """What decoders open: the path, or the bytes as a file."""
        return self.path if self.content is None else io.BytesIO(self.content)
