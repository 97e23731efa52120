"""The peer book: addresses of peers this node has been connected to, kept across restarts."""

import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec

from node.network._addresses import ADDRESSES_PER_PEER_MAX, check_peer
from node.network._limits import LOG, one_line
from node.network.base import NetworkError

BOOK_PEERS_MAX: Final = 256
BOOK_BYTES_MAX: Final = 1_048_576


class _Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    peers: list[list[str]]


class PeerBook:
    """Peer id to addresses, the last used first, the longest unused peer forgotten first."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._peers: OrderedDict[str, list[str]] = OrderedDict()
        self.changed = False

    def load(self) -> None:
        """Read the file, if there is one. A bad one is left as it is, and an empty book used."""
        if self._path is None:
            return
        try:
            if self._path.stat().st_size > BOOK_BYTES_MAX:
                raise ValueError(f"longer than {BOOK_BYTES_MAX} bytes")
            page = msgspec.json.decode(self._path.read_bytes(), type=_Page)
            if page.version != 1:
                raise ValueError(f"of version {page.version}, this is 1")
            for addresses in page.peers[-BOOK_PEERS_MAX:]:
                for address in addresses[:ADDRESSES_PER_PEER_MAX][::-1]:
                    self.add(address)
        except FileNotFoundError:
            return
        except (OSError, ValueError, NetworkError) as error:
            self._peers.clear()
            LOG.warning(
                "the peer book %s is unusable (%s); starting with an empty one",
                self._path,
                one_line(str(error)),
            )
        self.changed = False

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.changed = False
        if self._path is None:
            return
        data = msgspec.json.encode(_Page(1, list(self._peers.values())))
        temporary = ""
        try:
            with tempfile.NamedTemporaryFile(
                dir=self._path.parent, prefix=self._path.name, delete=False
            ) as file:
                temporary = file.name
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            LOG.warning("the peer book %s could not be written: %s", self._path, error)
            if temporary:
                Path(temporary).unlink(missing_ok=True)

    def add(self, address: str) -> str:
        """Put an address first among its peer's; return the peer id. Raises `NetworkError`."""
        peer_id = check_peer(address)
        addresses = self._peers.setdefault(peer_id, [])
        if addresses[:1] != [address]:
            if address in addresses:
                addresses.remove(address)
            addresses.insert(0, address)
            del addresses[ADDRESSES_PER_PEER_MAX:]
            self.changed = True
        self._peers.move_to_end(peer_id)
        while len(self._peers) > BOOK_PEERS_MAX:
            self._peers.popitem(last=False)
        return peer_id

    def addresses(self, peer_id: str) -> list[str]:
        """Return a peer's addresses, the best first."""
        return list(self._peers.get(peer_id, ()))

    def peer_ids(self) -> list[str]:
        """Return all peers known."""
        return list(self._peers)

    def forget(self, peer_id: str) -> None:
        """Remove a peer."""
        if self._peers.pop(peer_id, None) is not None:
            self.changed = True
