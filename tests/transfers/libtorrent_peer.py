"""A peer of one torrent on libtorrent, which only a tracker can introduce to others.

usage: libtorrent_peer.py TORRENT DIRECTORY LISTEN

It seeds or leeches, as the files in DIRECTORY have it, until it is killed. TORRENT is a file or a
magnet link, LISTEN libtorrent's `listen_interfaces`.
"""

import sys
import time

import libtorrent

SETTINGS = {
    # Whatever else finds or reaches peers.
    "enable_dht": False,
    "enable_lsd": False,
    "enable_natpmp": False,
    "enable_upnp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "alert_mask": libtorrent.alert.category_t.all_categories,
}


def main(torrent, directory, listen):
    session = libtorrent.session({**SETTINGS, "listen_interfaces": listen})
    if torrent.startswith("magnet:"):
        parameters = libtorrent.parse_magnet_uri(torrent)
    else:
        parameters = libtorrent.add_torrent_params()
        parameters.ti = libtorrent.torrent_info(torrent)
    parameters.save_path = directory
    flags = libtorrent.torrent_flags
    parameters.flags |= flags.disable_dht | flags.disable_lsd | flags.disable_pex
    # Automatic management would queue the torrent and start it when it sees fit.
    parameters.flags &= ~(flags.auto_managed | flags.paused)
    session.add_torrent(parameters)
    while True:
        # Not by wait_for_alert, which looks at an alert that the session may be moving: now and
        # then it crashes.
        time.sleep(0.1)
        for alert in session.pop_alerts():
            if "tracker" in alert.what() or "error" in alert.what():
                print(alert.message(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
