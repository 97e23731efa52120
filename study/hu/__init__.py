"""Huang et al. 2022, section 3: seven producers and seven consumers who learn their prices."""
