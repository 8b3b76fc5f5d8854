"""Makes a torrent of one file and prints its info hash in hexadecimal.

usage: make_torrent.py FILE TORRENT ANNOUNCE_URL PIECE_BYTES PRIVATE

PRIVATE is 1 for a private torrent (BEP 27), whose peers may come from the tracker alone, and
else 0.
"""

import hashlib
import os
import sys


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    pairs = sorted((key.encode(), item) for key, item in value.items())
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"


def main(path, torrent, announce, piece_bytes, private):
    with open(path, "rb") as file:
        content = file.read()
    starts = range(0, len(content), piece_bytes)
    pieces = [hashlib.sha1(content[at : at + piece_bytes]).digest() for at in starts]
    info = {
        "length": len(content),
        "name": os.path.basename(path).encode(),
        "piece length": piece_bytes,
        "pieces": b"".join(pieces),
        "private": private,
    }
    with open(torrent, "wb") as file:
        file.write(bencode({"announce": announce.encode(), "info": info}))
    print(hashlib.sha1(bencode(info)).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
