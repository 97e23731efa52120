"""A home's process does not hold what libp2p imports and no home calls."""

import subprocess
import sys

from node.network._spared import SPARED

LOADED = """
import sys
import node.daemon
import libp2p
held = [name for name in sys.modules if name.partition(".")[0] in {names!r}]
assert not held, held
from libp2p.discovery.mdns import mdns
try:
    mdns.Zeroconf()
except ImportError as error:
    print(error)
import httpx
print(httpx.Client.__module__)
"""
BEFORE = """
import httpx
import node.daemon
import libp2p.security.tls.autotls.acme as acme
print(acme.httpx is httpx)
"""


def _said(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_daemon_holds_none_of_them_and_they_can_be_imported_afterwards() -> None:
    said, module = _said(LOADED.format(names=SPARED)).splitlines()
    assert said.startswith("zeroconf.Zeroconf is not loaded in a home")
    assert module == "httpx"


def test_what_was_imported_before_stays_what_it_is() -> None:
    assert _said(BEFORE).strip() == "True"
