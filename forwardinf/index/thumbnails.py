"""Pictures to show: at most 128 px, without metadata, and a file for the pictures of each shard.

thumbnails/00000.safetensors    bytes: WebP files one after another, [total]; ends: where each of them ends, [n];
                                digests: the SHA-256 of each, [n 32]

With a file for each picture, verifying an index of 100,000 took a minute. Indexes of before have one,
`thumbnails/000000.webp`, and are read as well. Either way an image's thumbnail goes by that name in the catalog, and
its SHA-256 into the index's fingerprint under it, so that packing changes no fingerprint.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DamagedAsset, MissingAsset
from ..files.atomic import writing
from ..files.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from ..examples.catalog import Catalog

THUMBNAIL = 128  # pixels
Content = TypeVar("Content")


def name_of(number: int) -> str:
    """What the catalog calls the thumbnail of the image with this number."""
    return f"thumbnails/{number:06}.webp"


def pack_name(shard: int) -> str:
    return f"thumbnails/{shard:05}.safetensors"


def thumbnail_of(picture: Image) -> bytes:
    """A WebP file without metadata."""
    small, content = picture.copy(), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(content, "WEBP", lossless=True, method=4, exif=b"", xmp=b"", icc_profile=b"")
    return content.getvalue()


def write_pack(folder: Path, shard: int, thumbnails: Sequence[bytes]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    digests = b"".join(hashlib.sha256(thumbnail).digest() for thumbnail in thumbnails)
    tensors: dict[str, Any] = {
        "bytes": np.frombuffer(b"".join(thumbnails), np.uint8),
        "ends": np.cumsum([len(thumbnail) for thumbnail in thumbnails], dtype=np.int64),
        "digests": np.frombuffer(digests, np.uint8).reshape(-1, 32),
    }
    with writing(folder / pack_name(shard)) as aside:
        save_file(tensors, aside)


@dataclass(frozen=True)
class Thumbnails:
    """The thumbnails of an index, packed or in files of their own."""

    manifest: Manifest
    rows: Sequence[slice]  # which images each shard holds

    @property
    def is_packed(self) -> bool:
        return pack_name(0) in self.manifest.files

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each thumbnail, by the name that the catalog has for it.

        Raises MissingAsset or DamagedAsset where a pack cannot be read.
        """
        if not self.is_packed:
            return {name: digest for name, digest in self.manifest.files.items() if name.startswith("thumbnails/")}
        found: dict[str, str] = {}
        for rows, (_, digests) in zip(self.rows, self._tables, strict=True):
            for number, digest in enumerate(digests, rows.start):
                found[name_of(number)] = digest.tobytes().hex()
        return found

    @property
    def unpacked(self) -> Manifest:
        """The manifest as it would be without packs: all that a fingerprint is taken of."""
        if not self.is_packed:
            return self.manifest
        packs = frozenset(map(pack_name, range(len(self.rows))))
        files = {name: digest for name, digest in self.manifest.files.items() if name not in packs}
        return Manifest(self.manifest.folder, dict(sorted({**files, **self.digests}.items())), self.manifest.remedy)

    def read(self, name: str) -> bytes:
        """The file of a thumbnail; raises MissingAsset or DamagedAsset where it is not as recorded."""
        if not self.is_packed:
            return self.manifest.read_bytes(name)
        number = self._number_of(name)
        shard = bisect_right(self.rows, number, key=lambda rows: rows.start) - 1
        row = number - self.rows[shard].start
        ends, digests = self._tables[shard]
        start = int(ends[row - 1]) if row else 0
        content = self._opened(shard, lambda file: file.get_slice("bytes")[start : int(ends[row])].tobytes())
        if hashlib.sha256(content).digest() != digests[row].tobytes():
            raise self._damaged(shard)
        return content

    def shown_by(self, catalog: Catalog) -> Catalog:
        """The index's catalog with these for its pictures."""
        images = tuple(replace(image, sha256=self.digests[image.file_name]) for image in catalog.images)
        return replace(catalog, images=images, read=self.read)

    def _number_of(self, name: str) -> int:
        if name not in self.digests:
            raise MissingAsset(f"“{self.manifest.folder.name}” has no {name}.")
        return int(Path(name).stem)

    @cached_property
    def _tables(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the thumbnails of each pack end, and their digests."""
        return [
            self._opened(shard, lambda file: (file.get_tensor("ends"), file.get_tensor("digests")))
            for shard in range(len(self.rows))
        ]

    def _opened(self, shard: int, read: Callable[[Any], Content]) -> Content:
        from safetensors import SafetensorError, safe_open

        path = self.manifest.folder / pack_name(shard)
        try:
            with safe_open(path, framework="np") as file:
                return read(file)
        except FileNotFoundError as error:
            raise MissingAsset(f"{self._named(shard)} is missing. {self.manifest.remedy}") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(shard) from error

    def _damaged(self, shard: int) -> DamagedAsset:
        return DamagedAsset(f"{self._named(shard)} differs from what its manifest records. {self.manifest.remedy}")

    def _named(self, shard: int) -> str:
        return f"“{self.manifest.folder.name}/{pack_name(shard)}”"
