"""Regions try what their contracts pass over, as the tests of the contracts do."""

from tests.market.conftest import an_idle_hook_has_no_work

__all__ = ["an_idle_hook_has_no_work"]
